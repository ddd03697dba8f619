"""Likelihoods of log-normalised expression: squared error and Gaussians, linear in h."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.likelihoods.likelihood import Likelihood
from scarce.sparse.batches import Matrix
from scarce.sparse.ops import squared_error

__all__ = ["LEAST_VARIANCE", "Gaussian", "SharedGaussian", "SquaredError"]

_LOG_2PI = math.log(2 * math.pi)
LEAST_VARIANCE = 0.01
"""Floor of a gene's noise variance: a gene absent from the training cells must not make one
held-out cell that has it infinitely surprising. One count is about 1.8 on the log scale."""


class SquaredError(Likelihood):
    r"""Plain squared error, as in the course report: :math:`\sum_g (x_g - \hat x_g)^2`.

    That is twice a Gaussian's -log p with variance 1, up to a constant.
    """

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Do nothing: the report's networks begin at random."""

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return the squared error per cell."""
        return squared_error(x, h, self.weight) / x.shape[0]

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return that of a Gaussian with variance 1."""
        return -0.5 * ((self._linear(h) - x).square() + _LOG_2PI).sum(-1)


class SharedGaussian(Likelihood):
    r"""Gaussian with one variance, at its optimum in every batch: the sigma-VAE.

    With :math:`s = \mathrm{SSE}/(BG)` the loss per cell is :math:`\frac G2(\log 2\pi s + 1)`.
    Outside of training s is its running mean.

    References
    ----------
    Rybkin, Daniilidis, Levine, "Simple and effective VAE training with calibrated
    decoders", ICML 2021.
    """

    variance: Tensor

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__(n_genes, n_hidden)
        self.register_buffer("variance", torch.ones(()))

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Begin at the genes' means and the mean of their variances."""
        with torch.no_grad():
            self.weight[:, -1] = mean
            self.variance.copy_(variance.mean())

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return -log p(x | h) per cell; in training, at the best variance for the batch."""
        n_genes = x.shape[1]
        error = squared_error(x, h, self.weight) / (x.shape[0] * n_genes)
        if not self.training:
            return 0.5 * n_genes * (error / self.variance + self.variance.log() + _LOG_2PI)
        with torch.no_grad():
            self.variance.lerp_(error, 0.1)
        return 0.5 * n_genes * (error.log() + 1 + _LOG_2PI)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return that of the running variance."""
        error = (self._linear(h) - x).square() / self.variance
        return -0.5 * (error + self.variance.log() + _LOG_2PI).sum(-1)


class Gaussian(Likelihood):
    r"""Gaussian with a learned variance per gene, so that beta = 1 is the evidence lower bound.

    Loss per cell: :math:`\sum_g \mathrm{SSE}_g / (2 B s_g) + \tfrac12 \log 2\pi s_g`.
    """

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__(n_genes, n_hidden)
        self.log_variance = nn.Parameter(torch.zeros(n_genes))

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Begin at the genes' means and variances."""
        with torch.no_grad():
            self.weight[:, -1] = mean
            self.log_variance.copy_(variance.clamp_min(LEAST_VARIANCE).log())

    def precision(self) -> Float[Tensor, " genes"]:
        """Return one over the variance of each gene."""
        return (-self._floored()).exp()

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return -log p(x | h) per cell."""
        error = squared_error(x, h, self.weight, self.precision()) / x.shape[0]
        return 0.5 * (error + (self._floored() + _LOG_2PI).sum())

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log p(x | h)."""
        error = (self._linear(h) - x).square() @ self.precision()
        return -0.5 * (error + (self._floored() + _LOG_2PI).sum())

    def _floored(self) -> Tensor:
        return self.log_variance.clamp_min(math.log(LEAST_VARIANCE))
