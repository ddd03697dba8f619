r"""What a trained network makes of cells it never saw: explained variance, ELBO and IWAE.

With K codes :math:`z_k \sim q(z|x)` and weights :math:`w_k = p(x|z_k)\,p(z_k) / q(z_k|x)`,

.. math:: \mathrm{ELBO} = E[\log w_k] \le
          \mathrm{IWAE}_K = E\Big[\log \tfrac1K \textstyle\sum_k w_k\Big] \le \log p(x).
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from scarce.models.beta_vae import BetaVAENet
from scarce.models.beta_vsc import BetaVSCNet
from scarce.models.parts import LEAST_VARIANCE, Net

__all__ = ["bounds", "explained_variance"]

_LOG_2PI = math.log(2 * math.pi)
_ENTRIES = 2**23
"""Of the largest dense array: samples x cells x genes."""


def bounds(module: Net, x: csr_matrix, *, n_samples: int = 64, seed: int = 0) -> dict[str, float]:
    """Return the mean ELBO and IWAE of cells, in nats per cell.

    Parameters
    ----------
    module
        Trained network; gates are hard, and the weight beta of its loss plays no part, so
        that networks trained with different ones can be compared on the same cells and genes.
    x
        Log-normalised expression, shape (n_cells, n_genes).
    n_samples
        K, samples of the code per cell.
    seed
        Of the samples.

    Returns
    -------
    ``elbo`` and ``iwae``; empty for a network without a distribution over codes.

    Notes
    -----
    The likelihood is Gaussian with the network's variance per gene, or with variance 1 where
    it was trained on the plain squared error. Forms samples x cells x genes in blocks.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, eq. 8.
    """
    if not isinstance(module, BetaVAENet | BetaVSCNet):
        return {}
    generator = torch.Generator().manual_seed(seed)
    elbo, iwae = 0.0, 0.0
    module.eval()
    with torch.no_grad():
        for block in _blocks(x, n_samples):
            cells = torch.from_numpy(block.toarray())
            log_w = _log_weights(module, cells, n_samples, generator).double()
            elbo += float(log_w.mean(0).sum())
            iwae += float((log_w.logsumexp(0) - math.log(n_samples)).sum())
    return {"elbo": elbo / x.shape[0], "iwae": iwae / x.shape[0]}


def explained_variance(
    x: csr_matrix,
    mean: NDArray[np.floating],
    reconstruct: Callable[[csr_matrix], NDArray[np.floating]],
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
        From such cells to a dense array of their shape.
    """
    error, total = 0.0, 0.0
    for block in _blocks(x, 1):
        values = block.toarray().astype(np.float64)
        error += float(((values - reconstruct(block)) ** 2).sum())
        total += float(((values - mean) ** 2).sum())
    return 1 - error / total if total > 0 else float("nan")


def _blocks(x: csr_matrix, n_copies: int) -> Iterator[csr_matrix]:
    """Yield cells in blocks small enough to be held dense so many times."""
    size = max(1, _ENTRIES // (n_copies * x.shape[1]))
    for start in range(0, x.shape[0], size):
        yield x[start : start + size]


def _log_weights(
    module: BetaVAENet | BetaVSCNet, x: Tensor, n_samples: int, generator: torch.Generator
) -> Tensor:
    """Return log w, shape (n_samples, n_cells)."""
    features = module.body.features(x)
    shape = (n_samples, x.shape[0], module.mu.out_features)
    mu = module.mu(features).expand(shape)
    log_var = module.log_var(features).clamp(-10, 10).expand(shape)
    z = mu + (0.5 * log_var).exp() * torch.randn(shape, generator=generator, dtype=mu.dtype)
    # log N(z; 0, 1) - log N(z; mu, s^2); the two factors of 2 pi cancel.
    ratio = 0.5 * ((z - mu).square() / log_var.exp() + log_var - z.square())
    if isinstance(module, BetaVSCNet):
        logit = module.logit(features).expand(shape)
        uniform = torch.rand(shape, generator=generator, dtype=z.dtype)
        on = uniform < logit.sigmoid()
        ratio = torch.where(
            on,
            ratio + math.log(module.alpha) - F.logsigmoid(logit),
            math.log1p(-module.alpha) - F.logsigmoid(-logit),
        )
        z = z * on
    log_w: Tensor = ratio.sum(2) + _log_likelihood(module, x, z)
    return log_w


def _log_likelihood(module: Net, x: Tensor, z: Tensor) -> Tensor:
    """Return log p(x|z), shape (n_samples, n_cells)."""
    x_hat = module.decode(z.flatten(0, 1)).view(*z.shape[:2], -1)
    error = (x_hat - x).square()
    noise: Tensor | None = module.body.log_variance
    if noise is None:
        return -0.5 * (error.sum(2) + x.shape[1] * _LOG_2PI)
    noise = noise.clamp_min(math.log(LEAST_VARIANCE))
    return -0.5 * (error @ (-noise).exp() + (noise + _LOG_2PI).sum())
