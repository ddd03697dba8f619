r"""Beta-VAE: a Gaussian posterior over the code, held near a standard normal prior.

.. math:: \mathcal L = -E_{q(z|x)} \log p(x|z)
          + \beta\,KL\big(N(\mu(x), s^2(x)) \,\|\, N(0, 1)\big)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.models.parts import Loss, Net, Network, gaussian_kl, gaussian_sample, ramp
from scarce.sparse.batches import Batch

__all__ = ["BetaVAENet"]


class BetaVAENet(Net):
    r"""Beta-VAE with a diagonal Gaussian posterior.

    Parameters
    ----------
    n_genes, n_latent
        G and J.
    network
        Shape of encoder and decoder.
    beta
        Weight of the KL divergence. With ``noise="unit"`` the reconstruction term is the
        squared error, twice the Gaussian log likelihood of unit variance, so beta = 2 is the
        plain VAE; with ``noise="per_gene"`` beta = 1 is the evidence lower bound.
    warm_up
        Share of training over which the weight rises linearly from 0 to beta.

    Notes
    -----
    The head gives the log *variance*. The course report prints log sigma beside a KL term
    written for the log variance; its program uses the log variance throughout, as here.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", 2014. Higgins et al., "beta-VAE",
    ICLR 2017.
    """

    def __init__(
        self,
        n_genes: int,
        n_latent: int,
        network: Network,
        *,
        beta: float,
        warm_up: float,
    ) -> None:
        super().__init__(n_genes, n_latent, network)
        self.beta = beta
        self.warm_up = warm_up
        self.mu = nn.Linear(self.body.n_features, n_latent)
        self.log_var = nn.Linear(self.body.n_features, n_latent)

    def encode(self, x: Batch) -> Float[Tensor, "cells latent"]:
        """Return the posterior mean."""
        return self.mu(self.body.features(x))  # type: ignore[no-any-return]

    def loss(self, x: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell, from one posterior sample."""
        features, reconstruction = self.body.read(x, generator)
        mu, log_var = self.mu(features), self.log_var(features).clamp(-10, 10)
        weight = self.beta * ramp(progress, self.warm_up)
        terms = {
            "reconstruction": reconstruction(gaussian_sample(mu, log_var, generator)),
            "kl": weight * gaussian_kl(mu, log_var).sum(1).mean(),
        }
        return Loss(terms["reconstruction"] + terms["kl"], terms)
