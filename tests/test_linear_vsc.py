"""LinearVSC: its bound against sampling, and planted programmes found again."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score

from scarce import LinearVSC
from scarce.data.simulate import simulate
from scarce.models.linear_vsc import LinearVSCNet, nonnegative_programmes
from scarce.models.parts import Body, Network
from scarce.models.posteriors import SpikeAndSlabPrior
from scarce.preprocess import normalise
from scarce.sparse.batches import Batches
from scarce.train import TrainConfig

GENES, LATENT = 12, 3


def net(slab: tuple[float, float]) -> LinearVSCNet:
    torch.manual_seed(0)
    network = Network(n_hidden=(8,), input_dropout=0.0, linear_decoder=True)
    prior = SpikeAndSlabPrior(LATENT, 0.3, slab=slab)
    return LinearVSCNet(Body(GENES, LATENT, network), prior, beta=1.0, opening=(0.05, 0.3)).eval()


def cells() -> sp.csr_matrix:
    counts = np.random.default_rng(0).poisson(0.6, (5, GENES))
    return sp.csr_matrix(np.log1p(counts).astype(np.float32))


@pytest.mark.parametrize("slab", [(0.0, 1.0), (1.0, 0.5)])
def test_the_closed_form_bound_is_the_mean_over_samples(slab: tuple[float, float]) -> None:
    module = net(slab)
    (batch,) = Batches(cells(), batch_size=5).ordered()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bound = -module.loss(batch, progress=1.0, generator=generator).total
        z, log_ratio = module.importance_samples(batch, 100_000, generator)
        x = torch.from_numpy(cells().toarray())
        log_p = module.body.likelihood.log_prob(x, module.body.hidden(z, batch.covariates))
    sampled = (log_p + log_ratio).double().mean()
    assert bound.item() == pytest.approx(sampled.item(), abs=0.02)


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
    a, b = (m / np.linalg.norm(m, axis=0) for m in (a, b))
    return np.abs(a.T @ b)


@pytest.mark.slow
def test_planted_programmes_are_found_and_better_than_by_components() -> None:
    """Planted effects are those on log-normalised expression, by regression on true activity."""
    adata = simulate(2000, 1000, n_types=10, n_programmes=8, seed=0)
    activity, planted = adata.obsm["programme_activity"], adata.varm["programme_loadings"] > 0
    normalise(adata)
    x = adata.X.toarray()
    known = np.column_stack([activity, np.ones(len(x))])
    effects = np.linalg.lstsq(known, x, rcond=None)[0][:-1].T
    model = LinearVSC().fit(adata)
    found = cosines(effects, model.programmes_)
    true, ours = linear_sum_assignment(-found)
    components = cosines(effects, PCA(16, random_state=0).fit(x).components_.T)
    best = components[linear_sum_assignment(-components)].mean()
    assert found[true, ours].mean() > 0.9 > best + 0.2

    noise = (0.5 * model.module_.body.likelihood.log_variance).exp().detach().numpy()
    strength = (model.programmes_ - np.median(model.programmes_, axis=0)) / noise[:, None]
    n_planted = planted[:, 0].sum()
    scores = []
    for programme, unit in zip(true, ours, strict=True):
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
