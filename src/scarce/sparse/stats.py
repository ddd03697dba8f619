"""Sums, means and variances over the cells of a CSR matrix, in float64."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["mean_and_variance"]


def mean_and_variance(
    x: csr_matrix, *, correction: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the mean and the variance of each gene.

    Two passes over the nonzeros: the variance is
    :math:`(\sum_{x \ne 0} (x - m)^2 + n_0 m^2) / (n - c)`, never a difference of large numbers.

    Parameters
    ----------
    x
        Cells x genes.
    correction
        c: 0 for the population variance, 1 for the unbiased one.

    Returns
    -------
    Two arrays of shape (n_genes,), float64.
    """
    n_cells, n_genes = x.shape
    values = x.data.astype(np.float64)
    mean = np.bincount(x.indices, values, n_genes) / n_cells
    squares = np.bincount(x.indices, (values - mean[x.indices]) ** 2, n_genes)
    n_zero = n_cells - np.bincount(x.indices, minlength=n_genes)
    return mean, (squares + n_zero * mean**2) / (n_cells - correction)
