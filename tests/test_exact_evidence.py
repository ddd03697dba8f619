"""The β-VSC of four units and a linear decoder, against the sum over all 16 patterns of gates.

For such a decoder log p(x) is exact: given which units are on, x is Gaussian.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.special import expit, logsumexp, xlogy
from scipy.stats import multivariate_normal, norm
from torch import nn

from scarce.held_out import bounds
from scarce.models.beta_vsc import BetaVSCNet, Units
from scarce.models.parts import Body, Network
from scarce.models.posteriors import SpikeAndSlabPosterior, SpikeAndSlabPrior

GENES, LATENT, VARIANCE = 7, 4, 0.5
CELLS = np.random.default_rng(0).uniform(0, 2, (5, GENES))
MASKS = np.array(list(product([0, 1], repeat=LATENT)))


class Fixed(nn.Module):
    """A posterior of each cell that is given, whatever the encoder says."""

    def __init__(self, *parts: np.ndarray) -> None:
        super().__init__()
        self.parts = SpikeAndSlabPosterior(*(torch.tensor(part).float() for part in parts))

    def forward(self, features: torch.Tensor) -> SpikeAndSlabPosterior:
        return self.parts


def vsc(w: np.ndarray, b: np.ndarray, alpha: np.ndarray, *posterior: np.ndarray) -> BetaVSCNet:
    """A network with this decoder, prior (a probability per unit) and posterior."""
    network = Network(n_hidden=(4,), linear_decoder=True)
    prior = SpikeAndSlabPrior(LATENT, 0.5, learned=True)
    body = Body(GENES, LATENT, network)
    net = BetaVSCNet(body, prior, Units(), beta=1.0, warm_up=0.0, hard=True)
    with torch.no_grad():
        net.body.likelihood.weight.copy_(torch.tensor(np.column_stack([w, b])))
        net.body.likelihood.log_variance.fill_(math.log(VARIANCE))
        net.prior.logit.copy_(torch.tensor(np.log(alpha / (1 - alpha))))
    net.posterior = Fixed(*posterior)
    return net


def evidence(w: np.ndarray, b: np.ndarray, alpha: np.ndarray) -> float:
    """Mean log p(x): logsumexp over masks of log p(mask) + log N(x; b, W_m W_m' + s2 I)."""
    terms = []
    for mask in MASKS:
        cover = (w * mask) @ w.T + VARIANCE * np.eye(GENES)
        prior = np.log(np.where(mask, alpha, 1 - alpha)).sum()
        terms.append(prior + multivariate_normal(b, cover).logpdf(CELLS))
    return float(logsumexp(terms, axis=0).mean())


def closed_bound(
    w: np.ndarray, b: np.ndarray, alpha: np.ndarray, mu: np.ndarray, s2: np.ndarray, a: np.ndarray
) -> float:
    """The ELBO without sampling, as a linear decoder allows."""
    gamma = expit(a)
    fit = norm.logpdf(CELLS, (gamma * mu) @ w.T + b, math.sqrt(VARIANCE)).sum(1)
    spread = gamma * (s2 + mu**2) - (gamma * mu) ** 2
    fit -= spread @ np.square(w).sum(0) / (2 * VARIANCE)
    kl = gamma * 0.5 * (mu**2 + s2 - 1 - np.log(s2))
    kl += xlogy(gamma, gamma / alpha) + xlogy(1 - gamma, (1 - gamma) / (1 - alpha))
    return float((fit - kl.sum(1)).mean())


ALPHAS = [np.full(4, 0.15), np.full(4, 0.7), np.array([0.05, 0.3, 0.6, 0.9])]


@pytest.mark.parametrize("alpha", ALPHAS, ids=["rare", "frequent", "each its own"])
def test_bounds_are_in_order_and_close_on_the_exact_likelihood(alpha: np.ndarray) -> None:
    generator = np.random.default_rng(3)
    w, b = 0.6 * generator.normal(size=(GENES, LATENT)), generator.uniform(size=GENES)
    # As wide as the prior, so that no weight is large: then the mean of few is near enough.
    mu, a = 0.4 * generator.normal(size=(2, 5, LATENT))
    s2 = generator.uniform(0.9, 1.5, (5, LATENT))
    net = vsc(w, b, alpha, mu, np.log(s2), a)
    exact = evidence(w, b, alpha)
    few, many = (
        bounds(net, csr_matrix(CELLS.astype(np.float32)), n_samples=n, seed=1)
        for n in (10, 100_000)
    )
    assert many["elbo"] == pytest.approx(closed_bound(w, b, alpha, mu, s2, a), abs=0.05)
    assert many["elbo"] < few["iwae"] < many["iwae"] < exact + 0.01
    assert many["iwae"] == pytest.approx(exact, abs=0.03)
    assert exact - many["elbo"] > 0.5


@pytest.mark.parametrize("alpha", ALPHAS, ids=["rare", "frequent", "each its own"])
def test_with_the_true_posterior_every_sample_weighs_the_exact_likelihood(
    alpha: np.ndarray,
) -> None:
    """Orthogonal columns make the units independent given x: then all bounds are equal."""
    generator = np.random.default_rng(4)
    w = np.linalg.qr(generator.normal(size=(GENES, LATENT)))[0] * [0.5, 1.0, 1.5, 2.0]
    b = generator.uniform(size=GENES)
    s2 = 1 / (1 + np.square(w).sum(0) / VARIANCE)
    mu = (CELLS - b) @ w / VARIANCE * s2
    a = np.log(alpha / (1 - alpha)) + 0.5 * np.log(s2) + mu**2 / (2 * s2)
    net = vsc(w, b, alpha, mu, np.broadcast_to(np.log(s2), mu.shape).copy(), a)
    exact = evidence(w, b, alpha)
    found = bounds(net, csr_matrix(CELLS.astype(np.float32)), n_samples=3)
    assert found["elbo"] == pytest.approx(exact, abs=1e-4)
    assert found["iwae"] == pytest.approx(exact, abs=1e-4)
