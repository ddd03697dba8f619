"""From normalised counts to named clusters: the steps of Seurat's tutorial in order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce import check
from scarce.annotate.communities import communities, join_single_cells, to_graph
from scarce.annotate.components import components
from scarce.annotate.graph import neighbours, shared_neighbours
from scarce.annotate.naming import PBMC, Markers, name_clusters
from scarce.annotate.stability import recommend, sweep
from scarce.preprocess import variable_genes
from scarce.summary import Naming, Stability

__all__ = ["RESOLUTION", "Annotation", "annotate"]

RESOLUTION = 0.5
"""Of Seurat's tutorial on PBMC3k."""

_N_GENES = 2_000
_N_COMPONENTS = 10


@dataclass(frozen=True)
class Annotation:
    """Clusters of cells, their names, and what speaks for both."""

    clusters: pd.Series
    """Cluster of each cell, from 0, largest first; indexed by cell name."""
    naming: tuple[Naming, ...]
    """One entry per cluster."""
    resolution: float
    modularity: float
    n_edges: int
    """Pairs of cells that share neighbours."""
    stability: tuple[Stability, ...]
    """Resolutions that were tried; empty if the user gave one."""
    recommended: float | None
    """The resolution `stability` speaks for; None if the user gave one."""
    note: str | None = None
    """What a reader should know about the choice of genes."""

    @property
    def cell_types(self) -> pd.Series:
        """Name of each cell's cluster, as strings, indexed by cell name."""
        names = {name.cluster: name.cell_type for name in self.naming}
        return self.clusters.map(names).astype(str).rename("cell_type")


def annotate(
    adata: AnnData, *, markers: Markers = PBMC, resolution: float | None = None, seed: int = 0
) -> Annotation:
    """Cluster cells as Seurat does, and name the clusters by marker genes.

    Parameters
    ----------
    adata
        Log-normalised ``X`` and ``layers["counts"]``, as `scarce.preprocess.normalise` leaves
        them. Not modified.
    markers
        Cell type to its genes; those of human blood by default. See `name_clusters`.
    resolution
        Of the clustering; more gives more clusters. None: 0.5, and the resolutions around it
        are tried for how well their clusters come back, see `sweep`. The one recommended then
        is for the user to weigh: it is not used unasked.
    seed
        Of the starts of the optimiser, and of subsamples.

    Returns
    -------
    The same for the same seed. Such labels favour PCA in any comparison.

    Raises
    ------
    InputError
        If the resolution is not above 0.

    Notes
    -----
    The 2,000 most variable genes (vst on counts: Seurat's and scanpy's ``seurat_v3`` agree);
    standardised and clipped at 10; 10 principal components; 20 nearest cells, the cell itself
    among them; edges by shared neighbours; modularity, best of 30 starts. Where Seurat, scanpy
    and this package differ is said at each step: `components`, `neighbours`,
    `shared_neighbours`, `communities`. Cost grows with the cells, in time and memory alike,
    and never with cells x genes.
    """
    if resolution is not None:
        check.in_range("resolution", resolution, above=0)
    x, note = _variable(adata)
    points = components(x, _N_COMPONENTS)
    nearest = neighbours(points)
    edges = shared_neighbours(nearest)
    found = communities(to_graph(edges), resolution=resolution or RESOLUTION, seed=seed)
    clusters = join_single_cells(found.clusters, nearest)
    tried = () if resolution is not None else sweep(points, seed=seed)
    return Annotation(
        clusters=pd.Series(clusters, index=adata.obs_names, name="cluster"),
        naming=name_clusters(csr_matrix(adata.X), adata.var_names, clusters, markers),
        resolution=resolution or RESOLUTION,
        modularity=found.modularity,
        n_edges=edges.nnz,
        stability=tried,
        recommended=recommend(tried) if tried else None,
        note=note,
    )


def _variable(adata: AnnData) -> tuple[csr_matrix, str | None]:
    """Return the expression of the most variable genes, and what to note about their choice."""
    counts = adata.layers["counts"]
    bare = AnnData(counts, layers={"counts": counts})
    note = variable_genes(bare, _N_GENES)
    chosen: NDArray[np.bool_] = bare.var["highly_variable"].to_numpy()
    return csr_matrix(adata.X[:, chosen]), note
