"""What a reader may look at cell by cell: how many are drawn, their quality, genes, clusters."""

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from scarce.annotate import RESOLUTION
from scarce.annotate.communities import communities, join_single_cells, to_graph
from scarce.annotate.graph import neighbours, shared_neighbours
from scarce.preprocess import mitochondrial, percent_mito, totals
from scarce.sparse.stats import mean_and_variance
from scarce.summary import Expression, Marker

__all__ = ["MOST_DRAWN", "expression", "leiden", "quality"]

MOST_DRAWN = 100_000
"""Cells drawn at most. More points than this hide one another and slow a browser down."""

_MOST_GENES = 3_000
_MOST_ENTRIES = 20_000_000
"""Counts kept at most; four times what one page has room for."""
_N_STARTS = 5


def quality(adata: AnnData) -> dict[str, NDArray[np.float64]]:
    """Return counts and genes found per cell, and the mitochondrial percentage if it is known.

    Parameters
    ----------
    adata
        With ``layers["counts"]``, all its genes.

    Returns
    -------
    Name to an array of shape (n_cells,): ``counts``, ``genes``, ``mitochondrial %``. The last
    is absent where no gene's name starts with ``MT-``.
    """
    counts = csr_matrix(adata.layers["counts"])
    found = {"counts": totals(counts), "genes": counts.getnnz(axis=1).astype(np.float64)}
    if mitochondrial(adata.var_names).any():
        found["mitochondrial %"] = percent_mito(counts, adata.var_names)
    return found


def expression(adata: AnnData, drawn: NDArray[np.int64], markers: tuple[Marker, ...]) -> Expression:
    """Return the counts of the genes worth looking at: markers, then the most variable ones.

    Parameters
    ----------
    adata
        With ``layers["counts"]`` and ``var["highly_variable"]``.
    drawn
        Cells to return, see `scarce.sampling.keep_shares`.
    markers
        From `scarce.annotate.marker_genes`.
    """
    genes = _ranked_genes(adata, markers)[:_MOST_GENES]
    counts = csc_matrix(adata.layers["counts"][drawn][:, genes], dtype=np.int32)
    counts.sort_indices()
    n_kept = int(np.searchsorted(counts.indptr, _MOST_ENTRIES, side="right")) - 1
    return Expression(adata.var_names[genes[:n_kept]].to_numpy(dtype=str), counts[:, :n_kept])


def leiden(z: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.int64]:
    """Return Leiden clusters of the cells in a latent space, largest first; shape (n_cells,).

    Parameters
    ----------
    z
        Codes, shape (n_cells, n_latent).
    seed
        Of the starts.

    Notes
    -----
    The graph, the modularity and the resolution are those of the reference clusters, see
    `scarce.annotate`; their number is found, not given.
    """
    nearest = neighbours(np.asarray(z, dtype=np.float64))
    graph = to_graph(shared_neighbours(nearest))
    found = communities(graph, resolution=RESOLUTION, n_starts=_N_STARTS, seed=seed)
    return join_single_cells(found.clusters, nearest)


def _ranked_genes(adata: AnnData, markers: tuple[Marker, ...]) -> NDArray[np.int64]:
    """Return positions of genes: the first marker of every group, the second, ..., the variable."""
    places: dict[str, int] = {}
    ranked: list[tuple[int, str]] = []
    for marker in markers:
        places[marker.group] = places.get(marker.group, -1) + 1
        ranked.append((places[marker.group], marker.gene))
    ranked.sort(key=lambda pair: pair[0])
    chosen = adata.var_names.get_indexer([gene for _, gene in ranked])
    return np.array(list(dict.fromkeys([*chosen, *_by_variability(adata)])), dtype=np.int64)


def _by_variability(adata: AnnData) -> NDArray[np.int64]:
    """Return the modelled genes, the most dispersed ones (variance over mean of counts) first."""
    modelled = np.flatnonzero(adata.var["highly_variable"].to_numpy())
    mean, variance = mean_and_variance(csr_matrix(adata.layers["counts"]))
    dispersion = variance / np.maximum(mean, np.finfo(float).tiny)
    order: NDArray[np.int64] = modelled[np.argsort(-dispersion[modelled], kind="stable")]
    return order
