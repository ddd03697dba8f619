r"""LinearVSC: sparse codes through a linear decoder, whose columns are gene programmes.

Posterior and prior are those of `scarce.models.beta_vsc`; the decoder is
:math:`\hat x = b + W z`. Its evidence lower bound needs no samples: with
:math:`\bar z_j = \gamma_j \mu_j` and
:math:`v_j = \gamma_j(s_j^2 + \mu_j^2) - \gamma_j^2\mu_j^2` the mean and variance of the code,

.. math:: E_q \|x - b - W z\|_\sigma^2 = \|x - b - W \bar z\|_\sigma^2
          + \sum_j v_j \|w_j\|_\sigma^2, \qquad
          \|e\|_\sigma^2 = \sum_g e_g^2 / \sigma_g^2.

The first term is the squared error that trains on sparse cells; the second costs G J. A Student's t
takes a concave logarithm of this sum, so that the same two terms bound it. Of Poisson counts
with :math:`\log\mu = \log n + b + W z` the bound is known as well, see `scarce.sparse.log_link`;
with a softmax over the genes it is not.
"""

from typing import cast

import torch

from scarce.likelihoods import Gaussian, Likelihood, PoissonLogLink, StudentT
from scarce.models.parts import Body, Loss, Net, ramp
from scarce.models.posteriors import SpikeAndSlabHead, SpikeAndSlabPosterior, SpikeAndSlabPrior
from scarce.sparse.batches import Batch

__all__ = ["CLOSED_FORMS", "LinearVSCNet"]

CLOSED_FORMS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "student_t": StudentT,
    "poisson": PoissonLogLink,
}
"""By the name an option takes: likelihoods whose expectation over a code, or a bound, is known."""


class LinearVSCNet(Net):
    r"""Variational sparse coding with a linear decoder and a closed-form bound.

    Parameters
    ----------
    body, prior
        Encoder and decoder, the decoder linear and the likelihood one of `CLOSED_FORMS`; and
        what each unit is expected to be.
    beta
        Weight of the KL divergence; 1 is the evidence lower bound.
    opening
        Shares of training between which the slabs open: before the first all cells have
        the prior's, so that units first learn to be on or off; after the second each has
        its own.

    References
    ----------
    Tonolini, Jensen, Murray-Smith, "Variational Sparse Coding", UAI 2019: prior and
    posterior, and the warm-up of the slabs (section 3.3 of its supplement). The bound for
    a linear decoder is derived above; the slab away from zero is ours.
    """

    posterior: SpikeAndSlabHead
    prior: SpikeAndSlabPrior

    def __init__(
        self, body: Body, prior: SpikeAndSlabPrior, *, beta: float, opening: tuple[float, float]
    ) -> None:
        head = SpikeAndSlabHead(body.n_features, prior.n_latent, prior.slab)
        super().__init__(body, head, prior)
        self.beta = beta
        self.opening = opening
        self.settled = opening[1]

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell; only inputs are dropped at random."""
        features, _ = self.body.read(batch, generator)
        q: SpikeAndSlabPosterior = self.posterior(features, ramp(progress, *self.opening))
        likelihood = self.body.likelihood
        if isinstance(likelihood, PoissonLogLink):
            reconstruction = likelihood.expected_loss(batch.x, batch.covariates, *q)
        else:
            h = self.body.hidden(q.mean, batch.covariates)
            reconstruction = cast(Gaussian, likelihood).expected_loss(batch.x, h, q.variance)
        terms = {
            "reconstruction": reconstruction,
            "kl": self.beta * self.prior.kl(q).mean(),
        }
        return Loss(terms)
