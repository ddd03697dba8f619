"""What fitted models make up: new cells, spreads, exact zeros, expression written to disk."""

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from scarce import BetaVAE, BetaVSC, DeepAutoencoder, LinearVSC, preprocess
from scarce.cli import main
from scarce.data import simulate
from scarce.denoise import denoise, read_model
from scarce.errors import InputError
from scarce.estimators import Estimator, Units, load_model
from scarce.generate import draw_codes
from scarce.models.parts import Network
from scarce.train import TrainConfig

OPTIONS = {
    "n_latent": 3,
    "network": Network(n_hidden=(16, 8)),
    "training": TrainConfig(epochs=3, batch_size=32),
}
GATED = [BetaVSC, LinearVSC]
VARIATIONAL = [BetaVAE, *GATED]


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    cells = simulate(60, 40, n_types=3, n_programmes=4, seed=2)
    preprocess.normalise(cells)
    cells.obs["batch"] = np.where(np.arange(60) % 2, "one", "two")
    return cells


def fitted(leaf: type[Estimator], cells: ad.AnnData, **more: object) -> Estimator:
    model = leaf(**OPTIONS, **more).fit(cells)
    with torch.no_grad():
        if model.gated:
            model.module_.posterior.logit.weight.mul_(30)
    return model


@pytest.mark.parametrize("leaf", VARIATIONAL)
def test_new_cells_are_decoded_draws_of_the_prior(leaf: type[Estimator], adata: ad.AnnData) -> None:
    model = fitted(leaf, adata)
    x = model.sample(50, seed=4)
    assert x.shape == (50, 40)
    np.testing.assert_array_equal(x, model.sample(50, seed=4))
    assert not np.array_equal(x, model.sample(50, seed=5))
    codes = draw_codes(model.module_, 50, 3, seed=4)
    np.testing.assert_allclose(x, model.decode(codes.detach().numpy()), atol=1e-6)


def test_codes_follow_their_prior(adata: ad.AnnData) -> None:
    z = draw_codes(fitted(BetaVAE, adata).module_, 20_000, 3, seed=0)
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    plain = Units(slab=(1.0, 1.0), pseudo_inputs=0)
    for leaf, own, mean, sd in ((BetaVSC, {"units": plain}, 1, 1), (LinearVSC, {}, 1, 0.5)):
        module = fitted(leaf, adata, alpha=0.2, **own).module_
        z = draw_codes(module, 20_000, 3, seed=0)
        on = z != 0
        share = module.prior.logit.sigmoid().detach().numpy()
        np.testing.assert_allclose(on.float().mean(0).numpy(), share, atol=0.015)
        assert z[on].mean().item() == pytest.approx(mean, abs=0.03)
        assert z[on].std().item() == pytest.approx(sd, abs=0.02)


def test_covariates_of_new_cells_are_those_asked_for_or_shared(adata: ad.AnnData) -> None:
    model = fitted(BetaVAE, adata, batch="batch")
    z = np.zeros((2, 3), np.float32)
    both = model.decode(z, table=pd.DataFrame({"batch": ["one", "two"]}))
    assert not np.allclose(both[0], both[1])
    with torch.no_grad():
        half = model.module_.body.decode(torch.zeros(1, 3), torch.full((1, 2), 0.5))
    np.testing.assert_allclose(model.decode(z)[0], half[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("leaf", [*VARIATIONAL, DeepAutoencoder])
@pytest.mark.parametrize("scaled", [False, True])
def test_decoding_codes_is_reconstructing_cells(
    leaf: type[Estimator], scaled: bool, adata: ad.AnnData
) -> None:
    model = fitted(leaf, adata, scaled=scaled, batch="batch")
    decoded = model.decode(model.transform(adata), table=adata.obs)
    np.testing.assert_allclose(decoded, model.reconstruct(adata), atol=1e-5)


@pytest.mark.parametrize("leaf", VARIATIONAL)
def test_uncertainty_is_the_spread_of_posterior_samples(
    leaf: type[Estimator], adata: ad.AnnData
) -> None:
    model = fitted(leaf, adata)
    batch = next(model._batches(adata, None).ordered())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        z, _ = model.module_.importance_samples(batch, 20_000, generator)
    found = np.square(model.uncertainty(adata))
    np.testing.assert_allclose(found, z.var(0).numpy(), rtol=0.06, atol=0.01)


@pytest.mark.parametrize("leaf", GATED)
def test_exact_zeros_are_where_a_unit_is_more_likely_off(
    leaf: type[Estimator], adata: ad.AnnData
) -> None:
    model = fitted(leaf, adata)
    gamma, mean = model.inclusion_probabilities(adata), model.transform(adata)
    sparse = model.transform(adata, exact_zeros=True)
    on = gamma > 0.5
    assert 0 < on.sum() < on.size
    assert (sparse[~on] == 0).all()
    np.testing.assert_allclose(sparse[on], (mean / gamma)[on], rtol=1e-4)


def test_a_model_without_what_is_asked_for_says_so(adata: ad.AnnData) -> None:
    plain = fitted(DeepAutoencoder, adata)
    with pytest.raises(InputError, match=r"drawn from a prior.* found none in a AutoencoderNet"):
        plain.sample(3)
    with pytest.raises(InputError, match="must have a distribution"):
        plain.uncertainty(adata)
    for model in (plain, fitted(BetaVAE, adata)):
        with pytest.raises(InputError, match="exact zeros must come from gates"):
            model.transform(adata, exact_zeros=True)
    with pytest.raises(InputError, match="n_cells must be at least 1; found 0"):
        fitted(BetaVAE, adata).sample(0)


@pytest.mark.parametrize("leaf", [*VARIATIONAL, DeepAutoencoder])
def test_a_saved_model_is_known_by_its_folder(
    leaf: type[Estimator], adata: ad.AnnData, tmp_path: Path
) -> None:
    model = fitted(leaf, adata)
    model.save(tmp_path / "run" / "models" / "mine")
    for folder in (tmp_path / "run" / "models" / "mine", tmp_path / "run"):
        again = read_model(folder)
        assert type(again) is leaf
        np.testing.assert_array_equal(again.transform(adata), model.transform(adata))


def test_a_model_that_is_not_named_is_asked_for(adata: ad.AnnData, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fitted(BetaVAE, adata).save(tmp_path / "models" / name)
    with pytest.raises(InputError, match=r"one model must be named; .*models/a, .*models/b"):
        read_model(tmp_path)
    with pytest.raises(InputError, match=r"must hold model\.json; found none"):
        read_model(tmp_path / "models")
    about = tmp_path / "models" / "a" / "model.json"
    about.write_text(about.read_text().replace('"BetaVAE"', '"BetaGAN"'))
    with pytest.raises(InputError, match=r"model must be one of .*; found 'BetaGAN'"):
        load_model(tmp_path / "models" / "a")


def test_denoised_layer_is_the_reconstruction(adata: ad.AnnData, tmp_path: Path) -> None:
    model = fitted(BetaVSC, adata, batch="batch")
    shuffled = adata[::-1, np.random.default_rng(0).permutation(40)].copy()
    denoise(model, shuffled, tmp_path / "out.h5ad")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert list(found.var_names) == model.var_names_
    assert list(found.obs_names) == list(shuffled.obs_names)
    np.testing.assert_allclose(found.layers["denoised"], model.reconstruct(shuffled), atol=1e-6)
    np.testing.assert_array_equal(
        found[:, adata.var_names].X.toarray(), shuffled[:, adata.var_names].X.toarray()
    )


def test_a_failure_leaves_no_half_written_file(
    adata: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(BetaVAE, adata)

    def fail(cells: ad.AnnData, *, layer: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "reconstruct_blocks", fail)
    with pytest.raises(KeyboardInterrupt):
        denoise(model, adata, tmp_path / "out.h5ad")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"must be named \.h5ad; found 'out.csv'"):
        denoise(model, adata, tmp_path / "out.csv")


def test_the_command_denoises_raw_counts(adata: ad.AnnData, tmp_path: Path) -> None:
    model = fitted(BetaVAE, adata)
    model.save(tmp_path / "model")
    raw = ad.AnnData(adata.layers["counts"], obs=adata.obs[["batch"]], var=adata.var[[]])
    raw.write_h5ad(tmp_path / "raw.h5ad")
    out = tmp_path / "out.h5ad"
    command = ["denoise", str(tmp_path / "model"), str(tmp_path / "raw.h5ad"), "--out", str(out)]
    assert main(command) == 0
    expected = model.reconstruct(adata)
    np.testing.assert_allclose(ad.read_h5ad(out).layers["denoised"], expected, atol=1e-5)
    before = out.read_bytes()
    assert main(command) == 2
    assert out.read_bytes() == before
    assert main([*command[:-1], str(tmp_path / "raw.h5ad"), "--force"]) == 2


MEMORY = """
import resource, sys
from pathlib import Path
import anndata as ad, numpy as np, pandas as pd, scipy.sparse as sp
from scarce import BetaVAE
from scarce.denoise import denoise
from scarce.models.parts import Network
from scarce.train import TrainConfig

rng = np.random.default_rng(0)
x = sp.random(5_000, 6_000, density=1e-3, format="csr", dtype=np.float32, random_state=rng)
var = pd.DataFrame(index=[f"g{i}" for i in range(6_000)])
cells = ad.AnnData(x, obs=pd.DataFrame(index=[f"c{i}" for i in range(5_000)]), var=var)
model = BetaVAE(network=Network(n_hidden=(8,)), training=TrainConfig(epochs=1)).fit(cells[:200])
out = Path(sys.argv[1])
denoise(model, cells[:2000], out / "small.h5ad")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
denoise(model, cells, out / "large.h5ad")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_denoising_never_holds_all_expected_expression(tmp_path: Path) -> None:
    """All of it would take 120 MB, and a block, of which a few may come on top, 24 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 60_000
