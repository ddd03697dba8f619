r"""What becomes of cells that no fit saw: how much of them is explained, ELBO and IWAE.

With K codes :math:`z_k \sim q(z|x)` and weights :math:`w_k = p(x|z_k)\,p(z_k) / q(z_k|x)`,

.. math:: \mathrm{ELBO} = E[\log w_k] \le
          \mathrm{IWAE}_K = E\Big[\log \tfrac1K \textstyle\sum_k w_k\Big] \le \log p(x).
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

from scarce.models.parts import Net
from scarce.sparse.batches import Batch
from scarce.sparse.stats import mean_and_variance

__all__ = ["bounds", "explained_by_neighbours", "explained_variance"]

_ENTRIES = 2**23
"""Of the largest dense array: samples x cells x genes."""


def bounds(
    module: Net,
    x: csr_matrix,
    covariates: NDArray[np.floating] | None = None,
    *,
    n_samples: int = 64,
    seed: int = 0,
) -> dict[str, float]:
    """Return the mean ELBO and IWAE of cells, in nats per cell.

    Parameters
    ----------
    module
        Trained network; gates are hard, and the weight beta of its loss plays no part, so
        that networks trained with different ones can be compared on the same cells and genes.
    x
        What the network was trained on, log-normalised expression or counts, shape
        (n_cells, n_genes).
    covariates
        Shape (n_cells, C), if it knows of any.
    n_samples
        K, samples of the code per cell.
    seed
        Of the samples.

    Returns
    -------
    ``elbo`` and ``iwae``; empty for a network without a distribution over codes or a density
    of cells.

    Notes
    -----
    A network trained on the plain squared error is read as a Gaussian with variance 1.
    Densities of log-normalised expression and probabilities of counts are not comparable.
    Forms samples x cells x genes in blocks.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, eq. 8.
    """
    if not module.bounded:
        return {}
    known = np.empty((x.shape[0], 0), np.float32) if covariates is None else covariates
    generator = torch.Generator().manual_seed(int(seed))
    elbo, iwae = 0.0, 0.0
    module.eval()
    with torch.no_grad():
        for rows in _blocks(x, n_samples):
            dense, beside = torch.from_numpy(x[rows].toarray()), torch.from_numpy(known[rows])
            log_w = _log_weights(module, dense, beside, n_samples, generator).double()
            elbo += float(log_w.mean(0).sum())
            iwae += float((log_w.logsumexp(0) - math.log(n_samples)).sum())
    return {"elbo": elbo / x.shape[0], "iwae": iwae / x.shape[0]}


def explained_variance(
    x: csr_matrix,
    mean: NDArray[np.floating],
    reconstruct: Callable[[slice], NDArray[np.floating]],
) -> float:
    r"""Return the share of the variance around the gene means that a reconstruction explains.

    :math:`1 - \sum (x - \hat x)^2 / \sum (x - m)^2`: 0 for the gene means themselves, 1 for
    the data; comparable between methods on the same cells and genes.

    Parameters
    ----------
    x
        Cells the method never saw, log-normalised, shape (n_cells, n_genes).
    mean
        m: gene means of the cells the method was fitted on, shape (n_genes,).
    reconstruct
        From some rows of `x`, which it is told of as a slice, to a dense array of their shape.
    """
    error, total = 0.0, 0.0
    for rows in _blocks(x, 1):
        values = x[rows].toarray().astype(np.float64)
        error += float(((values - reconstruct(rows)) ** 2).sum())
        total += float(((values - mean) ** 2).sum())
    return 1 - error / total if total > 0 else float("nan")


def explained_by_neighbours(
    x: csr_matrix, z: NDArray[np.floating], seen: NDArray[np.bool_], *, n_neighbors: int = 15
) -> float:
    """Return the `explained_variance` of unseen cells by the means of their seen neighbours.

    It judges a code without labels and without a decoder: any two codes of the same cells can be
    compared, by genes that need not be those they were made from.

    Parameters
    ----------
    x
        Log-normalised expression of all cells, shape (n_cells, n_genes).
    z
        Their codes, shape (n_cells, n_latent), in which they are near or far.
    seen
        Cells that the code was fitted on, shape (n_cells,).
    n_neighbors
        Of each unseen cell; at most all that were seen.
    """
    known = x[seen]
    with threadpool_limits(1):
        near = NearestNeighbors(n_neighbors=min(n_neighbors, known.shape[0]))
        near.fit(np.asarray(z[seen], np.float64))
        # One row per unseen cell, with a one for each of its neighbours.
        chosen = near.kneighbors_graph(np.asarray(z[~seen], np.float64))
    mean, _ = mean_and_variance(known)
    return explained_variance(
        x[~seen], mean, lambda rows: (chosen[rows] @ known).toarray() / near.n_neighbors
    )


def _blocks(x: csr_matrix, n_copies: int) -> Iterator[slice]:
    """Yield rows in blocks small enough to be held dense so many times."""
    size = max(1, _ENTRIES // (n_copies * x.shape[1]))
    for start in range(0, x.shape[0], size):
        yield slice(start, start + size)


def _log_weights(
    module: Net, x: Tensor, known: Tensor, n_samples: int, generator: torch.Generator
) -> Tensor:
    """Return log w, shape (n_samples, n_cells)."""
    z, log_ratio = module.importance_samples(Batch(x, known), n_samples, generator)
    return log_ratio + module.body.likelihood.log_prob(x, module.body.hidden(z, known))
