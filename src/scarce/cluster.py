"""k-means in any space."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

__all__ = ["Clusters", "kmeans"]


class Clusters(NamedTuple):
    """A partition of cells, and its centres."""

    labels: NDArray[np.int64]
    """Cluster of each cell, from 0, largest cluster first; shape (n_cells,)."""
    centroids: NDArray[np.float64]
    """Shape (n_clusters, n_dims)."""


def kmeans(
    z: NDArray[np.floating], n_clusters: int, *, n_init: int = 20, seed: int = 0
) -> Clusters:
    """Partition cells by k-means, the best of `n_init` starts.

    Parameters
    ----------
    z
        Points, shape (n_cells, n_dims).
    n_clusters
        k; at most the number of distinct points.
    n_init
        k-means++ starts.
    seed
        Of the starts. One thread is used, so that sums have one order and results one value.
    """
    z = np.asarray(z, dtype=np.float64)
    n_clusters = min(n_clusters, len(np.unique(z, axis=0)))
    with threadpool_limits(1):
        model = KMeans(n_clusters, n_init=n_init, random_state=seed).fit(z)
    order = np.argsort(-np.bincount(model.labels_, minlength=n_clusters), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(n_clusters)
    return Clusters(rank[model.labels_], model.cluster_centers_[order])
