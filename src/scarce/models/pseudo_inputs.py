r"""The mixture prior of pseudo-inputs: codes are expected where those of a few learned cells are.

.. math:: p(z) = \sum_u \pi_u\, q(z|x_u),

where the U cells :math:`x_u`, the pseudo-inputs, and their shares :math:`\pi_u` are learned with
the network that encodes them. For any weights w that add up to one,

.. math:: KL(q \| p) \le \sum_u w_u KL_u + KL(w \| \pi), \qquad KL_u = KL(q \| q(\cdot|x_u)),

as the divergence is convex. Every :math:`KL_u` between two spikes and slabs is in closed form;
so are the best weights, :math:`w_u \propto \pi_u e^{-KL_u}`, and with them the bound:

.. math:: KL(q \| p) \le -\log \sum_u \pi_u e^{-KL_u}.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scarce.models.posteriors import (
    SpikeAndSlabPosterior,
    freed,
    hard_sample,
    spike_and_slab_kl,
)
from scarce.sparse.batches import Batch

__all__ = ["Mixture", "PseudoInputs", "pairwise_kl"]


class PseudoInputs(nn.Module):
    """U learned cells, and the share of each in the prior.

    Parameters
    ----------
    n_inputs, n_genes
        U and G.
    covariates
        Of every pseudo-input, shape (C,). It belongs to no batch: those of an average cell.

    References
    ----------
    Tonolini, Jensen, Murray-Smith, "Variational Sparse Coding", UAI 2019. There a
    trained classifier picks each cell's pseudo-input, at no price; here the closed form
    above does, and what is minimised is a bound. Tomczak & Welling, "VAE with a VampPrior",
    AISTATS 2018, of which this is the version with gates.
    """

    least: Tensor
    covariates: Tensor

    def __init__(self, n_inputs: int, n_genes: int, covariates: Float[Tensor, " known"]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(n_inputs, n_genes))
        self.weight = nn.Parameter(torch.zeros(n_inputs))
        self.register_buffer("least", torch.zeros(n_genes))
        self.register_buffer("covariates", covariates, persistent=False)

    def start_from(self, x: Float[Tensor, "inputs genes"], least: Float[Tensor, " genes"]) -> None:
        """Begin at these cells; `least` is what a gene has that was not seen, mostly 0."""
        with torch.no_grad():
            self.x.copy_(x)
            self.least.copy_(least)

    def mixture(self, posterior: Callable[[Batch], SpikeAndSlabPosterior]) -> "Mixture":
        """Return the prior that these cells make with an encoder, as it now is."""
        return Mixture(posterior(self._cells()), F.log_softmax(self.weight, 0))

    def _cells(self) -> Batch:
        if self.training:
            # Back to the bound after every step: a clamp has no gradient below it.
            self.x.data.clamp_(min=self.least)
        x = self.x.clamp(min=self.least)
        return Batch(x, self.covariates.expand(len(x), -1))


class Mixture(NamedTuple):
    """A prior that is a weighted sum of U posteriors."""

    components: SpikeAndSlabPosterior
    """Those of the pseudo-inputs, shape (U, J) each."""
    log_weight: Tensor
    r"""Shape (U,): :math:`\log\pi`."""

    @property
    def gamma(self) -> Float[Tensor, " latent"]:
        """Probability that each unit is on."""
        return self.log_weight.exp() @ self.components.gamma

    def kl(self, q: SpikeAndSlabPosterior) -> Float[Tensor, " cells"]:
        """Return the bound of KL(q || p) of each cell, in nats."""
        return -self._match(pairwise_kl(q, self.components)).logsumexp(1)

    def unit_kl(self, q: SpikeAndSlabPosterior) -> Float[Tensor, "cells latent"]:
        r"""Return what each unit adds to the bound: :math:`\sum_u w_u KL_{uj}`, in nats.

        w are the best weights. The bound is the sum over units and :math:`KL(w \| \pi)`, the
        price of saying which component, which is no unit's own.
        """
        kl = pairwise_kl(q, self.components)
        return torch.einsum("bu,buj->bj", self._match(kl).softmax(1), kl)

    def price(self, q: SpikeAndSlabPosterior, free_bits: float) -> Float[Tensor, ""]:
        """Return the bound per cell, in which each unit has its free bits, see `freed`."""
        kl = pairwise_kl(q, self.components)
        match = self._match(kl)
        of_units = torch.einsum("bu,buj->bj", match.softmax(1), kl)
        return freed(of_units, free_bits) - (match.logsumexp(1) + of_units.sum(1)).mean()

    def hyper(self, logit: Float[Tensor, " latent"]) -> Float[Tensor, ""]:
        r"""Return :math:`\sum_j KL(\mathrm{Bern}(\bar\gamma) \| \mathrm{Bern}(\alpha_j))`.

        :math:`\bar\gamma = \sum_u \pi_u \tfrac1J \sum_j \gamma_{uj}` is the share of units that are
        on in codes of this prior: a mean over pseudo-inputs and units, so that a unit may be on
        more often than another.

        Parameters
        ----------
        logit
            Log odds of alpha.
        """
        shares = self.log_weight[:, None] - math.log(len(logit))
        # Logarithms throughout: a share of 0 or 1 has a gradient.
        on, off = (
            (shares + F.logsigmoid(s * self.components.logit)).logsumexp((0, 1)) for s in (1, -1)
        )
        gates = on.exp() * (on - F.logsigmoid(logit)) + off.exp() * (off - F.logsigmoid(-logit))
        return gates.sum()

    def importance_samples(
        self, q: SpikeAndSlabPosterior, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "samples cells latent"], Float[Tensor, "samples cells"]]:
        """Draw codes with hard gates from q; return them and log p(z) - log q(z|x)."""
        q = q.repeated(n_samples)
        z, on = hard_sample(q, generator)
        # One component at a time: samples x cells x latents are many already.
        components = zip(*self.components, strict=True)
        log_p = torch.stack([SpikeAndSlabPosterior(*c).log_prob(z, on) for c in components])
        return z * on, (log_p + self.log_weight[:, None, None]).logsumexp(0) - q.log_prob(z, on)

    def sample(
        self, n_cells: int, n_latent: int, generator: torch.Generator
    ) -> Float[Tensor, "cells latent"]:
        """Draw codes of new cells: the component of each, then its units, exactly 0 or not."""
        chosen = self.log_weight.exp().multinomial(n_cells, replacement=True, generator=generator)
        drawn = SpikeAndSlabPosterior(*(part[chosen] for part in self.components))
        z, on = hard_sample(drawn, generator)
        return z * on

    def _match(self, kl: Tensor) -> Float[Tensor, "cells inputs"]:
        r"""Return :math:`\log\pi_u - KL_u`: the log odds of the best weights."""
        return self.log_weight - kl.sum(2)


def pairwise_kl(
    q: SpikeAndSlabPosterior, p: SpikeAndSlabPosterior
) -> Float[Tensor, "cells inputs latent"]:
    """Return KL(q_b || p_u) of every cell, component and unit, in nats.

    A component's slab :math:`N(m, t^2)` is the prior's of `spike_and_slab_kl`, once values
    are counted from m in units of t.
    """
    mu, log_var, logit = (part[:, None] for part in q)
    values = (mu - p.mu) * (-0.5 * p.log_var).exp()
    return spike_and_slab_kl(values, log_var - p.log_var, logit, p.logit)
