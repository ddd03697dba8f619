"""Reference clusters against labels that came with the data, beside plain scanpy defaults.

    python -m benchmarks.annotation pbmc68k_reduced path/to/labelled/*.h5ad
    python -m benchmarks.annotation path/to/pbmc3k --labels path/to/pbmc3k_seurat_labels.csv

Prints, for each data set: clusters, NMI and ARI of ours at resolution 0.5 and at the one that
stability recommends, and of scanpy (its default genes, components, neighbours and Leiden). Then
how many clusters the markers of human blood name, and how many they would if the names of the
genes were shuffled: how often one or two genes name a cluster by chance.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy.sparse import csr_matrix

from scarce.annotate import RESOLUTION, Annotation, annotate, name_clusters
from scarce.data import load, read_labels
from scarce.metrics import agreement
from scarce.preprocess import Thresholds, normalise, quality_control

LABELS = ("cell_type", "bulk_labels", "label")
N_SHUFFLES = 200


def main() -> None:
    """Print a line for each data set and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="data set names or paths")
    parser.add_argument("--labels", help="table by barcode, of the cells after quality control")
    options = parser.parse_args()
    print(f"{'data':18} {'method':20} clusters    NMI    ARI  seconds")
    for name in options.data:
        adata = load(name)
        if options.labels:
            adata, _ = quality_control(adata, Thresholds())
            labels, _ = read_labels(options.labels, adata.obs_names)
        else:
            labels = adata.obs[next(c for c in LABELS if c in adata.obs)].astype(str)
        normalise(adata)
        show(Path(name).stem, adata, labels)


def show(name: str, adata: AnnData, labels: pd.Series) -> None:
    """Cluster in three ways and print how each agrees with the labels."""
    start = time.perf_counter()
    ours = annotate(adata)
    line(name, f"scarce, {RESOLUTION:g} and sweep", labels, ours.clusters, start)
    start = time.perf_counter()
    recommended = annotate(adata, resolution=ours.recommended)
    line(name, f"scarce, {ours.recommended:g}", labels, recommended.clusters, start)
    start = time.perf_counter()
    line(name, "scanpy defaults", labels, scanpy_defaults(adata), start)
    print(f"{name:18} {named(adata, ours)}", flush=True)


def line(name: str, method: str, labels: pd.Series, clusters: pd.Series, start: float) -> None:
    """Print the scores of one clustering."""
    score = agreement(labels, clusters)
    seconds = time.perf_counter() - start
    numbers = f"{score['nmi']:6.3f} {score['ari']:6.3f} {seconds:8.1f}"
    print(f"{name:18} {method:20} {clusters.nunique():8} {numbers}", flush=True)


def scanpy_defaults(adata: AnnData) -> pd.Series:
    """What scanpy's tutorial does with log-normalised data; no setting is ours."""
    cells = AnnData(adata.X.copy(), uns={"log1p": {"base": None}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(cells, n_top_genes=min(2000, cells.n_vars))
        sc.pp.pca(cells)
        sc.pp.neighbors(cells)
        sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False)
    return pd.Series(cells.obs["leiden"].to_numpy(str))


def named(adata: AnnData, found: Annotation) -> str:
    """Say how many clusters have a name, and how many would with shuffled genes."""
    x, clusters = csr_matrix(adata.X), found.clusters.to_numpy()
    generator = np.random.default_rng(0)
    by_chance = [
        sum(
            not n.reason for n in name_clusters(x, generator.permutation(adata.var_names), clusters)
        )
        for _ in range(N_SHUFFLES)
    ]
    n_named = sum(not n.reason for n in found.naming)
    share = np.mean(by_chance) / len(found.naming)
    return f"named {n_named} of {len(found.naming)}; with shuffled genes {100 * share:.1f} %"


if __name__ == "__main__":
    main()
