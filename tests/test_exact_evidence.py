"""The β-VSC of four units and a linear decoder, against the sum over all 16 patterns of gates.

For such a decoder log p(x) is exact: given which units are on, x is Gaussian.
"""

import math
from itertools import product
from typing import NamedTuple

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
from scarce.models.pseudo_inputs import PseudoInputs
from scarce.sparse.batches import Batch

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


class Given(NamedTuple):
    """What each unit is expected to be."""

    alpha: np.ndarray
    """Probability of being on, of each."""
    mean: float
    """Where on, of all; the variance is 1."""


def vsc(w: np.ndarray, b: np.ndarray, given: Given, *posterior: np.ndarray) -> BetaVSCNet:
    """A network with this decoder, prior and posterior."""
    network = Network(n_hidden=(4,), likelihood="gaussian", decoder="linear")
    prior = SpikeAndSlabPrior(LATENT, 0.5, slab=(given.mean, 1.0), learned=True)
    body = Body(GENES, LATENT, network)
    net = BetaVSCNet(body, prior, Units(), beta=1.0, warm_up=0.0, hard=True)
    with torch.no_grad():
        net.body.likelihood.weight.copy_(torch.tensor(np.column_stack([w, b])))
        net.body.likelihood.log_variance.fill_(math.log(VARIANCE))
        net.prior.logit.copy_(torch.tensor(np.log(given.alpha / (1 - given.alpha))))
    net.posterior = Fixed(*posterior)
    return net


def evidence(w: np.ndarray, b: np.ndarray, given: Given) -> float:
    """Mean log p(x): logsumexp over masks of log p(mask) + log N(x; b + W_m m, W_m W_m' + s2 I)."""
    terms = []
    for mask in MASKS:
        cover = (w * mask) @ w.T + VARIANCE * np.eye(GENES)
        prior = np.log(np.where(mask, given.alpha, 1 - given.alpha)).sum()
        mean = b + w @ (mask * given.mean)
        terms.append(prior + multivariate_normal(mean, cover).logpdf(CELLS))
    return float(logsumexp(terms, axis=0).mean())


def closed_bound(
    w: np.ndarray, b: np.ndarray, given: Given, mu: np.ndarray, s2: np.ndarray, a: np.ndarray
) -> float:
    """The ELBO without sampling, as a linear decoder allows."""
    kl = divergence(mu, s2, expit(a), given.mean, 1.0, given.alpha)
    return float((expected_fit(w, b, mu, s2, expit(a)) - kl.sum(1)).mean())


def expected_fit(
    w: np.ndarray, b: np.ndarray, mu: np.ndarray, s2: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    """The mean of log p(x|z) over the posterior of each cell."""
    fit = norm.logpdf(CELLS, (gamma * mu) @ w.T + b, math.sqrt(VARIANCE)).sum(1)
    spread = gamma * (s2 + mu**2) - (gamma * mu) ** 2
    return fit - spread @ np.square(w).sum(0) / (2 * VARIANCE)


def divergence(
    mu: np.ndarray, s2: np.ndarray, gamma: np.ndarray, m: object, t2: object, alpha: np.ndarray
) -> np.ndarray:
    """Of each unit from one that is on with probability alpha, then N(m, t2)."""
    slab = 0.5 * ((s2 + (mu - m) ** 2) / t2 - 1 - np.log(s2 / t2))
    gates = xlogy(gamma, gamma / alpha) + xlogy(1 - gamma, (1 - gamma) / (1 - alpha))
    return gamma * slab + gates


PRIORS = {
    "rare": Given(np.full(4, 0.15), 0.0),
    "frequent": Given(np.full(4, 0.7), 0.0),
    "away from zero": Given(np.full(4, 0.4), 0.5),
    "each its own": Given(np.array([0.05, 0.3, 0.6, 0.9]), 0.3),
}
every_prior = pytest.mark.parametrize("given", PRIORS.values(), ids=PRIORS)


@every_prior
def test_bounds_are_in_order_and_close_on_the_exact_likelihood(given: Given) -> None:
    generator = np.random.default_rng(3)
    w, b = 0.6 * generator.normal(size=(GENES, LATENT)), generator.uniform(size=GENES)
    # As wide as the prior, so that no weight is large: then the mean of few is near enough.
    mu, a = 0.4 * generator.normal(size=(2, 5, LATENT))
    mu += given.mean
    s2 = generator.uniform(0.9, 1.5, (5, LATENT))
    net = vsc(w, b, given, mu, np.log(s2), a)
    exact = evidence(w, b, given)
    few, many = (
        bounds(net, csr_matrix(CELLS.astype(np.float32)), n_samples=n, seed=1)
        for n in (10, 100_000)
    )
    assert many["elbo"] == pytest.approx(closed_bound(w, b, given, mu, s2, a), abs=0.05)
    assert many["elbo"] < few["iwae"] < many["iwae"] < exact + 0.01
    assert many["iwae"] == pytest.approx(exact, abs=0.03)
    assert exact - many["elbo"] > 0.5


@every_prior
def test_with_the_true_posterior_every_sample_weighs_the_exact_likelihood(given: Given) -> None:
    """Orthogonal columns make the units independent given x: then all bounds are equal."""
    generator = np.random.default_rng(4)
    w = np.linalg.qr(generator.normal(size=(GENES, LATENT)))[0] * [0.5, 1.0, 1.5, 2.0]
    b = generator.uniform(size=GENES)
    s2 = 1 / (1 + np.square(w).sum(0) / VARIANCE)
    mu = ((CELLS - b) @ w / VARIANCE + given.mean) * s2
    # Posterior over prior odds: the density of a unit that is on, over that where it is off.
    a = np.log(given.alpha / (1 - given.alpha)) + 0.5 * np.log(s2)
    a = a + mu**2 / (2 * s2) - given.mean**2 / 2
    net = vsc(w, b, given, mu, np.broadcast_to(np.log(s2), mu.shape).copy(), a)
    exact = evidence(w, b, given)
    found = bounds(net, csr_matrix(CELLS.astype(np.float32)), n_samples=3)
    assert found["elbo"] == pytest.approx(exact, abs=1e-4)
    assert found["iwae"] == pytest.approx(exact, abs=1e-4)


def with_pseudo_inputs(w: np.ndarray, b: np.ndarray) -> BetaVSCNet:
    """A network with this decoder whose encoder makes posterior and prior, of three cells."""
    torch.manual_seed(0)
    body = Body(GENES, LATENT, Network(n_hidden=(4,), likelihood="gaussian", decoder="linear"))
    inputs = PseudoInputs(3, GENES, torch.zeros(0))
    prior = SpikeAndSlabPrior(LATENT, 0.5)
    net = BetaVSCNet(
        body, prior, Units(start=0.5), beta=1.0, warm_up=0.0, hard=True, pseudo_inputs=inputs
    )
    cells = np.random.default_rng(1).uniform(0, 2, (3, GENES))
    inputs.start_from(torch.tensor(cells), torch.zeros(GENES))
    with torch.no_grad():
        inputs.weight.copy_(torch.tensor([0.0, 1.0, -1.0]))
        net.body.likelihood.weight.copy_(torch.tensor(np.column_stack([w, b])))
        net.body.likelihood.log_variance.fill_(math.log(VARIANCE))
    return net.eval()


def evidence_of_mixture(w: np.ndarray, b: np.ndarray, net: BetaVSCNet) -> float:
    """Mean log p(x): over components and masks, of N(x; b + W_m mu, W_m T W_m' + s2 I)."""
    p = net.current_prior()
    terms = []
    slabs = (p.components.mu, p.components.log_var.exp(), p.components.gamma)
    parts = (part.detach().numpy() for part in (p.log_weight, *slabs))
    for log_pi, mu, t2, alpha in zip(*parts, strict=True):
        for mask in MASKS:
            cover = (w * mask * t2) @ w.T + VARIANCE * np.eye(GENES)
            prior = log_pi + np.log(np.where(mask, alpha, 1 - alpha)).sum()
            terms.append(prior + multivariate_normal(b + w @ (mask * mu), cover).logpdf(CELLS))
    return float(logsumexp(terms, axis=0).mean())


def closed_bound_of_mixture(w: np.ndarray, b: np.ndarray, net: BetaVSCNet) -> float:
    """What is trained on, without sampling: the bound of the divergence from the mixture."""
    code = net.code(Batch(torch.tensor(CELLS).float(), torch.zeros(5, 0)))
    (mu, s2, gamma), (m, t2, alpha) = (
        (part.detach().double().numpy() for part in (q.mu, q.log_var.exp(), q.gamma))
        for q in (code, net.current_prior().components)
    )
    kl = [divergence(mu, s2, gamma, m[u], t2[u], alpha[u]).sum(1) for u in range(3)]
    log_pi = net.current_prior().log_weight.detach().numpy()[:, None]
    fit = expected_fit(w, b, mu, s2, gamma)
    return float((fit + logsumexp(log_pi - np.array(kl), axis=0)).mean())


def test_bounds_with_pseudo_inputs_are_in_order_and_close_on_the_exact_likelihood() -> None:
    generator = np.random.default_rng(3)
    w, b = 0.6 * generator.normal(size=(GENES, LATENT)), generator.uniform(size=GENES)
    net = with_pseudo_inputs(w, b)
    trained, exact = closed_bound_of_mixture(w, b, net), evidence_of_mixture(w, b, net)
    cells = csr_matrix(CELLS.astype(np.float32))
    few, many = (bounds(net, cells, n_samples=n, seed=1) for n in (10, 100_000))
    assert trained < many["elbo"] < few["iwae"] < many["iwae"] < exact + 0.01
    assert many["iwae"] == pytest.approx(exact, abs=0.03)
    assert exact - many["elbo"] > 0.5
    # The same noise for the loss: what it estimates is the first of these bounds.
    batch = Batch(torch.tensor(CELLS).float().repeat(40_000, 1), torch.zeros(200_000, 0))
    terms = net.loss(batch, progress=1.0, generator=torch.Generator().manual_seed(0)).terms
    loss = terms["reconstruction"] + terms["kl"]
    assert -loss.item() == pytest.approx(trained, abs=0.1)
