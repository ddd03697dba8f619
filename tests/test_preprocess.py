"""Quality control, normalisation and variable genes against their definitions."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scarce.data import read
from scarce.errors import InputError
from scarce.preprocess import Scaling, Thresholds, normalise, quality_control, variable_genes
from shared import PBMC3K, needs_pbmc3k


def counts(values: np.ndarray, genes: list[str] | None = None) -> ad.AnnData:
    genes = genes or [f"g{i}" for i in range(values.shape[1])]
    cells = [f"c{i}" for i in range(len(values))]
    x = sp.csr_matrix(values.astype(np.float32))
    return ad.AnnData(x, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))


@pytest.fixture
def random_counts() -> ad.AnnData:
    return counts(np.random.default_rng(0).poisson(1.0, (60, 40)))


def test_limits_on_cells_are_strict_and_rare_genes_go() -> None:
    values = np.zeros((6, 10))
    for cell, found in enumerate([2, 3, 4, 5, 6, 6]):
        values[cell, :found] = 1
    values[5, 0] = 94  # 94 of 99 counts are mitochondrial
    adata = counts(values, ["mt-Co1", *(f"g{i}" for i in range(1, 10))])
    limits = Thresholds(min_cells=3, min_genes=3, max_genes=6, max_mito=50)
    kept, removed = quality_control(adata, limits)
    # Genes 4 to 9 are in fewer than three of the five cells with three genes or more, so
    # every one of those cells ends with at most five genes of which the limits see the rest.
    assert list(kept.obs_names) == ["c2", "c3", "c4"]
    assert list(kept.var_names) == ["mt-Co1", "g1", "g2", "g3", "g4"]
    assert [(r.n_cells, r.n_genes) for r in removed] == [(1, 0), (0, 5), (1, 0), (0, 0), (1, 0)]


@needs_pbmc3k
def test_pbmc3k_keeps_the_cells_and_genes_of_the_tutorial() -> None:
    kept, removed = quality_control(read(PBMC3K), Thresholds())
    assert kept.shape == (2638, 13714)
    assert sum(r.n_cells for r in removed) == 62
    assert sum(r.n_genes for r in removed) == 32738 - 13714


def test_quality_control_leaves_its_input_alone(random_counts: ad.AnnData) -> None:
    before = random_counts.copy()
    quality_control(random_counts, Thresholds(min_genes=5))
    np.testing.assert_array_equal(before.X.toarray(), random_counts.X.toarray())
    assert list(random_counts.obs) == []


def test_nothing_left_says_what_each_rule_took(random_counts: ad.AnnData) -> None:
    with pytest.raises(InputError, match=r"left 0 of 60 cells .*fewer than 200 genes: 60.*--no-qc"):
        quality_control(random_counts, Thresholds())


def test_normalisation_is_the_formula_and_keeps_the_counts(random_counts: ad.AnnData) -> None:
    values = random_counts.X.toarray()
    values[7] = 0
    random_counts = counts(values)
    normalise(random_counts)
    totals = np.maximum(values.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(
        random_counts.X.toarray(), np.log1p(values / totals * 1e4), rtol=1e-6
    )
    np.testing.assert_array_equal(random_counts.layers["counts"].toarray(), values)
    assert random_counts.X.dtype == np.float32


def test_variable_genes_are_the_ones_planted() -> None:
    rates = np.random.default_rng(1).uniform(0.5, 5, 200)
    values = np.random.default_rng(0).poisson(rates, (100, 200))
    values[:50, :5] *= 2
    values[50:, :5] = 0
    adata = counts(values)
    normalise(adata)
    variable_genes(adata, 5)
    assert set(adata.var_names[adata.var["highly_variable"]]) == {f"g{i}" for i in range(5)}


@pytest.fixture
def two_batches() -> ad.AnnData:
    """Genes 0 to 9 differ between two types of cell, 10 to 29 between two batches."""
    generator = np.random.default_rng(0)
    rates = np.tile(np.geomspace(0.1, 8, 300)[generator.permutation(300)], (400, 1))
    batch, kind = np.arange(400) % 2, np.arange(400) // 2 % 2
    rates[:, :10] = np.where(kind, 6, 0.5)[:, None]
    rates[:, 10:30] = np.where(batch, 6, 0.1)[:, None]
    adata = counts(generator.poisson(rates))
    adata.obs["batch"] = np.where(batch, "new", "old")
    normalise(adata)
    return adata


def chosen(adata: ad.AnnData) -> set[str]:
    return set(adata.var_names[adata.var["highly_variable"]])


def test_genes_that_differ_between_batches_alone_are_not_chosen(two_batches: ad.AnnData) -> None:
    kinds, batches = {f"g{i}" for i in range(10)}, {f"g{i}" for i in range(10, 30)}
    assert variable_genes(two_batches, 20) is None
    assert len(chosen(two_batches) & batches) >= 10
    note = variable_genes(two_batches, 20, "batch")
    assert note == "Variable genes were chosen within each 'batch'."
    assert kinds <= chosen(two_batches)
    assert len(chosen(two_batches)) == 20
    # One in fifteen of the genes that vary by chance would be of these.
    assert len(chosen(two_batches) & batches) <= 3


def test_the_choice_within_batches_is_the_one_of_seurats_paper(two_batches: ad.AnnData) -> None:
    theirs = ad.AnnData(two_batches.layers["counts"], obs=two_batches.obs, var=two_batches.var)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(
            theirs, flavor="seurat_v3_paper", n_top_genes=60, batch_key="batch"
        )
    variable_genes(two_batches, 60, "batch")
    assert chosen(two_batches) == chosen(theirs)


def test_a_batch_of_one_cell_has_no_say(two_batches: ad.AnnData) -> None:
    two_batches.obs["batch"] = ["alone"] + ["others"] * 399
    note = variable_genes(two_batches, 20, "batch")
    assert note is not None
    assert note.endswith("of which too small for it: 'alone' (1 cell).")
    with_it = chosen(two_batches)
    everyone = two_batches[1:].copy()
    variable_genes(everyone, 20)
    assert with_it == chosen(everyone)


def test_batches_that_are_all_too_small_are_one(two_batches: ad.AnnData) -> None:
    two_batches.obs["batch"] = np.arange(400).astype(str)
    note = variable_genes(two_batches, 20, "batch")
    assert note == "Variable genes were chosen on all cells: every 'batch' is too small for it."
    apart = chosen(two_batches)
    variable_genes(two_batches, 20)
    assert apart == chosen(two_batches)


def test_too_few_genes_that_vary_are_an_error() -> None:
    values = np.ones((30, 50))
    values[::2, :3] = 5  # a trend through three points takes the process with it
    adata = counts(values)
    normalise(adata)
    with pytest.raises(InputError, match="Pass --genes all"):
        variable_genes(adata, 10)


def test_choosing_genes_leaves_the_number_of_threads_alone(random_counts: ad.AnnData) -> None:
    normalise(random_counts)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        variable_genes(random_counts, 5)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_genes", [None, 40, 1000])
def test_all_genes_are_kept_when_asked_or_too_few(
    random_counts: ad.AnnData, n_genes: int | None
) -> None:
    normalise(random_counts)
    variable_genes(random_counts, n_genes)
    assert random_counts.var["highly_variable"].all()


TABLES = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.integers(0, 5)
)


@given(TABLES)
def test_scaling_is_seurats_without_a_dense_table(x: np.ndarray) -> None:
    x[:, x.std(axis=0) == 0] = 0  # what is constant but for rounding is another matter
    scaling = Scaling.of(sp.csr_matrix(x))
    ours = scaling.entries(sp.csr_matrix(x)).toarray() + scaling.base
    sd = np.where(x.std(axis=0) > 0, x.std(axis=0, ddof=1), np.inf)
    np.testing.assert_allclose(ours, np.minimum((x - x.mean(axis=0)) / sd, 10), atol=1e-12)
    np.testing.assert_allclose(scaling.undo(ours), x, atol=1e-12)


def test_scaling_clips_above_and_not_below() -> None:
    x = np.full((400, 2), 3.0)
    x[0] = 0, 100
    scaling = Scaling.of(sp.csr_matrix(x))
    z_scores = scaling.entries(sp.csr_matrix(x)).toarray() + scaling.base
    assert z_scores.max() == 10
    assert z_scores.min() < -15
