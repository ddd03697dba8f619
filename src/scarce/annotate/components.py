"""Principal components as Seurat scores them, without ever forming the scaled table."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import svd_flip
from threadpoolctl import threadpool_limits

from scarce.preprocess import Scaling

__all__ = ["components"]


def components(x: csr_matrix, n_components: int = 10) -> NDArray[np.float64]:
    """Return the scores U D of the first principal components of the scaled table.

    Parameters
    ----------
    x
        Log-normalised expression of the variable genes, cells x genes.
    n_components
        At most as many as there are genes.

    Returns
    -------
    Array of shape (n_cells, n_components). The largest loading of each component is positive.

    Notes
    -----
    Exact: eigenvectors of the genes x genes Gram matrix S'S + s b' + b s' + n b b', where S is
    the sparse part, s its column sums and b the offset. Cost: the squared nonzeros of each
    cell, and the cube of the genes. As in Seurat, columns are not centred again after
    clipping; scanpy and scikit-learn centre them. Seurat's own solver (irlba) is iterative and
    differs in components as close as the tenth and eleventh often are.
    """
    scaling = Scaling.of(x)
    sparse, offset = scaling.entries(csr_matrix(x, dtype=np.float64)), scaling.base
    sums = np.asarray(sparse.sum(axis=0)).ravel()
    gram = (sparse.T @ sparse).toarray()
    gram += np.outer(sums, offset) + np.outer(offset, sums)
    gram += len(sparse.indptr[1:]) * np.outer(offset, offset)
    n_genes = len(gram)
    chosen = [max(0, n_genes - n_components), n_genes - 1]
    with threadpool_limits(1):  # one order of sums, whatever the machine
        _, vectors = eigh(gram, subset_by_index=chosen)
        vectors = vectors[:, ::-1]
        vectors, _ = svd_flip(vectors, vectors.T)
        scores: NDArray[np.float64] = sparse @ vectors + offset @ vectors
    return scores
