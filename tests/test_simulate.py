"""Simulated counts: what is planted is what is drawn."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import nbinom

from scarce.data import simulate as simulate_function
from scarce.data.simulate import _draw, _Truth, simulate
from scarce.errors import InputError


def one_gene_pair(mean: float, n_cells: int) -> _Truth:
    """Two genes of equal rate: each has this mean in every cell."""
    return _Truth(
        cell_types=np.zeros(n_cells, np.int64),
        activity=np.zeros((n_cells, 2)),
        loadings=np.zeros((2, 2)),
        base=np.ones(2),
        library=np.full(n_cells, 2 * mean),
    )


@pytest.mark.parametrize("mean", [0.05, 1.0, 30.0])
def test_counts_are_negative_binomial(mean: float) -> None:
    counts = _draw(one_gene_pair(mean, 50_000), 1.0, np.random.default_rng(0)).toarray().ravel()
    reference = nbinom(2.0, 2.0 / (2.0 + mean))
    found = np.bincount(counts.astype(int)) / counts.size
    error = np.abs(np.cumsum(found) - reference.cdf(np.arange(found.size))).max()
    assert error < 1.63 / np.sqrt(counts.size)  # Kolmogorov-Smirnov at the 1 % level


def test_result_is_what_an_estimator_expects() -> None:
    adata = simulate(300, 200, n_types=3, n_programmes=4)
    assert adata.shape == (300, 200)
    assert isinstance(adata.X, csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    assert np.all(adata.X.data >= 1)
    assert np.all(np.rint(adata.X.data) == adata.X.data)
    assert set(adata.obs["cell_type"].cat.categories) == {"type 1", "type 2", "type 3"}
    assert adata.obsm["programme_activity"].shape == (300, 4)
    assert adata.varm["programme_loadings"].shape == (200, 4)
    assert adata.uns["scarce"]["source"]["notes"] == [
        "Simulated with 3 cell types and 4 gene programmes, seed 0."
    ]
    assert simulate is simulate_function


def test_programmes_are_sparse_and_types_use_different_pairs() -> None:
    adata = simulate(2000, 500, n_types=6, n_programmes=5)
    loadings, activity = adata.varm["programme_loadings"], adata.obsm["programme_activity"]
    assert np.all(loadings >= 0)
    np.testing.assert_array_equal((loadings > 0).sum(axis=0), 30)
    on = (activity > 0).astype(float)
    usual = {
        tuple(np.flatnonzero(on[(adata.obs["cell_type"] == kind).to_numpy()].mean(axis=0) > 0.5))
        for kind in adata.obs["cell_type"].cat.categories
    }
    assert len(usual) == 6
    assert all(len(pair) == 2 for pair in usual)
    assert np.all((activity > 0).sum(axis=1) >= 2)
    assert np.any((activity > 0).sum(axis=1) > 2)


def test_active_programmes_raise_their_genes() -> None:
    adata = simulate(2000, 300, n_types=6)
    share = adata.X.toarray() / np.asarray(adata.X.sum(axis=1)).clip(1)
    activity, loadings = adata.obsm["programme_activity"], adata.varm["programme_loadings"]
    for programme in range(loadings.shape[1]):
        on, genes = activity[:, programme] > 0, loadings[:, programme] > 0
        ratio = share[on].mean(axis=0) / share[~on].mean(axis=0)
        assert np.median(ratio[genes]) > 1.5 * np.median(ratio[~genes])


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
def test_density_is_reached(density: float) -> None:
    adata = simulate(3000, 400, density=density)
    assert adata.X.nnz / (3000 * 400) == pytest.approx(density, rel=0.02)


def test_the_seed_decides_every_number() -> None:
    first, again, other = (simulate(200, 100, seed=seed) for seed in (1, 1, 2))
    assert (first.X != again.X).nnz == 0
    np.testing.assert_array_equal(
        first.obsm["programme_activity"], again.obsm["programme_activity"]
    )
    assert first.uns["scarce"] == again.uns["scarce"]
    assert (first.X != other.X).nnz > 0
    assert first.uns["scarce"] != other.uns["scarce"]


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate(50, 50)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_memory_is_that_of_the_result_and_one_block() -> None:
    tracemalloc.start()
    adata = simulate(6000, 8000, density=0.02)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    dense = 6000 * 8000 * 4
    assert adata.X.nnz * 8 < 0.06 * dense
    assert peak < dense  # in blocks of 524 cells; one dense float32 table would be 192 MB


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 1}, "n_cells must be at least 5; found 1."),
        ({"n_genes": 3}, "n_genes must be at least 8; found 3."),
        ({"n_programmes": 1}, "n_programmes must be at least 2; found 1."),
        ({"n_types": 29}, "n_types must be at least 1 and at most 28; found 29."),
        ({"n_cells": 10.5}, "n_cells must be a whole number, at least 5; found 10.5."),
        ({"seed": -1}, "seed must be at least 0; found -1."),
        ({"density": 0}, "density must be above 0 and at most 0.9; found 0."),
        ({"density": 1.0}, "density must be above 0 and at most 0.9; found 1.0."),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as error:
        simulate(**arguments)
    assert str(error.value) == message
