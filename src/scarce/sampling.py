"""Parts of the cells: to stand for all of them, or to be kept back."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep_shares", "seen_cells"]


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


def seen_cells(n_cells: int, unseen: float, seed: int) -> NDArray[np.bool_]:
    """Mark the cells to fit on; at least two.

    Parameters
    ----------
    n_cells
        How many there are.
    unseen
        Share of them to keep back.
    seed
        Of the draw.
    """
    order = np.random.default_rng([seed, 1]).permutation(n_cells)
    rows = np.ones(n_cells, bool)
    rows[order[: min(round(unseen * n_cells), n_cells - 2)]] = False
    return rows
