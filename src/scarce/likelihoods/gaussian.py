"""Likelihoods of log-normalised expression, linear in h: squared error, Gaussians, Student's t."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.likelihoods.likelihood import Likelihood
from scarce.sparse.batches import Matrix
from scarce.sparse.ops import squared_error

__all__ = ["LEAST_VARIANCE", "Gaussian", "SharedGaussian", "SquaredError", "StudentT"]

_LOG_2PI = math.log(2 * math.pi)
LEAST_VARIANCE = 0.01
"""Floor of a gene's noise variance: a gene absent from the training cells must not make one
held-out cell that has it infinitely surprising. One count is about 1.8 on the log scale."""
_FIRST_SHAPE = 10.0
"""Where a begins: levels of noise that vary by a third."""


class SquaredError(Likelihood):
    r"""Plain squared error, as in the course report: :math:`\sum_g (x_g - \hat x_g)^2`.

    That is twice a Gaussian's -log p with variance 1, up to a constant.
    """

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Do nothing: the report's networks begin at random."""

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return the squared error per cell."""
        return squared_error(x, h, self.weight).mean()

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
        error = squared_error(x, h, self.weight).mean() / n_genes
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

    Loss of a cell: :math:`\tfrac12 E + \tfrac12 \sum_g \log 2\pi s_g`, where
    :math:`E = \sum_g (x_g - \hat x_g)^2 / s_g`.
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
        return -self._log_density(self._errors(x, h)).mean()

    def expected_loss(
        self, x: Matrix, h: Tensor, variance: Float[Tensor, "cells latent"]
    ) -> Float[Tensor, ""]:
        """Return the mean of -log p(x | h) per cell, or a bound above it, over uncertain codes.

        Parameters
        ----------
        x
            B cells x G genes.
        h
            Means of what the likelihood reads, the code first; shape (B, n_hidden).
        variance
            Of the code's units, which are independent; shape (B, J).
        """
        spread = variance @ (self.precision() @ self.weight[:, : variance.shape[1]].square())
        return -self._log_density(self._errors(x, h) + spread).mean()

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log p(x | h)."""
        return self._log_density((self._linear(h) - x).square() @ self.precision())

    def _errors(self, x: Matrix, h: Tensor) -> Float[Tensor, " cells"]:
        return squared_error(x, h, self.weight, self.precision())

    def _log_density(self, errors: Float[Tensor, "*cells"]) -> Float[Tensor, "*cells"]:
        """Return log p of cells with these sums E of squared errors over variances."""
        return -0.5 * (errors + (self._floored() + _LOG_2PI).sum())

    def _floored(self) -> Tensor:
        return self.log_variance.clamp_min(math.log(LEAST_VARIANCE))


class StudentT(Gaussian):
    r"""Gaussian with a variance per gene and a level of noise per cell, integrated out.

    Cells differ in depth and quality, and so in how far they are from what any code says of
    them. With level :math:`u \sim \mathrm{InvGamma}(a, a)` and variances :math:`u s_g`, the
    genes of a cell are multivariate Student's t with 2a degrees of freedom; its loss is

    .. math:: (a + \tfrac G2) \log(1 + \tfrac{E}{2a}) + \tfrac12 \sum_g \log 2\pi a s_g
              - \log\frac{\Gamma(a + G/2)}{\Gamma(a)},

    a function of E, the sum that the Gaussian has, and as a grows the Gaussian's. In training a
    cell so counts one over the noise it is found to have. `expected_loss` is above the mean,
    as the logarithm is concave.

    References
    ----------
    Lange, Little, Taylor, "Robust statistical modeling using the t distribution", JASA 1989.
    """

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__(n_genes, n_hidden)
        self.log_shape = nn.Parameter(torch.tensor(math.log(_FIRST_SHAPE)))

    def _log_density(self, errors: Tensor) -> Tensor:
        n_genes = len(self.log_variance)
        a = self.log_shape.double().exp()
        gammas = (a + n_genes / 2).lgamma() - a.lgamma()
        scale = 0.5 * (self._floored() + _LOG_2PI).sum() + 0.5 * n_genes * a.log()
        log_density = gammas - scale - (a + n_genes / 2) * (errors.double() / (2 * a)).log1p()
        return log_density.to(errors.dtype)
