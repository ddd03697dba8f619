"""Agreement of a clustering with reference labels, and of a space with the labels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

__all__ = [
    "active_units",
    "agreement",
    "are_active",
    "batch_mixing",
    "neighbour_agreement",
    "silhouette",
]

_SILHOUETTE_CELLS = 10_000
"""Above this many cells the silhouette is taken on a random sample: its cost is quadratic."""

_ACTIVE = 0.01
"""Variance over cells above which a unit is active."""


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
    NaN where it is undefined: fewer than two labels, or as many labels as cells, in the sample.
    """
    labels = np.asarray(labels)
    if len(labels) > _SILHOUETTE_CELLS:
        sample = np.random.default_rng(seed).choice(len(labels), _SILHOUETTE_CELLS, replace=False)
        z, labels = z[sample], labels[sample]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(sk.silhouette_score(z, labels))


def neighbour_agreement(
    z: NDArray[np.floating], labels: ArrayLike, *, n_neighbors: int = 15
) -> dict[str, float]:
    r"""Predict the type of each cell from its nearest neighbours, every type counting the same.

    Parameters
    ----------
    z
        Points, shape (n_cells, n_dims).
    labels
        Reference type of each cell, shape (n_cells,).
    n_neighbors
        Neighbours that vote, the cell itself left out; at most all other cells. Between types
        with as many votes, the first in sorted order wins.

    Returns
    -------
    ``knn_balanced_accuracy``, the mean over types of the share of their cells found again, and
    ``knn_macro_f1``, the mean over types of :math:`2 TP / (2 TP + FP + FN)`. A type of half as
    many cells as there are neighbours cannot be found, in any space.
    """
    types, codes = np.unique(np.asarray(labels), return_inverse=True)
    counts = _neighbour_counts(z, codes, n_neighbors)
    found = counts.argmax(1)
    hits = np.bincount(codes[found == codes], minlength=len(types))
    n_true, n_found = (np.bincount(c, minlength=len(types)) for c in (codes, found))
    return {
        "knn_balanced_accuracy": float((hits / n_true).mean()),
        "knn_macro_f1": float((2 * hits / (n_true + n_found)).mean()),
    }


def batch_mixing(z: NDArray[np.floating], batch: ArrayLike, *, n_neighbors: int = 30) -> float:
    r"""Return how well batches mix among nearest neighbours, from 0 (apart) to 1.

    With :math:`p_{ib}` the share of batch b, of B batches, among the k nearest neighbours of
    cell i, the cell itself left out: :math:`1 / \sum_b p_{ib}^2` is the number of batches that
    cell i meets, and this the mean of
    :math:`\big(1 / \sum_b p_{ib}^2 - 1\big) / (B - 1)` over cells.

    Parameters
    ----------
    z
        Points, shape (n_cells, n_dims).
    batch
        Batch of each cell, shape (n_cells,): at least two.
    n_neighbors
        k; at most all other cells.

    Notes
    -----
    That is the local inverse Simpson's index, scaled as in scIB, with k neighbours that count
    the same in place of weights that fall with distance, and a mean in place of a median. 1
    needs batches of one size: a random code shows what these batches can reach. Batches with
    different cell types should not mix wholly.

    References
    ----------
    Korsunsky et al., Nat. Methods 2019 (LISI); Luecken et al., Nat. Methods 2022 (scIB).
    """
    batches, codes = np.unique(np.asarray(batch), return_inverse=True)
    counts = _neighbour_counts(z, codes, n_neighbors)
    shares = counts / counts.sum(1, keepdims=True)
    return float((1 / (shares**2).sum(1) - 1).mean() / (len(batches) - 1))


def active_units(z: NDArray[np.floating]) -> int:
    """Count the units of a code whose variance over cells is above 0.01.

    Parameters
    ----------
    z
        Posterior means, shape (n_cells, n_latent). The bound is on the scale of a standard
        normal prior; for codes without a prior it says only that a unit is not constant.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, section 5.
    """
    return int(are_active(z).sum())


def are_active(z: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Mark the active units of a code, see `active_units`; shape (n_latent,)."""
    return np.var(z, axis=0, dtype=np.float64) > _ACTIVE  # type: ignore[no-any-return]


def _neighbour_counts(
    z: NDArray[np.floating], codes: NDArray[np.int64], n_neighbors: int
) -> NDArray[np.int64]:
    """Count each code among the nearest other cells, shape (n_cells, n_codes)."""
    n_neighbors = min(n_neighbors, len(codes) - 1)
    with threadpool_limits(1):
        near = NearestNeighbors(n_neighbors=n_neighbors).fit(np.asarray(z, np.float64))
        found = codes[near.kneighbors(return_distance=False)]
    return np.stack([(found == code).sum(1) for code in range(codes.max() + 1)], axis=1)
