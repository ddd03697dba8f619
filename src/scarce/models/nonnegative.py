"""Non-negative programmes: where a code whose units have a weight per gene begins."""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

__all__ = ["nonnegative_programmes"]


def nonnegative_programmes(x: csr_matrix, n_programmes: int, *, seed: int) -> NDArray[np.float32]:
    """Return what a few non-negative parts of cells add where they are in use.

    Non-negative matrix factorisation: quick, and close to a sparse code, from which a network
    goes on. From random weights Linear VSC ended in dense factors.

    Parameters
    ----------
    x
        Log-normalised expression, n_cells x n_genes.
    n_programmes
        How many; more than cells or genes allow are zero.
    seed
        Of the factorisation.

    Returns
    -------
    Array of shape (n_genes, n_programmes).
    """
    n_found = min(n_programmes, *x.shape)
    model = NMF(n_found, init="nndsvda", max_iter=100, tol=1e-3, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not be an optimum
        activity = model.fit_transform(x)
    in_use = activity > 0.2 * activity.max(0)
    level = (activity * in_use).sum(0) / np.maximum(1, in_use.sum(0))
    programmes = np.zeros((x.shape[1], n_programmes), np.float32)
    programmes[:, :n_found] = model.components_.T * level
    return programmes
