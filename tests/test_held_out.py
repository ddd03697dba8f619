"""Bounds on the likelihood against exact values; explained variance against its definition."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from scipy.stats import bernoulli, multivariate_normal, norm
from sklearn.neighbors import KNeighborsRegressor

from scarce.errors import InputError
from scarce.generate import draw_codes
from scarce.held_out import bounds, explained_by_neighbours, explained_variance
from scarce.models.autoencoder import AutoencoderNet
from scarce.models.beta_vae import BetaVAENet
from scarce.models.beta_vsc import BetaVSCNet, Units
from scarce.models.parts import Body, Net, Network
from scarce.models.posteriors import SpikeAndSlabPrior
from scarce.models.vasc import DroppedOut, VASCNet
from scarce.sparse.batches import Batch

GENES, LATENT, ALPHA, VARIANCE = 5, 2, 0.3, 0.25
NARROW = Network(
    n_hidden=(4,), normalise=False, input_dropout=0.0, likelihood="gaussian", decoder="deep"
)
CELLS = np.random.default_rng(0).uniform(0, 2, (6, GENES)).astype(np.float32)


def linear_decoder(net: Net) -> tuple[np.ndarray, np.ndarray]:
    """Make the decoder x = W z + b with noise of one variance; return W and b.

    Its one hidden layer holds +z and -z, whose ReLUs subtract to z.
    """
    generator = np.random.default_rng(1)
    w, b = generator.normal(size=(GENES, LATENT)), generator.uniform(size=GENES)
    hidden = net.body.decoder[0]
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(np.vstack([np.eye(LATENT), -np.eye(LATENT)])))
        hidden.bias.zero_()
        likelihood = net.body.likelihood
        likelihood.weight.copy_(torch.tensor(np.column_stack([w, -w, b])))
        likelihood.log_variance.fill_(math.log(VARIANCE))
    return w, b


def bvae() -> BetaVAENet:
    torch.manual_seed(0)
    return BetaVAENet(Body(GENES, LATENT, NARROW), LATENT, beta=2.0, warm_up=0.0)


def bvsc() -> BetaVSCNet:
    torch.manual_seed(0)
    return BetaVSCNet(
        Body(GENES, LATENT, NARROW),
        SpikeAndSlabPrior(LATENT, ALPHA),
        Units(),
        beta=1.0,
        warm_up=0.0,
        hard=False,
    )


def evidence(w: np.ndarray, b: np.ndarray, masks: list[np.ndarray], alpha: float) -> float:
    """Mean log p(x) of a linear decoder, its units switched on with probability alpha."""
    terms = []
    for mask in masks:
        prior = bernoulli.logpmf(mask, alpha).sum() if len(masks) > 1 else 0.0
        noise = VARIANCE * np.eye(GENES)
        terms.append(prior + multivariate_normal(b, (w * mask) @ w.T + noise).logpdf(CELLS))
    return float(logsumexp(terms, axis=0).mean())


@pytest.mark.parametrize("model", ["bvae", "bvsc"])
def test_iwae_of_a_linear_decoder_reaches_the_exact_likelihood(model: str) -> None:
    net = bvae() if model == "bvae" else bvsc()
    w, b = linear_decoder(net)
    masks = [np.ones(LATENT)]
    if model == "bvsc":
        masks = [np.array(m) for m in product([0, 1], repeat=LATENT)]
    exact = evidence(w, b, masks, ALPHA)
    found = bounds(net, csr_matrix(CELLS), n_samples=200_000)
    assert found["elbo"] < found["iwae"] - 0.1
    assert found["iwae"] == pytest.approx(exact, abs=0.05)


def test_elbo_of_the_vae_is_expected_log_likelihood_minus_kl() -> None:
    net = bvae()
    w, b = linear_decoder(net)
    batch = Batch(torch.tensor(CELLS), torch.empty(len(CELLS), 0))
    with torch.no_grad():
        q = net.posterior(net.body.features(batch))
        mu, var = q.mu.numpy(), q.log_var.exp().numpy()
    fit = norm.logpdf(CELLS, mu @ w.T + b, math.sqrt(VARIANCE)).sum(1)
    fit -= (var @ (w**2).T).sum(1) / (2 * VARIANCE)
    kl = 0.5 * (mu**2 + var - 1 - np.log(var)).sum(1)
    found = bounds(net, csr_matrix(CELLS), n_samples=100_000)
    assert found["elbo"] == pytest.approx((fit - kl).mean(), abs=0.05)


def test_more_samples_only_tighten_the_bound() -> None:
    net = bvsc()
    x = csr_matrix(CELLS)
    few, many = (bounds(net, x, n_samples=n, seed=3)["iwae"] for n in (2, 2000))
    assert few < many
    assert bounds(net, x) == bounds(net, x)


def test_without_a_distribution_over_codes_or_a_density_of_cells_there_is_no_bound() -> None:
    torch.manual_seed(0)
    body = Body(GENES, LATENT, NARROW)
    vasc = VASCNet(Body(GENES, LATENT, NARROW, likelihood=DroppedOut), LATENT, l1=0.0)
    for net in (AutoencoderNet(body, LATENT), vasc):
        assert bounds(net, csr_matrix(CELLS)) == {}
        with pytest.raises(InputError, match="must be drawn from a prior"):
            draw_codes(net, 3, LATENT, seed=0)


def test_explained_variance_is_zero_for_means_and_one_for_the_data() -> None:
    x = csr_matrix(CELLS)
    mean = CELLS.mean(0)
    assert explained_variance(
        x, mean, lambda b: np.tile(mean, (len(CELLS[b]), 1))
    ) == pytest.approx(0)
    assert explained_variance(x, mean, lambda b: CELLS[b]) == pytest.approx(1)
    halfway = explained_variance(x, mean, lambda b: (CELLS[b] + mean) / 2)
    assert halfway == pytest.approx(0.75, abs=1e-6)


def test_explained_by_neighbours_is_the_score_of_a_regression_on_neighbours() -> None:
    generator = np.random.default_rng(0)
    z = generator.normal(size=(80, 2))
    x = np.maximum(generator.normal(z @ generator.normal(size=(2, 30)), 0.5), 0)
    seen = np.arange(80) % 4 > 0
    left = x[~seen] - KNeighborsRegressor(7).fit(z[seen], x[seen]).predict(z[~seen])
    expected = 1 - np.square(left).sum() / np.square(x[~seen] - x[seen].mean(0)).sum()
    found = explained_by_neighbours(csr_matrix(x), z, seen, n_neighbors=7)
    assert found == pytest.approx(expected, rel=1e-9)
    shuffled = explained_by_neighbours(csr_matrix(x), generator.permutation(z), seen)
    assert shuffled < 0.1 < found


def test_all_seen_cells_as_neighbours_explain_as_much_as_the_mean() -> None:
    z, seen = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6) > 1
    assert explained_by_neighbours(csr_matrix(CELLS), z, seen) == pytest.approx(0, abs=1e-6)
