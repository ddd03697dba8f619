"""Who shares neighbours with whom: the graph that Seurat clusters."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, triu, vstack
from scipy.spatial import KDTree

__all__ = ["neighbours", "shared_neighbours"]

_PRUNE = 1 / 15
_BLOCK = 20_000
"""Cells whose overlaps are in memory before pruning: 100 MB where 20 neighbours each."""


def neighbours(points: NDArray[np.float64], k: int = 20) -> NDArray[np.int64]:
    """Return the k nearest cells of each cell, itself among them.

    Parameters
    ----------
    points
        Components, shape (n_cells, n_components).
    k
        At most as many as there are cells.

    Returns
    -------
    Array of shape (n_cells, k). Exact (a tree over Euclidean space), as Seurat 3 had it; later
    versions search approximately.
    """
    n_cells = len(points)
    k = min(k, n_cells)
    _, nearest = KDTree(points).query(points, k, workers=-1)
    nearest = nearest.reshape(n_cells, k).astype(np.int64)
    # Among more than k identical cells the cell itself may be missing.
    missing = ~(nearest == np.arange(n_cells)[:, None]).any(axis=1)
    nearest[missing, -1] = np.flatnonzero(missing)
    return nearest


def shared_neighbours(nearest: NDArray[np.int64]) -> coo_matrix:
    """Return the edges between cells that share neighbours, weighted by Jaccard's index.

    Parameters
    ----------
    nearest
        From `neighbours`, shape (n_cells, k).

    Returns
    -------
    Upper triangle of shape (n_cells, n_cells): s / (2k - s) for cells that share s of their k
    neighbours, without the diagonal and without weights below 1/15.

    Notes
    -----
    Seurat's SNN. scanpy's connectivities are other weights (UMAP's) on other edges.
    """
    n_cells, k = nearest.shape
    starts = np.arange(0, nearest.size + 1, k)
    ones = np.ones(nearest.size, dtype=np.int32)
    member = csr_matrix((ones, nearest.ravel(), starts), shape=(n_cells, n_cells))
    transposed = member.T.tocsr()
    blocks = []
    for start in range(0, n_cells, _BLOCK):
        shared = triu(member[start : start + _BLOCK] @ transposed, 1 + start, format="csr")
        shared.data = shared.data / (2 * k - shared.data)
        shared.data[shared.data < _PRUNE] = 0
        shared.eliminate_zeros()
        blocks.append(shared)
    return coo_matrix(vstack(blocks))
