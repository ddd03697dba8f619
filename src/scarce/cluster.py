"""k-means and Leiden clusters in any space."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, triu
from sklearn.cluster import KMeans
from sklearn.neighbors import kneighbors_graph
from threadpoolctl import threadpool_limits

__all__ = ["Clusters", "kmeans", "leiden", "seeded"]

_NEIGHBOURS = 15
_STEPS = 24
"""Halvings of the interval of resolutions: beyond them, its ends differ by a millionth."""


class Clusters(NamedTuple):
    """A partition of cells, and its centres."""

    labels: NDArray[np.int64]
    """Cluster of each cell, from 0, largest cluster first; shape (n_cells,)."""
    centroids: NDArray[np.float64]
    """Shape (n_clusters, n_dims)."""


def kmeans(z: NDArray[np.floating], n_clusters: int, *, seed: int = 0) -> Clusters:
    """Partition cells by k-means, the best of 20 starts by k-means++.

    Parameters
    ----------
    z
        Points, shape (n_cells, n_dims).
    n_clusters
        k; at most the number of distinct points.
    seed
        Of the starts. One thread is used, so that sums have one order and results one value.
    """
    z = np.asarray(z, dtype=np.float64)
    n_clusters = min(n_clusters, len(np.unique(z, axis=0)))
    with threadpool_limits(1):
        model = KMeans(n_clusters, n_init=20, random_state=seed).fit(z)
    return _by_size(model.labels_, model.cluster_centers_)


def leiden(z: NDArray[np.floating], n_clusters: int, *, seed: int = 0) -> Clusters:
    """Partition cells by the Leiden algorithm, at a resolution that gives `n_clusters`.

    The graph joins each cell to its 15 nearest neighbours; an edge weighs as much as the two
    cells share neighbours (Jaccard index). The resolution of the modularity is found by
    bisection.

    Parameters
    ----------
    z
        Points, shape (n_cells, n_dims).
    n_clusters
        Clusters wanted. Where no resolution tried gives that number, the nearest number that
        one gave is taken; the smaller one of two. Identical cells are one cluster.
    seed
        Of the optimiser.

    References
    ----------
    Traag, Waltman & van Eck, Sci. Rep. 2019 (Leiden); Levine et al., Cell 2015 (the graph).
    """
    import igraph

    if (z == z[0]).all():
        return Clusters(np.zeros(len(z), np.int64), np.asarray(z[:1], np.float64))
    edges = _shared_neighbours(z)
    graph = igraph.Graph(n=len(z), edges=np.column_stack(edges.nonzero()).tolist())

    def clusters_at(resolution: float) -> NDArray[np.int64]:
        with seeded(seed):  # every call alike, so that only the resolution differs
            found = graph.community_leiden(
                "modularity", weights=edges.data, resolution=resolution, n_iterations=10
            )
        return np.asarray(found.membership, dtype=np.int64)

    labels = _search(clusters_at, n_clusters)
    centroids = np.stack([z[labels == k].mean(0, np.float64) for k in range(labels.max() + 1)])
    return _by_size(labels, centroids)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let igraph draw from a generator of its own; its default is Python's global one."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)


def _search(
    clusters_at: Callable[[float], NDArray[np.int64]], n_clusters: int
) -> NDArray[np.int64]:
    """Bisect the logarithm of the resolution; keep the partition nearest to `n_clusters`."""
    low, high, middle = np.log(1e-3), np.log(1e2), 0.0
    tried: list[NDArray[np.int64]] = []
    for _ in range(_STEPS):
        tried.append(clusters_at(np.exp(middle)))
        n_found = tried[-1].max() + 1
        if n_found == n_clusters:
            break
        low, high = (middle, high) if n_found < n_clusters else (low, middle)
        middle = (low + high) / 2
    return min(tried, key=lambda labels: (abs(labels.max() + 1 - n_clusters), labels.max()))


def _shared_neighbours(z: NDArray[np.floating]) -> csr_matrix:
    """Edges between neighbours, above the diagonal, weighted by the Jaccard index."""
    n_neighbors = min(_NEIGHBOURS, len(z) - 1)
    with threadpool_limits(1):
        near = csr_matrix(kneighbors_graph(z, n_neighbors, include_self=False))
    near.setdiag(1)
    near.sort_indices()
    joined = csr_matrix(near.maximum(near.T))
    shared = csr_matrix((near @ near.T).multiply(joined))
    shared.data /= 2 * (n_neighbors + 1) - shared.data
    upper = csr_matrix(triu(shared, k=1))
    upper.eliminate_zeros()
    upper.sort_indices()
    return upper


def _by_size(labels: NDArray[np.integer], centroids: NDArray[np.float64]) -> Clusters:
    """Number clusters from the largest to the smallest."""
    order = np.argsort(-np.bincount(labels, minlength=len(centroids)), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(centroids))
    return Clusters(rank[labels], centroids[order])
