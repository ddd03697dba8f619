r"""LinearVSC: sparse codes through a linear decoder, whose columns are gene programmes.

Posterior and prior are those of `scarce.models.beta_vsc`; the decoder is
:math:`\hat x = b + W z`. Its evidence lower bound needs no samples: with
:math:`\bar z_j = \gamma_j \mu_j` and
:math:`v_j = \gamma_j(s_j^2 + \mu_j^2) - \gamma_j^2\mu_j^2` the mean and variance of the code,

.. math:: E_q \|x - b - W z\|_\sigma^2 = \|x - b - W \bar z\|_\sigma^2
          + \sum_j v_j \|w_j\|_\sigma^2, \qquad
          \|e\|_\sigma^2 = \sum_g e_g^2 / \sigma_g^2.

The first term is the squared error that trains on sparse cells; the second costs G J. Of Poisson
counts with :math:`\log\mu = \log n + b + W z` the bound is known as well, see
`scarce.sparse.log_link`; with a softmax over the genes it is not.
"""

import warnings
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from scarce.likelihoods import Gaussian, Likelihood, PoissonLogLink
from scarce.models.parts import Body, Loss, Net, ramp
from scarce.models.posteriors import SpikeAndSlabHead, SpikeAndSlabPosterior, SpikeAndSlabPrior
from scarce.sparse.batches import Batch

__all__ = ["CLOSED_FORMS", "LinearVSCNet", "nonnegative_programmes"]

CLOSED_FORMS: dict[str, type[Likelihood]] = {"gaussian": Gaussian, "poisson": PoissonLogLink}
"""By the name an option takes: likelihoods whose expectation over a code is known."""
_CELLS = 5000
"""Most cells the starting programmes are found on."""
_START = 0.3
"""Strength they begin with. At their own, half-open gates cost more than they explain: on
PBMC3k all of them closed within ten epochs and never opened again."""


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

    def start_from(self, programmes: Float[Tensor, "genes latent"]) -> None:
        """Begin at given programmes, weakened; on average over units they change no gene."""
        with torch.no_grad():
            centred = _START * (programmes - programmes.mean(1, keepdim=True))
            self.body.likelihood.weight[:, : programmes.shape[1]] = centred

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the negative beta-ELBO per cell; only inputs are dropped at random."""
        features, at_code = self.body.read(batch, generator)
        q: SpikeAndSlabPosterior = self.posterior(features, ramp(progress, *self.opening))
        likelihood = self.body.likelihood
        if isinstance(likelihood, PoissonLogLink):
            reconstruction = likelihood.expected_loss(batch.x, batch.covariates, *q)
        else:
            reconstruction = at_code(q.mean) + self._spread(q)
        terms = {
            "reconstruction": reconstruction,
            "kl": self.beta * self.prior.kl(q).mean(),
        }
        return Loss(terms["reconstruction"] + terms["kl"], terms)

    def _spread(self, q: SpikeAndSlabPosterior) -> Float[Tensor, ""]:
        """What the variance of the code adds to the expected error, per cell."""
        likelihood = cast(Gaussian, self.body.likelihood)
        programmes = likelihood.weight[:, : q.mu.shape[1]]
        return 0.5 * q.variance.mean(0) @ (likelihood.precision() @ programmes.square())


def nonnegative_programmes(x: csr_matrix, n_programmes: int, *, seed: int) -> NDArray[np.float32]:
    """Return what a few non-negative parts of cells add where they are in use.

    Non-negative matrix factorisation, of at most 5,000 cells: quick, and close to a sparse
    code, from which the network goes on. From random weights it ended in dense factors.

    Parameters
    ----------
    x
        Log-normalised expression, n_cells x n_genes.
    n_programmes
        How many; more than cells or genes allow are zero.
    seed
        Of the cells drawn.

    Returns
    -------
    Array of shape (n_genes, n_programmes).
    """
    rows = np.random.default_rng(seed).permutation(x.shape[0])[:_CELLS]
    n_found = min(n_programmes, len(rows), x.shape[1])
    model = NMF(n_found, init="nndsvda", max_iter=100, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not be an optimum
        activity = model.fit_transform(x[np.sort(rows)])
    in_use = activity > 0.2 * activity.max(0)
    level = (activity * in_use).sum(0) / np.maximum(1, in_use.sum(0))
    programmes = np.zeros((x.shape[1], n_programmes), np.float32)
    programmes[:, :n_found] = model.components_.T * level
    return programmes
