"""Parts of the cells that stand for all of them."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep_shares"]


def keep_shares(labels: NDArray[np.str_] | NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the sorted indices of a part of the cells that keeps densities, or of all of them.

    Parameters
    ----------
    labels
        Type of each cell, shape (n_cells,).
    most
        How many cells to take at most.

    Notes
    -----
    Every type keeps its share to within one cell, and inside a type the draw is uniform: on
    every map, the expected share of each region is what it was.
    """
    n_cells = len(labels)
    if n_cells <= most:
        return np.arange(n_cells)
    shuffled = np.random.default_rng(0).permutation(n_cells)
    by_type = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(by_type[np.arange(most) * n_cells // most])
