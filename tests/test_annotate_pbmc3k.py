"""The reference pipeline on PBMC3k, against numbers that Seurat gives for these cells.

Edges, modularity, clusters and variable genes: Seurat 3 to 5 with its tutorial's settings. Cell
types: the tutorial's, in the shared label file.
"""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from scarce.annotate import Annotation, annotate, name_clusters
from scarce.annotate.components import components
from scarce.data import read
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes
from shared import PBMC3K, PBMC3K_LABELS, needs_pbmc3k

pytestmark = needs_pbmc3k

FOREIGN = {
    "Neuron": ("RBFOX3", "SNAP25", "SYT1"),
    "Astrocyte": ("GFAP", "AQP4"),
    "Oligodendrocyte": ("MBP", "PLP1"),
    "Hepatocyte": ("ALB", "APOA1", "CYP3A4"),
    "Alpha": ("GCG", "TTR"),
    "Beta": ("INS", "IAPP"),
    "Epithelium": ("EPCAM", "KRT8", "KRT18"),
    "Fibroblast": ("COL1A1", "DCN"),
    "Smooth muscle": ("ACTA2", "TAGLN"),
    "Acinar": ("PRSS1",),
}
"""Markers of brain, liver, pancreas and connective tissue, none of which is in blood."""


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    adata, _ = quality_control(read(PBMC3K), Thresholds())
    normalise(adata)
    return adata


@pytest.fixture(scope="module")
def labels(cells: ad.AnnData) -> pd.Series:
    return pd.read_csv(PBMC3K_LABELS, index_col="barcode").loc[cells.obs_names, "cell_type"]


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]


@pytest.fixture(scope="module", params=SEEDS)
def found(request: pytest.FixtureRequest, cells: ad.AnnData) -> Annotation:
    return annotate(cells, resolution=0.5, seed=request.param)


def test_the_ten_most_variable_genes_and_the_spread_of_components(cells: ad.AnnData) -> None:
    adata = ad.AnnData(cells.X, var=cells.var[[]], layers={"counts": cells.layers["counts"]})
    variable_genes(adata, 2000)
    top = adata.var["highly_variable_rank"].nsmallest(10).index
    assert list(top) == (
        "PPBP LYZ S100A9 IGLL5 GNLY FTL PF4 FTH1 GNG11 S100A8".split()  # noqa: SIM905
    )
    x = csr_matrix(adata.X[:, adata.var["highly_variable"].to_numpy()])
    d = np.linalg.norm(components(x, 10), axis=0) / np.sqrt(len(adata) - 1)
    expected = [7.0981, 4.4955, 3.8709, 3.7482, 3.1713, 2.5413, 2.0679, 1.9334, 1.8498, 1.8347]
    np.testing.assert_allclose(d, expected, rtol=0.01)


def test_graph_and_clusters_are_those_of_seurat(found: Annotation) -> None:
    assert found.n_edges == pytest.approx(95_958, rel=0.002)
    assert found.modularity >= 0.8720
    sizes = {name.cell_type: name.n_cells for name in found.naming}
    assert len(found.naming) == 9
    assert sizes["B"] == pytest.approx(344, abs=3)
    assert sizes["DC"] == pytest.approx(32, abs=2)
    assert sizes["Platelet"] == pytest.approx(14, abs=1)


def test_clusters_and_names_agree_with_the_tutorial(found: Annotation, labels: pd.Series) -> None:
    assert adjusted_rand_score(labels, found.clusters) >= 0.92
    assert normalized_mutual_info_score(labels, found.clusters) >= 0.93
    assert (found.cell_types == labels).mean() >= 0.92
    assert set(found.cell_types) == set(labels)


def test_markers_of_other_tissues_name_nothing(cells: ad.AnnData, found: Annotation) -> None:
    clusters = found.clusters.to_numpy()
    names = name_clusters(csr_matrix(cells.X), cells.var_names, clusters, FOREIGN)
    assert all(name.cell_type == f"unknown {name.cluster}" for name in names)


@pytest.mark.slow
def test_the_sweep_recommends_the_resolution_of_the_tutorial(cells: ad.AnnData) -> None:
    assert annotate(cells).recommended == 0.5
