"""Models of raw counts: which values they read, what they refuse, and what they learn."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scarce import BetaVAE
from scarce.config import RunConfig
from scarce.errors import InputError
from scarce.held_out import bounds, explained_variance
from scarce.models.parts import Network
from scarce.preprocess import normalise
from scarce.report.account import steps
from scarce.study import BenchmarkConfig
from scarce.train import TrainConfig
from scarce.trial import trial
from summaries import make_summary

OF_COUNTS = ["poisson", "nb", "zinb"]
every_likelihood = pytest.mark.parametrize("likelihood", OF_COUNTS)
TYPES = np.repeat(["a", "b"], 40)


def make(likelihood: str = "nb", *, epochs: int = 4, **options: object) -> BetaVAE:
    network = Network(n_hidden=(16,), likelihood=likelihood)
    return BetaVAE(
        n_latent=2, network=network, training=TrainConfig(epochs=epochs, batch_size=20), **options
    )


@pytest.fixture
def cells() -> ad.AnnData:
    """Two types of cells, which differ in half of their genes; log-normalised, with counts."""
    rng = np.random.default_rng(0)
    rates = np.where((TYPES == "a")[:, None] == (np.arange(30) < 15), 2.0, 0.3)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(80)]
    normalise(adata)
    return adata


def test_counts_are_read_from_their_layer_from_x_or_from_the_layer_named(cells: ad.AnnData) -> None:
    z = make().fit_transform(cells)
    in_x = ad.AnnData(cells.layers["counts"], obs=cells.obs[[]], var=cells.var)
    np.testing.assert_array_equal(make().fit_transform(in_x), z)
    in_x.layers["raw"], in_x.X = in_x.X.copy(), cells.X
    np.testing.assert_array_equal(make().fit_transform(in_x, layer="raw"), z)
    matrix = sp.csr_matrix(cells.layers["counts"])
    np.testing.assert_array_equal(make().fit_transform(matrix), z)


def test_expression_without_counts_is_refused_with_what_to_do(cells: ad.AnnData) -> None:
    del cells.layers["counts"]
    with pytest.raises(InputError) as error:
        make().fit(cells)
    message = str(error.value)
    assert message.startswith("counts must be whole numbers; found ")
    assert "at cell 'cell0', gene '" in message
    assert message.endswith(
        "Likelihood 'nb' is one of raw counts: keep them in layers['counts'], or pass the layer "
        "that has them."
    )


def test_z_scores_are_no_counts(cells: ad.AnnData) -> None:
    message = "found scaled with likelihood 'zinb'. Leave one of them out"
    with pytest.raises(InputError, match=message):
        make("zinb", scaled=True).fit(cells)
    with pytest.raises(InputError, match=message):
        RunConfig(likelihood="zinb", scaled=True).resolve()


def test_one_cell_can_be_coded(cells: ad.AnnData) -> None:
    model = make().fit(cells)
    np.testing.assert_allclose(model.transform(cells[:1]), model.transform(cells)[:1], atol=1e-6)


@every_likelihood
def test_it_learns_saves_and_loads(likelihood: str, cells: ad.AnnData, tmp_path: Path) -> None:
    model = make(likelihood, epochs=40).fit(cells)
    losses = model.history_.losses["held_out"]
    assert min(losses) < losses[0] - 1
    x_hat = model.reconstruct(cells)
    assert x_hat.shape == cells.shape
    np.testing.assert_allclose(np.expm1(x_hat).sum(1), 1e4, rtol=1e-4)
    own = (TYPES == "a")[:, None] == (np.arange(30) < 15)
    assert x_hat[own].mean() > x_hat[~own].mean() + 1
    model.save(tmp_path)
    np.testing.assert_array_equal(BetaVAE.load(tmp_path).transform(cells), model.transform(cells))


def test_a_trial_scores_counts_by_their_own_likelihood_and_expression(cells: ad.AnnData) -> None:
    settings = RunConfig(likelihood="nb", epochs=3, latent=2, batch_size=20).resolve().settings
    # A gene that is not modelled holds half of the counts: shares are of the others.
    whole = cells.copy()
    whole.X = whole.X.copy()
    whole.X.data = np.log1p(np.expm1(whole.X.data) / 2)
    done = trial(whole, TYPES, model="bvae", settings=settings, seed=0, unseen=0.2, n_jobs=1)
    rows = np.isin(np.arange(80), np.random.default_rng([0, 1]).permutation(80)[:16])
    counts = sp.csr_matrix(whole.layers["counts"])[rows]
    assert {k: done.held_out[k] for k in ("elbo", "iwae")} == bounds(done.estimator.module_, counts)
    x = sp.csr_matrix(whole.X)
    x_hat = np.log1p(np.expm1(done.estimator.reconstruct(whole[rows])) / 2)
    r2 = explained_variance(x[rows], x[~rows].mean(0).A1, lambda block: x_hat)
    assert done.held_out["r2"] == pytest.approx(r2, abs=1e-4)


def test_explained_variance_may_read_other_values_of_the_cells() -> None:
    x = sp.csr_matrix(np.eye(3, dtype=np.float32))
    mean, read = np.full(3, 1 / 3), 2 * x
    assert explained_variance(x, mean, lambda b: read[b].toarray() / 2) == pytest.approx(1)


def test_the_report_names_the_likelihood_of_what_was_trained() -> None:
    summary = make_summary()
    summary = replace(summary, config={**summary.config, "likelihood": "nb"})
    said = dict(steps(summary, n_explored=10))
    assert said["β-VAE"].endswith(" s in all; likelihood nb.")
    assert "likelihood" not in said["PCA"]


def test_likelihoods_reach_the_settings_of_runs_and_benchmarks() -> None:
    assert RunConfig(likelihood="poisson").resolve().settings.network.likelihood == "poisson"
    assert RunConfig(preset="paper").resolve().likelihood == "squared_error"
    config = BenchmarkConfig(data=("d",), labels=("l",), likelihood="nb")
    assert config.run_config("paper").settings.network.likelihood == "nb"
    with pytest.raises(InputError, match=r"likelihood must be one of .*'zinb'; found 'znb'"):
        RunConfig(likelihood="znb").resolve()
