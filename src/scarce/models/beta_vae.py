r"""Beta-VAE: a Gaussian posterior over the code, held near a standard normal prior.

.. math:: \mathcal L = -E_{q(z|x)} \log p(x|z)
          + \beta\,KL\big(N(\mu(x), s^2(x)) \,\|\, N(0, 1)\big)
"""

import torch

from scarce.models.parts import Body, Loss, Net, ramp
from scarce.models.posteriors import (
    GaussianHead,
    GaussianPosterior,
    freed,
    gaussian_kl,
    gaussian_sample,
)
from scarce.sparse.batches import Batch

__all__ = ["BetaVAENet"]


class BetaVAENet(Net):
    r"""Beta-VAE with a diagonal Gaussian posterior.

    Parameters
    ----------
    body, n_latent
        Encoder and decoder, and J.
    beta
        Weight of the KL divergence. Where the reconstruction term is the squared error,
        twice the Gaussian log likelihood of unit variance, beta = 2 is the plain VAE; with
        every other likelihood beta = 1 is the evidence lower bound.
    warm_up
        Share of training over which the weight rises linearly from 0 to beta.
    free_bits
        Nats that each unit may use without a price, see `freed`.

    Notes
    -----
    The head gives the log *variance*. The course report prints log sigma beside a KL term
    written for the log variance; its program uses the log variance throughout, as here.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", 2014. Higgins et al., "beta-VAE",
    ICLR 2017.
    """

    posterior: GaussianHead

    def __init__(
        self, body: Body, n_latent: int, *, beta: float, warm_up: float, free_bits: float = 0.0
    ) -> None:
        super().__init__(body, GaussianHead(body.n_features, n_latent))
        self.beta = beta
        self.warm_up = warm_up
        self.free_bits = free_bits

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell, from one posterior sample."""
        features, reconstruction = self.body.read(batch, generator)
        q: GaussianPosterior = self.posterior(features)
        weight = self.beta * ramp(progress, 0.0, self.warm_up)
        terms = {
            "reconstruction": reconstruction(gaussian_sample(q.mu, q.log_var, generator)),
            "kl": weight * freed(gaussian_kl(q.mu, q.log_var), self.free_bits),
        }
        return Loss(terms)
