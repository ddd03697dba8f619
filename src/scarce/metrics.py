"""Agreement of a clustering with reference labels, and of a space with the labels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

__all__ = ["agreement", "silhouette"]

_SILHOUETTE_CELLS = 10_000
"""Above this many cells the silhouette is taken on a random sample: its cost is quadratic."""


def agreement(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float]:
    """Compare two partitions of the same cells.

    Parameters
    ----------
    labels
        Reference type of each cell, shape (n_cells,).
    clusters
        Cluster of each cell, shape (n_cells,).

    Returns
    -------
    ``nmi`` (normalised by the arithmetic mean of the entropies), ``ari``, ``homogeneity``
    and ``completeness``: 1 for the same partition. NMI, homogeneity and completeness grow
    with the number of clusters; ARI is corrected for chance.

    References
    ----------
    Vinh et al., JMLR 2010 (NMI); Hubert & Arabie, J. Classif. 1985 (ARI); Rosenberg &
    Hirschberg, EMNLP 2007 (homogeneity, completeness).
    """
    homogeneity, completeness, nmi = sk.homogeneity_completeness_v_measure(labels, clusters)
    return {
        "nmi": float(nmi),
        "ari": float(sk.adjusted_rand_score(labels, clusters)),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
    }


def silhouette(z: NDArray[np.floating], labels: ArrayLike, *, seed: int = 0) -> float:
    """Return the mean silhouette of the labels in a space, from -1 to 1.

    Parameters
    ----------
    z
        Points, shape (n_cells, n_dims). Above 10,000 cells a random sample stands for all.
    labels
        Reference type of each cell.
    seed
        Of the sample.

    Returns
    -------
    NaN where it is undefined: fewer than two labels, or as many labels as cells.
    """
    labels = np.asarray(labels)
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    size = _SILHOUETTE_CELLS if len(labels) > _SILHOUETTE_CELLS else None
    return float(sk.silhouette_score(z, labels, sample_size=size, random_state=seed))
