r"""Beta-VSC, variational sparse coding: each latent unit is off for most cells.

Posterior :math:`q(z_j|x) = \gamma_j N(\mu_j, s_j^2) + (1 - \gamma_j)\delta_0`, prior
:math:`p(z_j) = \alpha_j N(m, t^2) + (1 - \alpha_j)\delta_0`, and

.. math:: \mathcal L = -E_{q(z|x)} \log p(x|z) + \beta\,KL(q \,\|\, p).

By default the prior is the mixture of `scarce.models.pseudo_inputs` instead.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scarce.models.parts import Body, Loss, Net, ramp
from scarce.models.posteriors import (
    SpikeAndSlabHead,
    SpikeAndSlabPosterior,
    SpikeAndSlabPrior,
    gaussian_sample,
    soft_gate,
)
from scarce.models.pseudo_inputs import Mixture, PseudoInputs
from scarce.sparse.batches import Batch

__all__ = ["BetaVSCNet", "Units"]


@dataclass(frozen=True)
class Units:
    """How the units behave, beyond how often they are on.

    Parameters
    ----------
    slab
        Mean and standard deviation of the prior where a unit is on, see `SpikeAndSlabPrior`; with
        pseudo-inputs, of where the posterior begins.
    start
        Probability with which every unit is on before training, see `SpikeAndSlabHead`.
    opening
        Shares of training between which the slabs open: before the first all cells have
        the prior's, so that units first learn to be on or off.
    sharpness
        c of the soft gates at the start and at the end of training, see `soft_gate`; 50 and
        200 in the supplement of the paper.
    free_bits
        Nats that each unit may use without a price, see `freed`.
    pseudo_inputs
        U, how many learned cells the prior is made of, see `PseudoInputs`. 0: none, but a
        `SpikeAndSlabPrior`, whose units know nothing of one another.
    """

    slab: tuple[float, float] = (0.0, 1.0)
    start: float = 0.9
    opening: tuple[float, float] = (0.0, 0.0)
    sharpness: tuple[float, float] = (50.0, 200.0)
    free_bits: float = 0.0
    pseudo_inputs: int = 20


class BetaVSCNet(Net):
    r"""Variational sparse coding with a spike-and-slab prior.

    Parameters
    ----------
    body, prior, units
        Encoder and decoder, what each unit is expected to be, and how units behave.
    beta
        Weight of the KL divergence, see `BetaVAENet`.
    warm_up
        Share of training over which the weight rises linearly from 0 to beta.
    hard
        Decode gates that are exactly 0 or 1, with the gradient of the soft ones
        (straight-through). Otherwise gates are soft, as in the course report.
    pseudo_inputs
        Cells of which the network makes its prior. The share of units that are on in it is
        then held to that of `prior`, by a term of the loss named ``hyper``: in every step
        with the weight of one cell's divergence, as in the paper. Where alpha is learned it
        follows that share.

    Notes
    -----
    The head gives the log *odds* of :math:`\gamma`. The report prints a linear head for
    :math:`\log\gamma`, which lets a probability exceed 1, and its program clamps at
    :math:`\gamma = 1`, where a unit no longer feels the prior. The report embeds the ungated
    mean; `encode` returns the posterior mean :math:`\gamma\mu`.

    References
    ----------
    Tonolini, Jensen, Murray-Smith, "Variational Sparse Coding", UAI 2019; the version
    of 2018 has no pseudo-inputs.
    """

    posterior: SpikeAndSlabHead
    prior: SpikeAndSlabPrior

    def __init__(
        self,
        body: Body,
        prior: SpikeAndSlabPrior,
        units: Units,
        *,
        beta: float,
        warm_up: float,
        hard: bool,
        pseudo_inputs: PseudoInputs | None = None,
    ) -> None:
        head = SpikeAndSlabHead(body.n_features, prior.n_latent, prior.slab, start=units.start)
        super().__init__(body, head, prior)
        self.beta = beta
        self.warm_up = warm_up
        self.hard = hard
        self.units = units
        self.pseudo_inputs = pseudo_inputs
        self.settled = units.opening[1]

    def current_prior(self, openness: float = 1.0) -> SpikeAndSlabPrior | Mixture:
        """Return p(z); that of pseudo-inputs has their slabs opened as far as those of cells."""
        if self.pseudo_inputs is None:
            return self.prior
        return self.pseudo_inputs.mixture(
            lambda cells: self.posterior(self.body.features(cells), openness)
        )

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell, from one posterior sample."""
        features, reconstruction = self.body.read(batch, generator)
        openness = ramp(progress, *self.units.opening)
        q: SpikeAndSlabPosterior = self.posterior(features, openness)
        prior = self.current_prior(openness)
        gate = self._gate(q.logit, progress, generator)
        weight = self.beta * ramp(progress, 0.0, self.warm_up)
        terms = {
            "reconstruction": reconstruction(gate * gaussian_sample(q.mu, q.log_var, generator)),
            "kl": weight * prior.price(q, self.units.free_bits),
        }
        if isinstance(prior, Mixture):
            terms["hyper"] = weight * prior.hyper(self.prior.logit)
        return Loss(terms)

    def _gate(self, logit: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        first, last = self.units.sharpness
        soft = soft_gate(logit, first + (last - first) * progress, generator)
        if not self.hard:
            return soft
        return (soft > 0.5).to(soft) + (soft - soft.detach())
