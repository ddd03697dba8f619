r"""Beta-VSC, variational sparse coding: each latent unit is off for most cells.

Posterior :math:`q(z_j|x) = \gamma_j N(\mu_j, s_j^2) + (1 - \gamma_j)\delta_0`, prior
:math:`p(z_j) = \alpha N(0, 1) + (1 - \alpha)\delta_0`, and

.. math:: \mathcal L = -E_{q(z|x)} \log p(x|z) + \beta\,KL(q \,\|\, p).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.models.parts import (
    Loss,
    Net,
    Network,
    gaussian_sample,
    ramp,
    soft_gate,
    spike_and_slab_kl,
)
from scarce.sparse.batches import Batch

__all__ = ["BetaVSCNet"]


class BetaVSCNet(Net):
    r"""Variational sparse coding with a fixed spike-and-slab prior.

    Parameters
    ----------
    n_genes, n_latent
        G and J.
    network
        Shape of encoder and decoder.
    beta
        Weight of the KL divergence, see `BetaVAENet`.
    alpha
        Prior probability that a unit is on, in (0, 1).
    warm_up
        Share of training over which the weight rises linearly from 0 to beta.
    hard
        Decode gates that are exactly 0 or 1, with the gradient of the soft ones
        (straight-through). Otherwise gates are soft, as in the course report.
    sharpness
        c of the soft gates at the start and at the end of training, see `soft_gate`; 50 and
        200 in the supplement of the paper.

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

    def __init__(
        self,
        n_genes: int,
        n_latent: int,
        network: Network,
        *,
        beta: float,
        alpha: float,
        warm_up: float,
        hard: bool,
        sharpness: tuple[float, float],
    ) -> None:
        super().__init__(n_genes, n_latent, network)
        self.beta = beta
        self.alpha = alpha
        self.warm_up = warm_up
        self.hard = hard
        self.sharpness = sharpness
        self.mu = nn.Linear(self.body.n_features, n_latent)
        self.log_var = nn.Linear(self.body.n_features, n_latent)
        self.logit = nn.Linear(self.body.n_features, n_latent)

    def encode(self, x: Batch) -> Float[Tensor, "cells latent"]:
        r"""Return the posterior mean, :math:`\gamma\mu`."""
        features = self.body.features(x)
        return self.logit(features).sigmoid() * self.mu(features)  # type: ignore[no-any-return]

    def inclusion(self, x: Batch) -> Float[Tensor, "cells latent"]:
        r"""Return the inclusion probabilities :math:`\gamma`."""
        return self.logit(self.body.features(x)).sigmoid()  # type: ignore[no-any-return]

    def loss(self, x: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell, from one posterior sample."""
        features, reconstruction = self.body.read(x, generator)
        mu, log_var = self.mu(features), self.log_var(features).clamp(-10, 10)
        logit = self.logit(features)
        z = self._gate(logit, progress, generator) * gaussian_sample(mu, log_var, generator)
        weight = self.beta * ramp(progress, self.warm_up)
        terms = {
            "reconstruction": reconstruction(z),
            "kl": weight * spike_and_slab_kl(mu, log_var, logit, self.alpha).sum(1).mean(),
        }
        return Loss(terms["reconstruction"] + terms["kl"], terms)

    def _gate(self, logit: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        first, last = self.sharpness
        soft = soft_gate(logit, first + (last - first) * progress, generator)
        if not self.hard:
            return soft
        return (soft > 0.5).to(soft) + (soft - soft.detach())
