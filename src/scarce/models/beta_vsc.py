r"""Beta-VSC, variational sparse coding: each latent unit is off for most cells.

Posterior :math:`q(z_j|x) = \gamma_j N(\mu_j, s_j^2) + (1 - \gamma_j)\delta_0`, prior
:math:`p(z_j) = \alpha_j N(m, t^2) + (1 - \alpha_j)\delta_0`, and

.. math:: \mathcal L = -E_{q(z|x)} \log p(x|z) + \beta\,KL(q \,\|\, p).
"""

import torch
from torch import Tensor

from scarce.models.parts import Body, Loss, Net, ramp
from scarce.models.posteriors import (
    SpikeAndSlabHead,
    SpikeAndSlabPosterior,
    SpikeAndSlabPrior,
    freed,
    gaussian_sample,
    soft_gate,
)
from scarce.sparse.batches import Batch

__all__ = ["BetaVSCNet"]


class BetaVSCNet(Net):
    r"""Variational sparse coding with a spike-and-slab prior.

    Parameters
    ----------
    body, prior
        Encoder and decoder, and what each unit is expected to be.
    beta
        Weight of the KL divergence, see `BetaVAENet`.
    warm_up
        Share of training over which the weight rises linearly from 0 to beta.
    free_bits
        Nats that each unit may use without a price, see `freed`.
    hard
        Decode gates that are exactly 0 or 1, with the gradient of the soft ones
        (straight-through). Otherwise gates are soft, as in the course report.
    sharpness
        c of the soft gates at the start and at the end of training, see `soft_gate`; 50 and
        200 in the supplement of the paper.
    opening
        Shares of training between which the slabs open: before the first all cells have
        the prior's, so that units first learn to be on or off.

    Notes
    -----
    The head gives the log *odds* of :math:`\gamma`. The report prints a linear head for
    :math:`\log\gamma`, which lets a probability exceed 1, and its program clamps at
    :math:`\gamma = 1`, where a unit no longer feels the prior. The report embeds the ungated
    mean; `encode` returns the posterior mean :math:`\gamma\mu`.

    References
    ----------
    Tonolini, Jensen, Murray-Smith, "Variational Sparse Coding", UAI 2019 (the version of
    the prior without pseudo-inputs).
    """

    posterior: SpikeAndSlabHead
    prior: SpikeAndSlabPrior

    def __init__(
        self,
        body: Body,
        prior: SpikeAndSlabPrior,
        *,
        beta: float,
        warm_up: float,
        opening: tuple[float, float],
        hard: bool,
        sharpness: tuple[float, float],
        free_bits: float = 0.0,
    ) -> None:
        head = SpikeAndSlabHead(body.n_features, prior.n_latent, prior.slab)
        super().__init__(body, head, prior)
        self.beta = beta
        self.warm_up = warm_up
        self.free_bits = free_bits
        self.hard = hard
        self.sharpness = sharpness
        self.opening = opening
        self.settled = opening[1]

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell, from one posterior sample."""
        features, reconstruction = self.body.read(batch, generator)
        q: SpikeAndSlabPosterior = self.posterior(features, ramp(progress, *self.opening))
        gate = self._gate(q.logit, progress, generator)
        weight = self.beta * ramp(progress, 0.0, self.warm_up)
        terms = {
            "reconstruction": reconstruction(gate * gaussian_sample(q.mu, q.log_var, generator)),
            "kl": weight * freed(self.prior.unit_kl(q), self.free_bits),
        }
        return Loss(terms["reconstruction"] + terms["kl"], terms)

    def _gate(self, logit: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        first, last = self.sharpness
        soft = soft_gate(logit, first + (last - first) * progress, generator)
        if not self.hard:
            return soft
        return (soft > 0.5).to(soft) + (soft - soft.detach())
