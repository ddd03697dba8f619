"""What the report lets a reader look at, cell by cell."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from scarce import exhibit, preprocess
from scarce.data import simulate
from scarce.summary import Marker


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    adata = simulate(150, 200, n_types=3, density=0.3, seed=2)
    adata.var_names = ["MT-CO1", "mt-nd1", *adata.var_names[2:]]
    preprocess.normalise(adata)
    preprocess.variable_genes(adata, 50)
    return adata


def test_quality_is_that_of_scanpy(adata: ad.AnnData) -> None:
    reference = adata.copy()
    reference.X = reference.layers["counts"].copy()
    reference.var["mt"] = reference.var_names.str.upper().str.startswith("MT-")
    sc.pp.calculate_qc_metrics(
        reference, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True
    )
    found = exhibit.quality(adata)
    for name, column in (
        ("counts", "total_counts"),
        ("genes", "n_genes_by_counts"),
        ("mitochondrial %", "pct_counts_mt"),
    ):
        np.testing.assert_allclose(found[name], reference.obs[column], rtol=1e-5)


def test_without_mitochondrial_genes_there_is_no_percentage(adata: ad.AnnData) -> None:
    assert set(exhibit.quality(adata[:, 2:])) == {"counts", "genes"}


def test_markers_come_first_and_counts_are_those_of_the_cells(adata: ad.AnnData) -> None:
    names = adata.var_names
    markers = tuple(
        Marker(group, names[i], 1.0, 1.0, 0.0, 1.0, 0.0)
        for group, i in (("a", 7), ("a", 8), ("b", 9), ("b", 7))
    )
    drawn = np.array([3, 50, 149])
    kept = exhibit.expression(adata, drawn, markers)
    assert kept.genes[:3].tolist() == [names[7], names[9], names[8]]
    assert set(kept.genes[3:]) <= set(names[adata.var["highly_variable"]])
    assert len(set(kept.genes)) == len(kept.genes)
    expected = sp.csr_matrix(adata.layers["counts"])[drawn][:, names.get_indexer(kept.genes)]
    np.testing.assert_array_equal(kept.counts.toarray(), expected.toarray())


def test_no_more_counts_are_kept_than_there_is_room_for(
    adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.arange(adata.n_obs)
    whole = exhibit.expression(adata, drawn, ())
    monkeypatch.setattr(exhibit, "_MOST_ENTRIES", whole.counts.nnz // 2)
    part = exhibit.expression(adata, drawn, ())
    assert 0 < part.counts.nnz <= whole.counts.nnz // 2
    assert part.genes.tolist() == whole.genes[: len(part.genes)].tolist()


def test_leiden_finds_islands_and_numbers_them_by_size() -> None:
    generator = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], [40, 120, 80])
    z = 20 * np.eye(3)[kinds] + generator.normal(size=(240, 3))
    found = exhibit.leiden(z, seed=0)
    assert adjusted_rand_score(kinds, found) == 1
    assert np.bincount(found).tolist() == [120, 80, 40]
    np.testing.assert_array_equal(found, exhibit.leiden(z, seed=0))
