r"""Posteriors over the code, q(z|x), and priors p(z): samples, densities, KL divergences.

A Gaussian posterior meets the standard normal prior. A spike-and-slab posterior, in which
each unit is exactly zero with some probability, meets a prior of the same kind:

.. math:: q(z_j|x) = \gamma_j N(\mu_j, s_j^2) + (1 - \gamma_j)\delta_0, \qquad
          p(z_j) = \alpha_j N(m, t^2) + (1 - \alpha_j)\delta_0.

The slab of the papers is N(0, 1), where a unit that is on can be anywhere, zero included. Away
from zero "on" is told from "off"; with m = 1 and t = 1/2 a unit that is on adds much the same in
every cell. What counts is m / t: a code can be rescaled with its decoder.
"""

import math
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = [
    "GaussianHead",
    "GaussianPosterior",
    "Posterior",
    "Prior",
    "SpikeAndSlabHead",
    "SpikeAndSlabPosterior",
    "SpikeAndSlabPrior",
    "StandardNormal",
    "freed",
    "gaussian_kl",
    "gaussian_sample",
    "hard_sample",
    "soft_gate",
    "spike_and_slab_kl",
]


class GaussianPosterior(NamedTuple):
    """B cells x J independent Gaussians."""

    mu: Tensor
    """Shape (B, J)."""
    log_var: Tensor
    """Shape (B, J): log variances, in [-10, 10]."""

    @property
    def mean(self) -> Float[Tensor, "cells latent"]:
        r"""Posterior mean, :math:`\mu`."""
        return self.mu

    @property
    def gamma(self) -> Float[Tensor, "cells latent"]:
        """Inclusion probabilities: every unit is on."""
        return torch.ones_like(self.mu)

    @property
    def sd(self) -> Float[Tensor, "cells latent"]:
        """Posterior standard deviation, s."""
        return (0.5 * self.log_var).exp()


class GaussianHead(nn.Module):
    """From features to a Gaussian posterior.

    Parameters
    ----------
    n_features, n_latent
        Width of the features, and J.
    """

    def __init__(self, n_features: int, n_latent: int) -> None:
        super().__init__()
        self.mu = nn.Linear(n_features, n_latent)
        self.log_var = nn.Linear(n_features, n_latent)

    def forward(self, features: Float[Tensor, "cells features"]) -> GaussianPosterior:
        """Return the posterior of each cell."""
        return GaussianPosterior(self.mu(features), self.log_var(features).clamp(-10, 10))


class StandardNormal:
    """N(0, 1) in every unit: the prior of a Gaussian posterior."""

    def unit_kl(self, q: GaussianPosterior) -> Float[Tensor, "cells latent"]:
        """Return KL(q || p) of each cell and unit, in nats."""
        return gaussian_kl(q.mu, q.log_var)

    def importance_samples(
        self, q: GaussianPosterior, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "samples cells latent"], Float[Tensor, "samples cells"]]:
        """Draw codes from q; return them and log p(z) - log q(z|x)."""
        mu, log_var = (a.expand(n_samples, *a.shape) for a in q)
        z = gaussian_sample(mu, log_var, generator)
        # Log N(z; 0, 1) - log N(z; mu, s^2); the two factors of 2 pi cancel.
        ratio = 0.5 * ((z - mu).square() / log_var.exp() + log_var - z.square())
        return z, ratio.sum(2)

    def sample(
        self, n_cells: int, n_latent: int, generator: torch.Generator
    ) -> Float[Tensor, "cells latent"]:
        """Draw codes of new cells."""
        return torch.randn(n_cells, n_latent, generator=generator)


class SpikeAndSlabPosterior(NamedTuple):
    """B cells x J independent units, each off or Gaussian."""

    mu: Tensor
    """Shape (B, J): mean where on."""
    log_var: Tensor
    """Shape (B, J): log variance where on."""
    logit: Tensor
    r"""Shape (B, J): log odds of :math:`\gamma`, the probability of being on."""

    @property
    def gamma(self) -> Float[Tensor, "*cells latent"]:
        """Inclusion probabilities."""
        return self.logit.sigmoid()

    @property
    def mean(self) -> Float[Tensor, "cells latent"]:
        r"""Posterior mean, :math:`\gamma\mu`."""
        return self.gamma * self.mu

    @property
    def variance(self) -> Float[Tensor, "cells latent"]:
        r"""Posterior variance, :math:`\gamma(s^2 + \mu^2) - \gamma^2\mu^2`."""
        gamma = self.gamma
        return gamma * (self.log_var.exp() + (1 - gamma) * self.mu.square())

    @property
    def sd(self) -> Float[Tensor, "cells latent"]:
        """Posterior standard deviation; it holds the doubt whether the unit is on as well."""
        return self.variance.sqrt()

    def repeated(self, n_samples: int) -> "SpikeAndSlabPosterior":
        """Return it as that of so many samples of each cell, shape (n_samples, B, J)."""
        return SpikeAndSlabPosterior(*(a.expand(n_samples, *a.shape) for a in self))

    def log_prob(self, z: Tensor, on: Tensor) -> Float[Tensor, "*cells"]:
        """Return log q of whole codes: of the gates, and of the values z where they are on."""
        squares = (z - self.mu).square() / self.log_var.exp()
        slab = -0.5 * (squares + self.log_var + math.log(2 * math.pi))
        spike = F.logsigmoid(-self.logit)
        return torch.where(on, slab + F.logsigmoid(self.logit), spike).sum(-1)


class SpikeAndSlabHead(nn.Module):
    """From features to a spike-and-slab posterior.

    Parameters
    ----------
    n_features, n_latent
        Width of the features, and J.
    slab
        m and t of the prior: where every cell's slab begins.
    start
        Probability, about, with which every unit is on before training. At one half a code is
        half noise, and units are given up before the decoder has learned to read them.
    """

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        slab: tuple[float, float] = (0.0, 1.0),
        *,
        start: float = 0.5,
    ) -> None:
        super().__init__()
        self.slab = slab
        self.mu = nn.Linear(n_features, n_latent)
        self.log_var = nn.Linear(n_features, n_latent)
        self.logit = nn.Linear(n_features, n_latent)
        with torch.no_grad():
            self.logit.bias.add_(_log_odds(start))

    def forward(
        self, features: Float[Tensor, "cells features"], openness: float = 1.0
    ) -> SpikeAndSlabPosterior:
        """Return the posterior of each cell.

        With `openness` 0 every slab is that of the prior, so that only gates tell cells
        apart; with 1 it is the cell's own.
        """
        mean, sd = self.slab
        mu = mean + sd * openness * self.mu(features)
        log_var = 2 * math.log(sd) + openness * self.log_var(features).clamp(-10, 10)
        return SpikeAndSlabPosterior(mu, log_var, self.logit(features))


class SpikeAndSlabPrior(nn.Module):
    """Prior of each unit: on with probability alpha, then Gaussian.

    Parameters
    ----------
    n_latent
        J.
    alpha
        Probability that a unit is on, in (0, 1).
    slab
        Mean and standard deviation where on, m and t.
    learned
        Learn alpha, for each unit its own, from the value given.
    """

    def __init__(
        self,
        n_latent: int,
        alpha: float,
        *,
        slab: tuple[float, float] = (0.0, 1.0),
        learned: bool = False,
    ) -> None:
        super().__init__()
        self.n_latent, self.slab = n_latent, slab
        self.logit = nn.Parameter(torch.full((n_latent,), _log_odds(alpha)), requires_grad=learned)

    @property
    def gamma(self) -> Float[Tensor, " latent"]:
        """Probability that each unit is on, alpha."""
        return self.logit.sigmoid()

    def kl(self, q: SpikeAndSlabPosterior) -> Float[Tensor, " cells"]:
        """Return KL(q || p) of each cell, in nats."""
        return self.unit_kl(q).sum(1)

    def unit_kl(self, q: SpikeAndSlabPosterior) -> Float[Tensor, "cells latent"]:
        """Return KL(q || p) of each cell and unit, in nats."""
        return spike_and_slab_kl(*q, self.logit, self.slab)

    def price(self, q: SpikeAndSlabPosterior, free_bits: float) -> Float[Tensor, ""]:
        """Return KL(q || p) per cell, in which each unit has its free bits, see `freed`."""
        return freed(self.unit_kl(q), free_bits)

    def importance_samples(
        self, q: SpikeAndSlabPosterior, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "samples cells latent"], Float[Tensor, "samples cells"]]:
        """Draw codes with hard gates from q; return them and log p(z) - log q(z|x)."""
        q = q.repeated(n_samples)
        z, on = hard_sample(q, generator)
        mean, log_var = torch.tensor([self.slab[0], 2 * math.log(self.slab[1])]).to(z)
        p = SpikeAndSlabPosterior(mean, log_var, self.logit)
        return z * on, p.log_prob(z, on) - q.log_prob(z, on)

    def sample(
        self, n_cells: int, n_latent: int, generator: torch.Generator
    ) -> Float[Tensor, "cells latent"]:
        """Draw codes of new cells, whose gates are exactly 0 or 1."""
        mean, sd = self.slab
        z = torch.randn(n_cells, n_latent, generator=generator)
        return (mean + sd * z) * (torch.rand(z.shape, generator=generator) < self.gamma)


Posterior: TypeAlias = GaussianPosterior | SpikeAndSlabPosterior

Prior: TypeAlias = StandardNormal | SpikeAndSlabPrior
"""Of the same kind as the posterior."""


def gaussian_sample(
    mu: Float[Tensor, "*samples cells latent"],
    log_var: Float[Tensor, "*samples cells latent"],
    generator: torch.Generator,
) -> Float[Tensor, "*samples cells latent"]:
    """Draw from N(mu, exp(log_var)) so that gradients reach both (reparameterisation)."""
    noise = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=mu.device)
    return mu + (0.5 * log_var).exp() * noise


def hard_sample(
    q: SpikeAndSlabPosterior, generator: torch.Generator
) -> tuple[Float[Tensor, "*cells latent"], Bool[Tensor, "*cells latent"]]:
    """Draw what each unit has where it is on, and whether it is; their product is the code."""
    uniform = torch.rand(q.mu.shape, generator=generator, dtype=q.mu.dtype, device=q.mu.device)
    return gaussian_sample(q.mu, q.log_var, generator), uniform < q.gamma


def gaussian_kl(
    mu: Float[Tensor, "*cells latent"], log_var: Float[Tensor, "*cells latent"]
) -> Float[Tensor, "*cells latent"]:
    r"""Return :math:`KL(N(\mu, s^2) \| N(0, 1)) = \tfrac12(\mu^2 + s^2 - 1 - \log s^2)`.

    In nats, for each cell and latent.
    """
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


def spike_and_slab_kl(
    mu: Float[Tensor, "*#cells latent"],
    log_var: Float[Tensor, "*#cells latent"],
    logit: Float[Tensor, "*#cells latent"],
    prior_logit: Float[Tensor, "*#cells latent"],
    slab: tuple[float, float] = (0.0, 1.0),
) -> Float[Tensor, "*#cells latent"]:
    r"""KL divergence between a spike-and-slab posterior and prior, in nats.

    For :math:`q = \gamma N(\mu, s^2) + (1 - \gamma)\delta_0` against
    :math:`p = \alpha N(m, t^2) + (1 - \alpha)\delta_0`:

    .. math:: \gamma\Big(\log\frac ts + \frac{s^2 + (\mu - m)^2}{2 t^2} - \frac12\Big)
        + \gamma \log\frac{\gamma}{\alpha} + (1 - \gamma)\log\frac{1 - \gamma}{1 - \alpha}.

    Parameters
    ----------
    mu, log_var
        Mean and log variance of the slab, shape (B, J).
    logit
        Log odds of inclusion; :math:`\gamma` is its sigmoid. Its logarithms come from
        ``logsigmoid``, so no clamp cuts the gradient.
    prior_logit
        Log odds of :math:`\alpha`, shape (J,).
    slab
        m and t.

    References
    ----------
    Tonolini, Jensen, Murray-Smith, "Variational Sparse Coding", UAI 2019, eq. 6. Its
    supplement drops squares and brackets of the slab term; this is the divergence itself.
    """
    gamma = logit.sigmoid()
    spike = gamma * (F.logsigmoid(logit) - F.logsigmoid(prior_logit)) + (1 - gamma) * (
        F.logsigmoid(-logit) - F.logsigmoid(-prior_logit)
    )
    mean, sd = slab
    return gamma * gaussian_kl((mu - mean) / sd, log_var - 2 * math.log(sd)) + spike


def freed(kl: Float[Tensor, "cells latent"], free_bits: float) -> Float[Tensor, ""]:
    r"""Return what a batch pays for its codes, per cell: :math:`\sum_j \max(\lambda, KL_j)`.

    Parameters
    ----------
    kl
        KL divergence of each cell and unit, in nats; :math:`KL_j` is its mean over cells.
    free_bits
        :math:`\lambda`, nats that each unit may use without a price, so that none is given up
        before the decoder has learned to read it. 0: the plain divergence.

    References
    ----------
    Kingma et al., "Improved variational inference with inverse autoregressive flow",
    NeurIPS 2016, appendix C.8.
    """
    return kl.mean(0).clamp_min(free_bits).sum()


def soft_gate(
    logit: Float[Tensor, "cells latent"], sharpness: float, generator: torch.Generator
) -> Float[Tensor, "cells latent"]:
    r"""Draw a gate that is nearly 0 or 1 and passes gradients to its probability.

    :math:`w = \sigma(c\,(u - 1 + \gamma))` with u uniform on (0, 1); as c grows, w becomes a
    Bernoulli draw with probability :math:`\gamma`.

    Parameters
    ----------
    logit
        Log odds of :math:`\gamma`.
    sharpness
        c; 50 to 200 in the paper's supplement.
    generator
        Source of u.
    """
    u = torch.rand(logit.shape, generator=generator, dtype=logit.dtype, device=logit.device)
    return (sharpness * (u - 1 + logit.sigmoid())).sigmoid()


def _log_odds(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)
