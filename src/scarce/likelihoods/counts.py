r"""Likelihoods of raw counts: what a cell's library holds, shared out among the genes.

The expected counts are :math:`\mu_{ig} = n_i\,\mathrm{softmax}(W h_i + b)_g`, or, with a log link,
:math:`n_i \exp(W h_i + b)_g`, with :math:`n_i` the counts of the cell over the modelled genes:
observed, not modelled. Their log likelihoods are those of counts, in nats, and cannot be compared
with densities of log-normalised expression.

References
----------
Lopez et al., "Deep generative modeling for single-cell transcriptomics", Nat. Methods 2018, from
which the softmax and the dispersion per gene are. Every term is from the formulas; their
float32 program loses digits where the dispersion is large, see docs/models.md.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scarce.likelihoods.likelihood import Likelihood
from scarce.sparse.batches import Matrix
from scarce.sparse.count_losses import (
    log_link_loss,
    negative_binomial_loss,
    poisson_loss,
    zero_inflated_loss,
)

__all__ = ["NegativeBinomial", "Poisson", "PoissonLogLink", "ZeroInflatedNegativeBinomial"]

_LOG_THETA = (-6.0, 10.0)
"""Bounds of the log dispersion. At 10 a mean of 100 has a variance 0.5 % above the Poisson's."""
_FIRST_THETA = (0.05, 100.0)
"""Bounds of the first guess: far from those above, where there is next to no gradient."""
_FIRST_ZEROS = -3.0
"""Log odds of inflation to begin with, 5 %: zeros of droplet counts are seldom more than sampling
leaves (Svensson, "Droplet scRNA-seq is not zero-inflated", Nat. Biotechnol. 2020)."""


class Poisson(Likelihood):
    r"""Poisson counts: :math:`\log p = x\log\mu - \mu - \log x!`.

    As the library is observed, :math:`\sum_g \mu_g = n`, and this is the multinomial but for a
    function of n.
    """

    counts: ClassVar[bool] = True

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Begin at the genes' shares of all counts."""
        _start_from_shares(self.weight, mean)

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return -log p(x | h) per cell."""
        return poisson_loss(x, h, self.weight)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log p(x | h)."""
        log_mu, mu = _rates(x, self._linear(h))
        return _sum(x * log_mu - mu - (x + 1).lgamma())


class PoissonLogLink(Poisson):
    r"""Poisson counts of which each gene has a rate of its own: :math:`\log\mu = \log n + a`.

    No softmax ties the genes, so that expectations over a code are known. With
    :math:`S = \sum_g e^{a_g}` this is the multinomial of `Poisson`, and beside it says of the
    library that it is Poisson of mean n S: never more likely than `Poisson` of the same a, and
    as likely where S is 1. The two can be compared.
    """

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return -log p(x | h) per cell."""
        none = h[:, :0]
        return log_link_loss(x, h, self.weight, none, none, none)

    def expected_loss(
        self, x: Matrix, known: Tensor, mu: Tensor, log_var: Tensor, logit: Tensor
    ) -> Tensor:
        """Return the mean of -log p(x | h) per cell over the code and what is known beside it."""
        return log_link_loss(x, known, self.weight, mu, log_var, logit)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log p(x | h)."""
        library, a = x.sum(-1, keepdim=True), self._linear(h)
        return _sum(torch.xlogy(x, library) + x * a - library * a.exp() - (x + 1).lgamma())


class NegativeBinomial(Likelihood):
    r"""Negative binomial counts, variance :math:`\mu + \mu^2/\theta_g`, a dispersion per gene.

    ``log_theta``, shape (G,), is held within [-6, 10].
    """

    counts: ClassVar[bool] = True

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__(n_genes, n_hidden)
        self.log_theta = nn.Parameter(torch.zeros(n_genes))

    def start_from(self, mean: Tensor, variance: Tensor) -> None:
        """Begin at the genes' shares of all counts, and at dispersions by moments."""
        _start_from_shares(self.weight, mean)
        _start_from_moments(self.log_theta, mean, variance)

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return -log p(x | h) per cell."""
        return negative_binomial_loss(x, h, self.weight, self.log_theta.clamp(*_LOG_THETA))

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log p(x | h)."""
        log_theta = self.log_theta.clamp(*_LOG_THETA)
        at_zero, more = _negative_binomial(x, self._linear(h), log_theta)
        return _sum(at_zero + more)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    r"""Negative binomial counts, of which each is lost with a probability of its own.

    The log odds of that are linear in h: ``zeros``, of the shape of ``weight``. `expected` is of
    the counts before any is lost.
    """

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__(n_genes, n_hidden)
        self.zeros = nn.Parameter(torch.empty_like(self.weight).uniform_(-1, 1))
        with torch.no_grad():
            self.zeros.mul_(n_hidden**-0.5)
            self.zeros[:, -1] = _FIRST_ZEROS

    def loss(self, x: Matrix, h: Tensor) -> Tensor:
        """Return -log p(x | h) per cell."""
        log_theta = self.log_theta.clamp(*_LOG_THETA)
        return zero_inflated_loss(x, h, self.weight, log_theta, self.zeros)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log p(x | h)."""
        log_theta = self.log_theta.clamp(*_LOG_THETA)
        at_zero, more = _negative_binomial(x, self._linear(h), log_theta)
        odds = h @ self.zeros[:, :-1].T + self.zeros[:, -1]
        zero = F.softplus(at_zero - odds) - F.softplus(-odds)
        return _sum(torch.where(x > 0, at_zero + more - F.softplus(odds), zero))


def _start_from_shares(weight: Tensor, mean: Float[Tensor, " genes"]) -> None:
    """Write log shares into the biases; a gene without counts gets half of the least share."""
    with torch.no_grad():
        present = mean[mean > 0]
        least = 0.5 * present.min() if len(present) else mean.new_ones(())
        weight[:, -1] = (mean.clamp_min(least) / mean.sum().clamp_min(least)).log()


def _start_from_moments(
    log_theta: Tensor, mean: Float[Tensor, " genes"], variance: Float[Tensor, " genes"]
) -> None:
    r"""Solve :math:`s^2 = m + m^2/\theta`, which takes all variance for noise: a low guess."""
    with torch.no_grad():
        excess = (variance - mean).clamp_min(mean.square() / _FIRST_THETA[1]).clamp_min(1e-12)
        log_theta.copy_((mean.square() / excess).clamp(*_FIRST_THETA).log())


def _rates(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Return log mu, where the library is zero that of 1, and mu."""
    library = x.sum(-1, keepdim=True)
    share = a.log_softmax(-1)
    return share + torch.where(library > 0, library, 1).log(), library * share.exp()


def _negative_binomial(x: Tensor, a: Tensor, log_theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log likelihood of a zero, and what is added to it where the count is not."""
    log_mu, mu = _rates(x, a)
    theta = log_theta.double().exp()
    # Differences of large numbers, but of data and dispersions only: float64 costs little.
    rising = (x + theta).lgamma() - theta.lgamma() - (x.double() + 1).lgamma()
    log = (mu / theta.to(mu)).log1p()
    return -theta.to(mu) * log, rising.to(mu) + x * (log_mu - log_theta - log)


def _sum(log_prob: Tensor) -> Tensor:
    return log_prob.sum(-1, dtype=torch.float64).to(log_prob.dtype)
