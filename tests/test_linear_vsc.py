"""LinearVSC: its bound against sampling, and planted programmes found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from scipy.optimize import linear_sum_assignment
from scipy.stats import poisson
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score

import scarce
from scarce import BetaVSC, LinearVSC
from scarce.data.simulate import simulate
from scarce.held_out import bounds
from scarce.models.linear_vsc import CLOSED_FORMS, LinearVSCNet
from scarce.models.nonnegative import nonnegative_programmes
from scarce.models.parts import Body, Network
from scarce.models.posteriors import SpikeAndSlabPrior
from scarce.preprocess import normalise
from scarce.sparse.batches import Batches
from scarce.train import TrainConfig

GENES, LATENT = 12, 3


def net(slab: tuple[float, float], likelihood: str = "gaussian") -> LinearVSCNet:
    torch.manual_seed(0)
    network = Network(n_hidden=(8,), input_dropout=0.0, decoder="linear")
    prior = SpikeAndSlabPrior(LATENT, 0.3, slab=slab)
    body = Body(GENES, LATENT, network, likelihood=CLOSED_FORMS[likelihood])
    return LinearVSCNet(body, prior, beta=1.0, opening=(0.05, 0.3)).eval()


def cells(likelihood: str = "gaussian") -> sp.csr_matrix:
    counts = np.random.default_rng(0).poisson(0.6, (5, GENES)).astype(np.float32)
    return sp.csr_matrix(counts if CLOSED_FORMS[likelihood].counts else np.log1p(counts))


@pytest.mark.parametrize("likelihood", CLOSED_FORMS)
@pytest.mark.parametrize("slab", [(0.0, 1.0), (1.0, 0.5)])
def test_the_closed_form_bound_is_the_mean_over_samples(
    slab: tuple[float, float], likelihood: str
) -> None:
    module, read = net(slab, likelihood), cells(likelihood)
    if likelihood == "poisson":  # log shares: with biases of 0 all genes together have S = 12
        module.body.likelihood.start_from(torch.linspace(1, 2, GENES), torch.ones(GENES))
    (batch,) = Batches(read, batch_size=5).ordered()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bound = -module.loss(batch, progress=1.0, generator=generator).total
        z, log_ratio = module.importance_samples(batch, 100_000, generator)
        x = torch.from_numpy(read.toarray())
        log_p = module.body.likelihood.log_prob(x, module.body.hidden(z, batch.covariates))
    sampled = (log_p + log_ratio).double().mean()
    slack = 0.3 if likelihood == "student_t" else 0.02  # log E[x] > E[log x]
    assert sampled.item() - slack < bound.item() < sampled.item() + 0.02


def test_closed_slabs_are_those_of_the_prior() -> None:
    module = net((1.0, 0.5))
    features = torch.randn(4, 8)
    closed, opened = (module.posterior(features, openness) for openness in (0.0, 1.0))
    assert torch.all(closed.mu == 1.0)
    torch.testing.assert_close(closed.log_var, torch.full((4, LATENT), 2 * np.log(0.5)).float())
    assert not torch.equal(opened.mu, closed.mu)
    torch.testing.assert_close(closed.logit, opened.logit)


def test_starting_programmes_are_as_many_as_asked_for() -> None:
    programmes = nonnegative_programmes(cells(), 8, seed=0)
    assert programmes.shape == (GENES, 8)
    assert np.all(programmes >= 0)
    assert np.all(programmes[:, 5:] == 0)  # five cells have no sixth part
    again = nonnegative_programmes(cells(), 8, seed=0)
    np.testing.assert_array_equal(programmes, again)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (m / np.maximum(np.linalg.norm(m, axis=0), 1e-12) for m in (a, b))  # a unit may be off
    return np.abs(a.T @ b)


@pytest.mark.slow
@pytest.mark.parametrize("model", [LinearVSC(), BetaVSC(n_latent=16)], ids=["linear", "default"])
def test_planted_programmes_are_found_and_better_than_by_components(
    model: LinearVSC | BetaVSC,
) -> None:
    """Planted effects are those on log-normalised expression, by regression on true activity."""
    adata = simulate(2000, 1000, n_types=10, n_programmes=8, seed=0)
    activity, planted = adata.obsm["programme_activity"], adata.varm["programme_loadings"] > 0
    normalise(adata)
    x = adata.X.toarray()
    known = np.column_stack([activity, np.ones(len(x))])
    effects = np.linalg.lstsq(known, x, rcond=None)[0][:-1].T
    ours = scarce.programmes(model.fit(adata), adata).effect
    found = cosines(effects, ours)
    true, matched = linear_sum_assignment(-found)
    components = cosines(effects, PCA(16, random_state=0).fit(x).components_.T)
    best = components[linear_sum_assignment(-components)].mean()
    assert found[true, matched].mean() > 0.9 > best + 0.2

    noise = (0.5 * model.module_.body.likelihood.log_variance).exp().detach().numpy()
    strength = (ours - np.median(ours, axis=0)) / noise[:, None]
    n_planted = planted[:, 0].sum()
    scores = []
    for programme, unit in zip(true, matched, strict=True):
        strongest = strength[:, unit] >= np.sort(strength[:, unit])[-n_planted]
        scores.append(f1_score(planted[:, programme], strongest))
    assert np.mean(scores) > 0.8


def test_a_few_epochs_already_separate_planted_programmes() -> None:
    adata = simulate(500, 200, n_types=4, n_programmes=4, density=0.3, seed=0)
    activity = adata.obsm["programme_activity"]
    normalise(adata)
    training = TrainConfig(epochs=40, batch_size=64)
    network = replace(Network(), n_hidden=(64,))
    z = LinearVSC(n_latent=4, training=training, network=network).fit_transform(adata)
    match = np.abs(np.corrcoef(activity.T, z.T)[:4, 4:])
    assert match[linear_sum_assignment(-match)].mean() > 0.6


SMALL = {
    "n_latent": 4,
    "network": Network(n_hidden=(64,), likelihood="poisson", input_dropout=0.2),
    "training": TrainConfig(epochs=40, batch_size=64),
}


def mean_log_pmf(counts: np.ndarray, seen: np.ndarray) -> float:
    """Log likelihood of cells, in nats per cell, if all have the gene shares of others."""
    share = seen.sum(0) + 0.5
    rates = counts.sum(1, keepdims=True) * (share / share.sum())
    return float(poisson.logpmf(counts, rates).sum(1).mean())


@pytest.fixture(scope="module")
def planted() -> AnnData:
    return simulate(600, 200, n_types=4, n_programmes=4, density=0.3, seed=0)


@pytest.fixture(scope="module")
def of_counts(planted: AnnData) -> LinearVSC:
    """Fitted on all but the last hundred cells."""
    return LinearVSC(**SMALL).fit(planted[:500])


def test_unseen_counts_are_likelier_than_by_gene_means(
    planted: AnnData, of_counts: LinearVSC
) -> None:
    counts = planted.X.toarray()
    found = bounds(of_counts.module_, planted.X[500:])
    assert found["iwae"] > found["elbo"] > mean_log_pmf(counts[500:], counts[:500]) + 8


def test_programmes_of_counts_are_in_logarithms_of_shares(
    planted: AnnData, of_counts: LinearVSC
) -> None:
    """Genes count by what Poisson noise leaves of them: by the root of their share."""
    programmes = of_counts.programmes_ - of_counts.programmes_.mean(0)
    loadings = planted.varm["programme_loadings"] - planted.varm["programme_loadings"].mean(0)
    root = np.sqrt(planted.X.mean(0).A1)[:, None]
    match = cosines(root * loadings, root * programmes)
    true, ours = linear_sum_assignment(-match)
    assert match[true, ours].mean() > 0.65
    activity, z = planted.obsm["programme_activity"], of_counts.transform(planted)
    correlation = np.abs(np.corrcoef(activity.T, z.T)[:4, 4:])
    assert correlation[true, ours].mean() > 0.65
    # One unit more of the code, one programme more.
    ratios = of_counts.decode(np.vstack([np.zeros(4), np.eye(4)]), log_ratios=True)
    np.testing.assert_allclose((ratios[1:] - ratios[0]).T, programmes, atol=1e-5)


def test_a_model_of_counts_codes_reconstructs_draws_saves_and_loads(
    planted: AnnData, of_counts: LinearVSC, tmp_path: Path
) -> None:
    x_hat, measured = of_counts.reconstruct(planted), of_counts.expression(planted).toarray()
    for made in (x_hat, of_counts.sample(20)):
        np.testing.assert_allclose(np.expm1(made).sum(1), 1e4, rtol=1e-4)
    types = planted.obs["cell_type"]
    for each in types.unique():  # means of a type, which hold little noise
        found, true = (np.expm1(values[types == each]).mean(0) for values in (x_hat, measured))
        others = np.expm1(measured[types != each]).mean(0)
        assert np.abs(found - true).sum() < 0.7 * np.abs(others - true).sum()
    of_counts.save(tmp_path)
    loaded = LinearVSC.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(planted), of_counts.transform(planted))
    np.testing.assert_array_equal(loaded.programmes_, of_counts.programmes_)
    assert bounds(loaded.module_, planted.X) == bounds(of_counts.module_, planted.X)


def test_counts_start_in_the_range_of_the_link_however_abundant(planted: AnnData) -> None:
    """As good as gene means: factors of the counts themselves would be exponents in the tens."""
    counts = 1000 * planted.X
    training = TrainConfig(epochs=1, batch_size=64, lr=1e-6)
    model = LinearVSC(**SMALL | {"training": training}).fit(sp.csr_matrix(counts))
    dense = counts.toarray()
    assert model.history_.losses["held_out"][0] < -1.2 * mean_log_pmf(dense, dense)


def test_paths_of_arithmetic_give_the_same_model_of_counts(planted: AnnData) -> None:
    network = replace(SMALL["network"], input_dropout=0.0)
    found = [
        LinearVSC(
            n_latent=4, network=network, training=TrainConfig(epochs=2, batch_size=64, path=path)
        ).fit_transform(planted)
        for path in ("sparse", "dense")
    ]
    np.testing.assert_allclose(*found, atol=1e-4)
