"""Latents of several fits matched, against every matching there is."""

from itertools import permutations

import anndata as ad
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import scarce
from scarce import BetaVAE, preprocess, stability
from scarce.data import simulate
from scarce.errors import InputError
from scarce.models.parts import Network
from scarce.train import TrainConfig


def code(seed: int, n_latent: int = 4) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(30, n_latent)) @ generator.normal(size=(n_latent, n_latent))


def correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :])


@given(seed=st.integers(0, 500), n_a=st.integers(1, 5), n_b=st.integers(1, 5))
def test_matching_is_the_best_of_all(seed: int, n_a: int, n_b: int) -> None:
    a, b = code(seed, n_a), code(seed + 1, n_b)
    found = stability([a, b])
    table = correlations(a, b)
    np.testing.assert_allclose(found.correlations[0, 1], table, atol=1e-10)
    short = table if n_a <= n_b else table.T
    best = max(
        sum(short[i, j] for i, j in enumerate(order))
        for order in permutations(range(short.shape[1]), len(short))
    )
    assert found.pairs["matched"][0] == pytest.approx(best / len(short))


def test_the_same_latents_turned_and_shuffled_come_back() -> None:
    a = code(0)
    b = a[:, [2, 0, 3, 1]] * [1, -2, 3, -1] + 5
    found = stability([a, b])
    np.testing.assert_allclose(found.latents["reproducibility"], 1)
    assert found.partners[0, 1].tolist() == [1, 3, 0, 2]
    assert found.partners[1, 0].tolist() == [2, 0, 3, 1]


def test_reproducibility_is_the_median_over_the_other_fits() -> None:
    codes = [code(seed, 3) for seed in range(4)]
    found = stability(codes)
    assert len(found.pairs) == 6
    for fit in range(4):
        mine = [
            found.correlations[fit, other][np.arange(3), found.partners[fit, other]]
            for other in range(4)
            if other != fit
        ]
        rows = found.latents[found.latents["fit"] == fit]
        np.testing.assert_allclose(rows["reproducibility"], np.median(mine, axis=0))


def test_dead_latents_and_latents_without_partner_do_not_come_back() -> None:
    a = code(0, 3)
    b = a.copy()
    b[:, 1] = 7.0
    found = stability([a, b])
    np.testing.assert_allclose(found.latents["reproducibility"], [1, 0, 1] * 2, atol=1e-12)
    fewer = stability([a, a[:, :2]])
    np.testing.assert_allclose(fewer.latents["reproducibility"], [1, 1, 0, 1, 1], atol=1e-12)
    assert fewer.pairs["matched"][0] == pytest.approx(1)


def test_random_matchings_have_the_mean_of_all_pairs() -> None:
    a, b = code(1, 5), code(2, 5)
    found = stability([a, b])
    assert found.pairs["random"][0] == pytest.approx(correlations(a, b).mean(), abs=0.01)
    every = [correlations(a, b)[np.arange(5), list(p)].mean() for p in permutations(range(5))]
    assert found.pairs["random_95"][0] == pytest.approx(np.quantile(every, 0.95), abs=0.02)
    assert found.pairs["matched"][0] >= max(every) - 1e-12


def test_effects_are_compared_between_the_partners() -> None:
    a = code(0, 3)
    effects = np.random.default_rng(1).normal(size=(20, 3))
    found = stability([a, a[:, ::-1]], effects=[effects, -effects[:, ::-1]])
    np.testing.assert_allclose(found.latents["cosine"], 1)
    other = stability([a, a[:, ::-1]], effects=[effects, effects])
    cosine = np.abs(effects[:, 0] @ effects[:, 2]) / np.prod(
        np.linalg.norm(effects[:, [0, 2]], axis=0)
    )
    assert other.latents["cosine"][0] == pytest.approx(cosine)
    assert stability([a, a]).latents["cosine"].isna().all()


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    adata = simulate(60, 30, n_types=2, n_programmes=3, seed=1)
    preprocess.normalise(adata)
    return adata


def test_models_are_compared_on_the_cells_given(cells: ad.AnnData) -> None:
    network, training = Network(n_hidden=(8,)), TrainConfig(epochs=2, batch_size=16)
    models = [
        BetaVAE(n_latent=2, network=network, training=training, seed=s).fit(cells[:40])
        for s in (0, 1)
    ]
    held_out = cells[40:]
    found = stability(models, held_out)
    again = stability(
        [model.transform(held_out) for model in models],
        effects=[scarce.programmes(model, held_out).effect for model in models],
    )
    np.testing.assert_allclose(found.latents["reproducibility"], again.latents["reproducibility"])
    np.testing.assert_allclose(found.latents["cosine"], again.latents["cosine"], atol=1e-10)
    with pytest.raises(InputError, match="must be given models and cells"):
        stability(models)


def test_effects_are_compared_gene_by_gene(cells: ad.AnnData) -> None:
    network, training = Network(n_hidden=(8,)), TrainConfig(epochs=2, batch_size=16)
    model, less = (
        BetaVAE(n_latent=2, network=network, training=training).fit(cells[:, genes])
        for genes in (slice(None), slice(None, 4, -1))
    )
    found = stability([model, less], cells)
    whole, part = (scarce.programmes(fit, cells).effect for fit in (model, less))
    codes = [fit.transform(cells) for fit in (model, less)]
    again = stability(codes, effects=[whole[:4:-1], part])
    np.testing.assert_allclose(found.latents["cosine"], again.latents["cosine"], atol=1e-10)
    with pytest.raises(InputError, match="genes in common"):
        stability([less, BetaVAE(n_latent=2, training=training).fit(cells[:, :5])], cells)


def test_fits_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 fits; found 1"):
        stability([code(0)])
    with pytest.raises(InputError, match="on the same cells; found codes of 20 and 30 cells"):
        stability([code(0), code(1)[:20]])
