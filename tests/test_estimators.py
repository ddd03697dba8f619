"""The contract of every estimator: one battery over all of them."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from scarce import VASC, BetaVAE, BetaVSC, DeepAutoencoder, LinearVSC
from scarce.errors import InputError
from scarce.estimators import Estimator, Units, load_model
from scarce.estimators.cells import matrix
from scarce.models.parts import Network
from scarce.sparse.batches import Batch
from scarce.train import TrainConfig

QUICK = TrainConfig(epochs=4, batch_size=16)
SMALL = Network(n_hidden=(16, 8))
SCALABLE = [DeepAutoencoder, BetaVAE, BetaVSC, LinearVSC]
LEAVES = [*SCALABLE, VASC]

every_leaf = pytest.mark.parametrize("leaf", LEAVES)


def make(leaf: type[Estimator], **options: object) -> Estimator:
    return leaf(**{"n_latent": 3, "network": SMALL, "training": QUICK, **options})


@pytest.fixture
def adata() -> ad.AnnData:
    counts = np.random.default_rng(0).poisson(0.7, (50, 30))
    x = sp.csr_matrix(np.log1p(counts).astype(np.float32))
    names = [f"gene{g}" for g in range(30)]
    return ad.AnnData(
        x, obs=pd.DataFrame(index=[f"c{i}" for i in range(50)]), var=pd.DataFrame(index=names)
    )


def with_values(adata: ad.AnnData, where: object, value: float) -> ad.AnnData:
    """A copy with some entries replaced."""
    dense = adata.X.toarray()
    dense[where] = value
    changed = adata.copy()
    changed.X = sp.csr_matrix(dense)
    return changed


@every_leaf
def test_code_has_one_row_per_cell_and_is_finite(leaf: type[Estimator], adata: ad.AnnData) -> None:
    z = make(leaf).fit_transform(adata)
    assert z.shape == (50, 3)
    assert np.isfinite(z).all()


@every_leaf
def test_same_seed_gives_the_same_code_bit_for_bit(
    leaf: type[Estimator], adata: ad.AnnData
) -> None:
    first, second, other = (make(leaf, seed=s).fit_transform(adata) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@every_leaf
def test_transform_depends_on_the_cell_alone(leaf: type[Estimator], adata: ad.AnnData) -> None:
    model = make(leaf).fit(adata)
    z = model.transform(adata)
    order = np.random.default_rng(0).permutation(50)[:20]
    np.testing.assert_allclose(model.transform(adata[order]), z[order], atol=1e-6)


@every_leaf
def test_neither_data_nor_global_random_state_changes(
    leaf: type[Estimator], adata: ad.AnnData
) -> None:
    before, state = adata.copy(), torch.get_rng_state()
    make(leaf).fit_transform(adata)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(before.X.toarray(), adata.X.toarray())
    assert list(adata.obsm) == list(adata.uns) == []


@every_leaf
def test_save_and_load_give_the_same_model(
    leaf: type[Estimator], adata: ad.AnnData, tmp_path: Path
) -> None:
    model = make(leaf).fit(adata)
    model.history_.losses["train"][0] = np.nan  # as after an epoch that diverged
    model.save(tmp_path / "model")
    loaded = leaf.load(tmp_path / "model")
    np.testing.assert_array_equal(model.transform(adata), loaded.transform(adata))
    assert loaded.options == model.options
    for name, losses in model.history_.losses.items():
        np.testing.assert_array_equal(loaded.history_.losses[name], losses)
    assert replace(loaded.history_, losses={}) == replace(model.history_, losses={})


@every_leaf
def test_genes_are_matched_by_name(leaf: type[Estimator], adata: ad.AnnData) -> None:
    model = make(leaf).fit(adata)
    shuffled = adata[:, np.random.default_rng(0).permutation(30)]
    np.testing.assert_allclose(model.transform(shuffled), model.transform(adata), atol=1e-6)


def test_absent_genes_count_as_zero_and_are_reported(adata: ad.AnnData) -> None:
    model = make(BetaVAE).fit(adata)
    emptied = with_values(adata, np.s_[:, 25:], 0)
    with pytest.warns(UserWarning, match="25 of the 30 genes of the fit were found"):
        z = model.transform(adata[:, :25])
    np.testing.assert_allclose(z, model.transform(emptied), atol=1e-6)


def test_genes_of_one_name_are_refused(adata: ad.AnnData) -> None:
    adata.var_names = ["CD3E", "CD3E", *adata.var_names[2:]]
    with pytest.raises(InputError, match="names of genes must differ; found 'CD3E' again"):
        make(BetaVAE).fit(adata)


def test_no_common_gene_is_an_error(adata: ad.AnnData) -> None:
    model = make(BetaVAE).fit(adata)
    other = adata.copy()
    other.var_names = [f"ENSG{i}" for i in range(30)]
    with pytest.raises(InputError, match=r"found none of its 30 genes .*'gene0'.*'ENSG0'"):
        model.transform(other)


def test_a_bare_matrix_must_have_the_genes_of_the_fit(adata: ad.AnnData) -> None:
    model = make(BetaVAE).fit(adata.X)
    np.testing.assert_array_equal(model.transform(adata.X).shape, (50, 3))
    with pytest.raises(InputError, match="must have the 30 genes of the fit; found 10"):
        model.transform(adata.X[:, :10])


def test_reconstruction_is_dense_expression(adata: ad.AnnData) -> None:
    model = make(DeepAutoencoder).fit(adata)
    x_hat = model.reconstruct(adata)
    assert x_hat.shape == adata.shape
    assert abs(x_hat.mean() - adata.X.mean()) < 0.2


def test_inclusion_probabilities_gate_the_code(adata: ad.AnnData) -> None:
    model = make(BetaVSC).fit(adata)
    gamma = model.inclusion_probabilities(adata)
    assert ((gamma >= 0) & (gamma <= 1)).all()
    assert gamma.shape == (50, 3)
    without = make(BetaVAE).fit(adata)
    assert [model.gated, without.gated] == [True, False]
    assert (without.inclusion_probabilities(adata) == 1).all()


@pytest.mark.parametrize("n_inputs", [0, 6])
def test_units_begin_as_told(n_inputs: int, adata: ad.AnnData) -> None:
    still = replace(QUICK, epochs=1, lr=1e-8, held_out=0)
    for start in (0.1, 0.5, 0.9):
        units = Units(start=start, pseudo_inputs=n_inputs)
        first = make(BetaVSC, units=units, training=still).fit(adata)
        assert np.median(first.inclusion_probabilities(adata)) == pytest.approx(start, abs=0.15)


def test_how_often_units_are_on_is_given_or_learned(adata: ad.AnnData) -> None:
    options = {
        "units": Units(pseudo_inputs=0),
        "training": replace(QUICK, epochs=30, lr=1e-2, held_out=0),
    }
    given = make(BetaVSC, alpha=0.2, **options).fit(adata)
    np.testing.assert_allclose(given.alpha_, 0.2, rtol=1e-6)
    learned = make(BetaVSC, alpha=None, **options).fit(adata)
    # At its best a prior probability is the mean of the posterior ones.
    gamma = learned.inclusion_probabilities(adata)
    assert np.abs(learned.alpha_ - gamma.mean(0)).max() < 0.15
    assert np.abs(learned.alpha_ - 0.5).max() > 0.1
    assert learned.n_parameters_ == given.n_parameters_ + 3


def test_units_that_are_not_used_are_named(adata: ad.AnnData, tmp_path: Path) -> None:
    """With a price no unit can pay, all of them collapse onto the prior."""
    training = replace(QUICK, epochs=60, lr=2e-2, held_out=0)
    dear = make(BetaVAE, beta=1000.0, warm_up=0.0, training=training).fit(adata)
    assert not dear.active_units_.any()
    assert dear.kl_units_.max() < 0.05
    note = "3 of 3 units (1, 2, 3) are not used: the code hardly varies there"
    assert dear.history_.notes == [note]
    free = make(BetaVAE, beta=20.0, warm_up=0.0, free_bits=1.0, training=training).fit(adata)
    assert free.kl_units_.sum() > dear.kl_units_.sum() + 0.2
    dear.save(tmp_path)
    again = BetaVAE.load(tmp_path)
    np.testing.assert_array_equal(again.active_units_, dear.active_units_)
    np.testing.assert_array_equal(again.kl_units_, dear.kl_units_)


def test_use_of_units_is_that_of_the_training_cells(adata: ad.AnnData) -> None:
    model = make(BetaVSC, training=replace(QUICK, held_out=0)).fit(adata)
    varies = model.transform(adata).var(0) > 0.01
    np.testing.assert_array_equal(model.active_units_, varies)
    assert make(DeepAutoencoder).fit(adata).kl_units_ is None


def test_layer_is_read_instead_of_x(adata: ad.AnnData) -> None:
    adata.layers["logs"], expected = adata.X.copy(), make(BetaVAE).fit_transform(adata)
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    np.testing.assert_array_equal(make(BetaVAE).fit_transform(adata, layer="logs"), expected)


BAD_OPTIONS = {
    "n_latent must be at least 1; found 0": {"n_latent": 0},
    "beta must be at least 0; found -1": {"beta": -1.0},
    "beta must be finite, at least 0; found inf": {"beta": np.inf},
    "seed must be at least 0": {"seed": -1},
    "covariates must be a list of names; found 'n_counts'": {"covariates": "n_counts"},
    "seed must be a whole number, at least 0 .*; found None": {"seed": None},
    "mean of the slab must be finite, at least .*; found nan": {"units": Units(slab=(np.nan, 1.0))},
    "alpha must be above 0 and below 1; found 1": {"alpha": 1.0},
    "free_bits must be at least 0; found -1": {"units": Units(free_bits=-1.0)},
    "epochs must be at least 1; found 0": {"training": TrainConfig(epochs=0)},
    "batch_size must be at least 2; found 1": {"training": TrainConfig(batch_size=1)},
    "lr must be above 0; found 0": {"training": TrainConfig(lr=0.0)},
    "weight_decay must be at least 0; found -1": {"training": TrainConfig(weight_decay=-1.0)},
    "patience must be at least 1; found 0": {"training": TrainConfig(patience=0)},
    "schedule must be one of 'constant', 'cosine'; found 'linear'": {
        "training": TrainConfig(schedule="linear")  # type: ignore[arg-type]
    },
    "warm_up must be at least 0 and at most 1; found 5": {"warm_up": 5.0},
    "end of the opening must be at least 0.5 and at most 1; found 0.1": {
        "units": Units(opening=(0.5, 0.1))
    },
    "standard deviation of the slab must be above 0; found 0": {"units": Units(slab=(1.0, 0.0))},
    r"n_hidden must be the widths of .*; found \(\)": {"network": Network(n_hidden=())},
    "n_hidden must be at least 1; found 0": {"network": Network(n_hidden=(8, 0))},
}


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_options_out_of_range_are_named(message: str, adata: ad.AnnData) -> None:
    with pytest.raises(InputError, match=message):
        make(BetaVSC, **BAD_OPTIONS[message]).fit(adata)


def test_options_of_another_shape_are_named(adata: ad.AnnData) -> None:
    with pytest.raises(InputError, match=r"opening must be two numbers.*; found \(0.5,\)"):
        make(LinearVSC, opening=(0.5,)).fit(adata)
    network = replace(SMALL)
    object.__setattr__(network, "n_hidden", 128)  # the tests check types where users' code does not
    with pytest.raises(InputError, match=r"n_hidden must be the widths of .*; found 128"):
        make(BetaVAE, network=network).fit(adata)


@every_leaf
def test_what_a_fit_learns_is_asked_for_after_it(
    leaf: type[Estimator], adata: ad.AnnData, tmp_path: Path
) -> None:
    model = make(leaf)
    for use in (model.transform, model.reconstruct, model.expression):
        with pytest.raises(AttributeError, match="not fitted: call fit first"):
            use(adata)
    with pytest.raises(AttributeError, match="not fitted: call fit first"):
        model.save(tmp_path)
    assert not hasattr(model, "module_")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pd.DataFrame(np.ones((50, 30))), "without names; found a DataFrame"),
        ("cells.h5ad", "without names; found a str"),
        (None, "without names; found a NoneType"),
    ],
)
def test_what_has_no_place_for_names_is_refused(cells: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        matrix(cells, None, "gaussian")  # type: ignore[arg-type]


def test_cells_on_disk_are_refused(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(InputError, match=r"found an AnnData backed by a file.*to_memory\(\)"):
        make(BetaVAE).fit(backed)


@pytest.mark.parametrize("codes", [np.zeros((2, 5)), np.zeros(3), np.full((2, 3), np.nan)])
def test_codes_of_another_shape_are_not_decoded(codes: np.ndarray, adata: ad.AnnData) -> None:
    model = make(BetaVAE).fit(adata)
    with pytest.raises(InputError, match=r"codes must be finite, of shape \(n_codes, 3\)"):
        model.decode(codes)


def broken_scaled(adata: ad.AnnData) -> ad.AnnData:
    adata.X = sp.csr_matrix(adata.X.toarray() - 1)
    return adata


def broken_counts(adata: ad.AnnData) -> ad.AnnData:
    adata.X = sp.csr_matrix(adata.X.toarray() * 1000)
    return adata


def small_counts(adata: ad.AnnData) -> ad.AnnData:
    adata.X = adata.X.expm1().rint()
    return adata


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken_scaled, "must not be negative"),
        (broken_counts, "looks like raw counts"),
        (small_counts, "looks like raw counts"),
    ],
)
def test_expression_that_is_not_log_normalised_is_refused(
    spoil: Callable[[ad.AnnData], ad.AnnData], message: str, adata: ad.AnnData
) -> None:
    with pytest.raises(InputError, match=message):
        make(BetaVAE).fit(spoil(adata))


def test_unknown_layer_is_refused_with_the_known_ones(adata: ad.AnnData) -> None:
    adata.layers["counts"] = adata.X
    with pytest.raises(InputError, match=r"one of the layers \['counts'\]; found 'raw'"):
        make(BetaVAE).fit(adata, layer="raw")


def test_loading_what_is_not_the_model_says_what_is_there(
    adata: ad.AnnData, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"must hold model\.json; found none"):
        BetaVAE.load(tmp_path)
    make(BetaVAE).fit(adata).save(tmp_path)
    with pytest.raises(InputError, match=r"must be of kind BetaVSC; .* holds one of kind BetaVAE"):
        BetaVSC.load(tmp_path)
    about = (tmp_path / "model.json").read_text().replace('"format": 1', '"format": 99')
    (tmp_path / "model.json").write_text(about)
    with pytest.raises(InputError, match="Install a newer scarce"):
        BetaVAE.load(tmp_path)
    with pytest.raises(InputError, match="Install a newer scarce"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_damaged_models_are_refused(name: str, adata: ad.AnnData, tmp_path: Path) -> None:
    make(BetaVAE).fit(adata).save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(InputError, match="must be as save wrote it"):
        load_model(tmp_path)


def test_a_fit_that_is_refused_leaves_the_last_one(adata: ad.AnnData) -> None:
    adata.obs["donor"] = ["a", "b"] * 25
    model = make(BetaVAE, batch="donor").fit(adata)
    before = model.transform(adata)
    turned = adata[:, ::-1].copy()
    del turned.obs["donor"]
    with pytest.raises(InputError, match="must be a column of the cell table"):
        model.fit(turned)
    np.testing.assert_array_equal(model.transform(adata), before)


def test_a_fit_that_is_interrupted_leaves_the_last_one(adata: ad.AnnData) -> None:
    def interrupt(epoch: int) -> None:
        raise KeyboardInterrupt

    model = make(BetaVAE).fit(adata)
    before = model.transform(adata)
    with pytest.raises(KeyboardInterrupt):
        model.fit(adata[:25], on_epoch=interrupt)
    np.testing.assert_array_equal(model.transform(adata), before)


def test_numpy_seeds_are_seeds(adata: ad.AnnData) -> None:
    first, second = (make(BetaVAE, seed=seed).fit(adata) for seed in (1, np.int64(1)))
    np.testing.assert_array_equal(first.transform(adata), second.transform(adata))
    np.testing.assert_array_equal(first.sample(3, seed=4), second.sample(3, seed=np.int64(4)))


def test_slabs_may_open_at_once(adata: ad.AnnData) -> None:
    model = make(BetaVSC, units=Units(opening=(0.5, 0.5))).fit(adata)
    assert np.isfinite(model.transform(adata)).all()


def test_codes_and_their_table_must_have_the_same_rows(adata: ad.AnnData) -> None:
    model = make(BetaVAE).fit(adata)
    with pytest.raises(InputError, match="a row for each code; found 1 rows, 50 codes"):
        model.decode(model.transform(adata), table=adata.obs[:1])


def test_an_empty_cell_has_the_code_it_has_among_others(adata: ad.AnnData) -> None:
    counts = adata.X.expm1().rint().tolil()
    counts[3] = 0
    adata.layers["counts"] = sp.csr_matrix(counts)
    model = make(BetaVAE, network=replace(SMALL, likelihood="nb")).fit(adata)
    alone, among = model.transform(adata[3:4]), model.transform(adata)[3:4]
    np.testing.assert_allclose(alone, among, atol=1e-5)


def test_awkward_cells_and_genes_train(adata: ad.AnnData) -> None:
    adata = with_values(with_values(adata, np.s_[3], 0), np.s_[:, 4], 0)
    adata = with_values(adata, np.s_[:, 5], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for leaf in LEAVES:
            assert np.isfinite(make(leaf).fit_transform(adata)).all()


@every_leaf
def test_both_paths_learn_the_same(leaf: type[Estimator], adata: ad.AnnData) -> None:
    codes = []
    for path in ("sparse", "dense"):
        plain = Network(n_hidden=(16, 8), input_dropout=0.0)
        model = make(leaf, network=plain, training=replace(QUICK, path=path))
        codes.append(model.fit_transform(adata))
        assert model.path_ == path
    np.testing.assert_allclose(*codes, atol=1e-4)


@pytest.mark.parametrize("leaf", SCALABLE)
def test_scaled_model_is_that_of_dense_z_scores(leaf: type[Estimator], adata: ad.AnnData) -> None:
    """Against Seurat's ScaleData made dense: the same loss of the same network."""
    model = make(leaf, scaled=True, training=replace(QUICK, held_out=0)).fit(adata)
    x = adata.X.toarray().astype(np.float64)
    z_scores = np.minimum((x - x.mean(0)) / x.std(0, ddof=1), 10)
    module = model.module_.double()
    nothing = np.empty((adata.n_obs, 0))
    serve = model._server(adata.X.astype(np.float64), nothing)
    sparse = next(serve(batch_size=50, dtype=torch.float64).ordered())
    dense = Batch(torch.from_numpy(z_scores), sparse.covariates)
    losses = [
        module.loss(batch, progress=1.0, generator=torch.Generator().manual_seed(0)).total
        for batch in (sparse, dense)
    ]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)


def test_scaled_model_reconstructs_expression_and_is_saved(
    adata: ad.AnnData, tmp_path: Path
) -> None:
    training = replace(QUICK, epochs=200, lr=1e-2)
    model = make(DeepAutoencoder, scaled=True, n_latent=8, training=training).fit(adata)
    model.save(tmp_path)
    again = DeepAutoencoder.load(tmp_path)
    np.testing.assert_array_equal(again.transform(adata), model.transform(adata))
    x, x_hat = adata.X.toarray(), again.reconstruct(adata)
    assert np.square(x_hat - x).sum() < np.square(x - x.mean(0)).sum()


MEMORY = """
import resource, sys
import numpy as np, scipy.sparse as sp
from scarce import BetaVSC
from scarce.models.parts import Network
from scarce.train import TrainConfig

n_cells, n_genes, n_entries = 12_000, 20_000, 20
indices = np.random.default_rng(0).integers(0, n_genes // n_entries, (n_cells, n_entries))
indices = (indices + np.arange(n_entries) * (n_genes // n_entries)).astype(np.int32).ravel()
starts = np.arange(0, n_cells * n_entries + 1, n_entries, dtype=np.int32)
x = sp.csr_matrix((np.ones(len(indices), np.float32), indices, starts), (n_cells, n_genes))
training = TrainConfig(epochs=1, batch_size=6_000)
model = BetaVSC(n_latent=2, network=Network(n_hidden=(16,)), training=training)
model.fit(x[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.fit(x).transform(x)
print(model.path_, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_fit_and_transform_never_hold_a_dense_batch() -> None:
    """A batch made dense would take 480 MB, all cells 960 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True
    )
    path, kilobytes = done.stdout.split()
    assert path == "sparse"
    assert int(kilobytes) < 80_000
