"""Clusters of a graph: modularity maximised from many starts."""

from typing import NamedTuple

import igraph
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from scarce.cluster import seeded

__all__ = ["Partition", "climb", "communities", "join_single_cells", "to_graph"]

_N_ROUNDS = 2
_N_BEST = 5


class Partition(NamedTuple):
    """A clustering of the cells of a graph."""

    clusters: NDArray[np.int64]
    """Cluster of each cell, from 0, largest first; shape (n_cells,)."""
    modularity: float


def communities(
    graph: igraph.Graph, *, resolution: float, n_starts: int = 30, seed: int = 0
) -> Partition:
    r"""Return the best of many clusterings that each maximise modularity.

    Parameters
    ----------
    graph
        From `to_graph`.
    resolution
        :math:`\gamma`; more gives more clusters.
    n_starts
        Random starts.
    seed
        Of all starts.

    Notes
    -----
    Modularity is :math:`Q = \frac{1}{2m}\sum_c (e_c - \gamma\, d_c^2 / 2m)`, with e_c twice the
    weight within cluster c, d_c the sum of its degrees and m the weight of all edges: Seurat's.
    Seurat climbs it by Louvain from ten starts. This climbs by two rounds of Leiden from each
    start, and from the best five on until nothing moves, which reaches a higher Q in less time
    (``python -m benchmarks.optimisers``).

    References
    ----------
    Traag, Waltman & van Eck, "From Louvain to Leiden", Sci. Rep. 2019.
    """
    seeds = [int(s) for s in np.random.default_rng(seed).integers(2**62, size=n_starts)]
    found = [climb(graph, resolution=resolution, seed=s) for s in seeds]
    best = sorted(zip(found, seeds, strict=True), key=lambda pair: -pair[0].modularity)[:_N_BEST]
    ends = (climb(graph, resolution=resolution, seed=s, start=f.clusters) for f, s in best)
    return max(ends, key=lambda end: end.modularity)


def climb(
    graph: igraph.Graph,
    *,
    resolution: float,
    seed: int,
    start: NDArray[np.int64] | None = None,
) -> Partition:
    """Climb modularity by two rounds of Leiden, or to the top from a clustering that is given."""
    with seeded(seed):
        membership = graph.community_leiden(
            "modularity",
            weights="weight",
            resolution=resolution,
            initial_membership=None if start is None else start.tolist(),
            n_iterations=_N_ROUNDS if start is None else -1,
        ).membership
    modularity = graph.modularity(membership, weights="weight", resolution=resolution)
    return Partition(_by_size(np.asarray(membership)), float(modularity))


def to_graph(edges: coo_matrix) -> igraph.Graph:
    """Return the upper triangle of a symmetric matrix as a graph with weights."""
    # igraph reads lists of Python numbers five times as fast as arrays.
    pairs = np.column_stack([edges.row, edges.col]).tolist()
    graph = igraph.Graph(n=edges.shape[0], edges=pairs)
    graph.es["weight"] = edges.data.tolist()
    return graph


def join_single_cells(clusters: NDArray[np.int64], nearest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put each cluster of one cell into the one most of that cell's neighbours are in.

    Parameters
    ----------
    clusters
        Cluster of each cell, shape (n_cells,).
    nearest
        Neighbours of each cell, shape (n_cells, k).

    Returns
    -------
    The clusters, numbered again by size. Seurat chooses by the weight of shared neighbours,
    and at random where a cell shares none.
    """
    sizes = np.bincount(clusters)
    joined = clusters.copy()
    for cell in np.flatnonzero(sizes[clusters] == 1):
        around = clusters[nearest[cell]]
        around = around[sizes[around] > 1]
        if len(around):
            joined[cell] = np.bincount(around).argmax()
    return _by_size(joined)


def _by_size(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number clusters from the largest; of equal ones, the one whose cell comes first."""
    _, first, clusters, sizes = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[clusters]
