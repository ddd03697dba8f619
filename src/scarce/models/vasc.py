r"""VASC: a variational autoencoder whose decoder switches single genes of single cells off.

With y the expression of a cell divided by its largest value, :math:`\tilde x_g` the decoder's
sigmoid output and :math:`p_g = e^{-\tilde x_g^2}` the probability that gene g is dropped out,

.. math:: \mathcal L = E_{q(z|y)} \sum_g \mathrm{BCE}\big(y_g, w_g \tilde x_g\big)
          + \sum_j KL\big(N(\mu_j, s_j^2) \,\|\, N(0, 1)\big) + \lambda \|W_1\|_1,
          \qquad w_g \sim \mathrm{Bernoulli}(1 - p_g).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scarce.likelihoods import Likelihood
from scarce.models.parts import Body, Loss, Net
from scarce.models.posteriors import (
    GaussianHead,
    GaussianPosterior,
    Posterior,
    gaussian_kl,
    gaussian_sample,
)
from scarce.sparse.batches import Batch, Matrix

__all__ = ["DroppedOut", "VASCNet", "keep_logit"]

_LAST_TAU = 0.5
"""Temperature of the gates at the end of training; it begins at 1."""

_SMALL = 1e-4
"""Below it, log(1 - exp(-t)) is log t - t/2 to the precision of 32-bit floats."""


class DroppedOut(Likelihood):
    """VASC's decoder: a sigmoid, a gate per entry, and the cross-entropy of values in [0, 1].

    The cross-entropy needs every entry, zeros included: this forms B x G arrays on either
    path of arithmetic. It is no density of values in [0, 1], so it bounds no likelihood.
    """

    is_density = False

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Do nothing: VASC begins at random, and these are not of its scaled values."""

    def loss(self, x: Matrix, h: Float[Tensor, "cells hidden"]) -> Float[Tensor, ""]:
        """Return the cross-entropy per cell, gates at their expectation."""
        return -self.log_prob(dense(x), h).mean()

    def noisy_loss(
        self,
        y: Float[Tensor, "cells genes"],
        h: Float[Tensor, "cells hidden"],
        tau: float,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        r"""Return the cross-entropy per cell with gates drawn at temperature tau.

        The first of a Gumbel-softmax over two classes is
        :math:`\sigma((\log\frac{1-p}{p} + \ell)/\tau)` with :math:`\ell` logistic.
        """
        a = self._linear(h)
        u = torch.rand(a.shape, generator=generator, dtype=a.dtype, device=a.device)
        gate = (keep_logit(a) + u.logit(eps=1e-6)) / tau
        return _cross_entropy(y, a, gate).sum(-1).mean()

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return minus the cross-entropy of each cell, gates at their expectation."""
        a = self._linear(h)
        return -_cross_entropy(x, a, keep_logit(a)).sum(-1)

    def expected(self, h: Tensor) -> Tensor:
        r"""Return :math:`\tilde x (1 - p)`, the share of the cell's largest value.

        It never exceeds :math:`1 - e^{-1} = 0.63`: even a certain gene is dropped now and then.
        """
        a = self._linear(h)
        return a.sigmoid() * keep_logit(a).sigmoid()


class VASCNet(Net):
    """VASC.

    Parameters
    ----------
    body, n_latent
        Encoder and decoder, whose likelihood is `DroppedOut`, and J.
    l1
        Weight of the absolute sum of the first layer's weights.

    Notes
    -----
    Cross-entropy and divergence are both sums, over genes and over latents, so the loss of a
    cell is in nats; nothing is divided by G or J. Where this departs from the paper's program:
    the head gives the log variance itself, where the program has a constant variance or, at
    choice, softplus of two units whatever J, which cannot fall below 1; gates are noisy in
    training only; their temperature falls from 1 to 0.5 over training (the program leaves it
    at 1 unless asked); the optimiser is AdamW and stopping is that of `scarce.train`; and the
    input is divided by its maximum after log(1 + x) of normalised, not of raw counts.

    References
    ----------
    Wang & Gu, "VASC: Dimension reduction and visualization of single-cell RNA-seq data by deep
    variational autoencoder", Genomics Proteomics Bioinformatics 2018.
    """

    posterior: GaussianHead

    def __init__(self, body: Body, n_latent: int, *, l1: float) -> None:
        super().__init__(body, GaussianHead(body.n_features, n_latent))
        self.l1 = l1

    def code(self, batch: Batch) -> Posterior:
        """Return q(z|x) of each cell, from its values as shares of the largest."""
        scaled, _ = _share_of_largest(batch)
        return super().code(scaled)

    def reconstruct(
        self, batch: Batch, covariates: Float[Tensor, "cells known"]
    ) -> Float[Tensor, "cells genes"]:
        """Return the expected log-normalised expression: shares times the largest value."""
        _, largest = _share_of_largest(batch)
        return self.body.decode(self.encode(batch), covariates) * largest

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the loss per cell, from one posterior sample and, in training, noisy gates."""
        scaled, _ = _share_of_largest(batch)
        features, _ = self.body.read(scaled, generator)
        q: GaussianPosterior = self.posterior(features)
        h = self.body.hidden(gaussian_sample(q.mu, q.log_var, generator), batch.covariates)
        terms = {
            "reconstruction": self._reconstruction(scaled, h, progress, generator),
            "kl": gaussian_kl(q.mu, q.log_var).sum(1).mean(),
            "l1": self.l1 * self.body.first.weight.abs().sum(),
        }
        return Loss(terms)

    def _reconstruction(
        self, scaled: Batch, h: Tensor, progress: float, generator: torch.Generator
    ) -> Tensor:
        likelihood = self.body.likelihood
        if not self.training or not isinstance(likelihood, DroppedOut):
            return likelihood.loss(scaled.x, h)
        return likelihood.noisy_loss(dense(scaled.x), h, _LAST_TAU**progress, generator)


def keep_logit(a: Tensor) -> Tensor:
    r"""Return the log odds that an entry is kept, :math:`\log(e^{\tilde x^2} - 1)`.

    Parameters
    ----------
    a
        Log odds of :math:`\tilde x`. However low, the result and its gradient are finite.
    """
    log_t = 2 * F.logsigmoid(a)
    t = log_t.exp()
    is_small = t < _SMALL
    log_kept = torch.where(is_small, log_t - t / 2, (-torch.expm1(-t.clamp_min(_SMALL))).log())
    return t + log_kept


def dense(x: Matrix) -> Float[Tensor, "cells genes"]:
    """Return the cells as one dense array."""
    if isinstance(x, Tensor):
        return x
    n_cells, n_genes = x.shape
    full = x.values.new_zeros(n_cells, n_genes)
    cells = torch.repeat_interleave(torch.arange(n_cells, device=full.device), x.row_starts.diff())
    full[cells, x.genes.long()] = x.values
    full[:, x.dense_genes] = x.dense_values
    return full if x.base is None else full + x.base


def _share_of_largest(batch: Batch) -> tuple[Batch, Tensor]:
    """Divide each cell by its largest value; return that too, shape (B, 1), 1 for empty cells."""
    x = dense(batch.x)
    largest = x.amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    return batch._replace(x=x / largest), largest


def _cross_entropy(y: Tensor, a: Tensor, gate: Tensor) -> Tensor:
    """-y log(out) - (1 - y) log(1 - out) of out = sigmoid(a) sigmoid(gate), never infinite."""
    log_out = F.logsigmoid(a) + F.logsigmoid(gate)
    # 1 - out = (1 - sigmoid(a)) + sigmoid(a) (1 - sigmoid(gate))
    log_rest = torch.logaddexp(F.logsigmoid(-a), F.logsigmoid(a) + F.logsigmoid(-gate))
    return -y * log_out - (1 - y) * log_rest
