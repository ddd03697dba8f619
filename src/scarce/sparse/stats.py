"""Sums, means and variances over the cells of a CSR matrix, in float64."""

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["TARGET_SUM", "entries_per_gene", "mean_and_variance"]

TARGET_SUM = 1e4
"""Counts that log-normalised expression scales every cell to."""


def mean_and_variance(
    x: csr_matrix, *, rows: NDArray[np.int64] | None = None, correction: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the mean and the variance of each gene.

    Two passes over the nonzeros: the variance is
    :math:`(\sum_{x \ne 0} (x - m)^2 + n_0 m^2) / (n - c)`, never a difference of large numbers.

    Parameters
    ----------
    x
        Cells x genes.
    rows
        The cells to count; all of them if None. Nothing is copied.
    correction
        c: 0 for the population variance, 1 for the unbiased one.

    Returns
    -------
    Two arrays of shape (n_genes,), float64.
    """
    n_cells, n_genes = x.shape
    rows = np.arange(n_cells) if rows is None else rows
    n, sums = _power_sums(x.indptr, x.indices, x.data, rows, np.zeros(n_genes), 1)
    mean = sums / len(rows)
    _, squares = _power_sums(x.indptr, x.indices, x.data, rows, mean, 2)
    return mean, (squares + (len(rows) - n) * mean**2) / (len(rows) - correction)


def entries_per_gene(x: csr_matrix) -> NDArray[np.int64]:
    """Count the stored entries of each gene, shape (n_genes,)."""
    return _count(x.indices, x.shape[1])


@numba.njit(cache=True)
def _count(genes: NDArray[np.integer], n_genes: int) -> NDArray[np.int64]:
    counts = np.zeros(n_genes, np.int64)
    for gene in genes:
        counts[np.uintp(gene)] += 1
    return counts


@numba.njit(cache=True)
def _power_sums(
    starts: NDArray[np.integer],
    genes: NDArray[np.integer],
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    centre: NDArray[np.float64],
    power: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the entries of each gene, and sum the powers of their distance to `centre`."""
    counts, sums = np.zeros(len(centre), np.int64), np.zeros(len(centre))
    for row in rows:
        for entry in range(starts[row], starts[row + 1]):
            gene = np.uintp(genes[entry])
            counts[gene] += 1
            sums[gene] += (values[entry] - centre[gene]) ** power
    return counts, sums
