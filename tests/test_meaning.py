"""Effects of latents on genes, against decoders written out by hand and planted programmes."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import scarce
from scarce import BetaVAE, BetaVSC, DeepAutoencoder, preprocess
from scarce.data import simulate
from scarce.errors import InputError
from scarce.estimators import Estimator
from scarce.meaning import effects as rooms
from scarce.meaning.effects import ablate, raw_difference, traverse, use
from scarce.meaning.programme import _score, _sign
from scarce.meaning.sparsity import hoyer
from scarce.models.parts import Network
from scarce.train import TrainConfig

QUICK = TrainConfig(epochs=3, batch_size=32)
DEEP = Network(n_hidden=(16, 8), input_dropout=0.0)
LINEAR = replace(DEEP, decoder="linear")


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    cells = simulate(90, 40, n_types=3, n_programmes=4, seed=2)
    preprocess.normalise(cells)
    cells.obs["batch"] = np.where(np.arange(90) % 2, "one", "two")
    return cells


def opened(model: Estimator, cells: ad.AnnData) -> Estimator:
    """Move gates and decoder off their start: latents differ, each is on in some cells."""
    generator = torch.Generator().manual_seed(3)
    head, body = model.module_.posterior, model.module_.body
    with torch.no_grad():
        for layer in (head.mu, getattr(head, "logit", head.mu)):
            layer.weight.normal_(generator=generator)
            layer.bias.zero_()
        body.likelihood.weight[:, :-1].normal_(generator=generator)
        if hasattr(head, "logit"):
            shares = torch.tensor([0.2, 0.5, 0.7])
            logit = torch.cat(
                [
                    head(body.features(batch)).logit
                    for batch in model._batches(cells, None).ordered()
                ]
            )
            head.logit.bias.copy_(-torch.stack([logit[:, j].quantile(shares[j]) for j in range(3)]))
    return model


def fitted(
    leaf: type[Estimator], cells: ad.AnnData, network: Network = DEEP, **more: object
) -> Estimator:
    model = leaf(n_latent=3, network=network, training=QUICK, **more)
    return opened(model.fit(cells), cells)


def by_hand(model: Estimator, cells: ad.AnnData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Effects and standard errors cell by cell, from the network itself."""
    z, gamma = model.transform(cells), model.inclusion_probabilities(cells)
    known = torch.from_numpy(model.covariates_.columns(cells.obs))
    lost: list[list[NDArray[np.float64]]] = [[] for _ in range(z.shape[1])]
    for i, code in enumerate(z):
        for j in np.flatnonzero(gamma[i] > 0.5):
            without = code.copy()
            without[j] = 0
            with torch.no_grad():
                pair = torch.from_numpy(np.stack([code, without]))
                both = model.module_.body.decode(pair, known[[i, i]])
            lost[j].append((both[0] - both[1]).double().numpy())
    mean = [np.mean(d, axis=0) for d in lost]
    error = [np.std(d, axis=0, ddof=1) / np.sqrt(len(d)) for d in lost]
    return np.transpose(mean), np.transpose(error)


@pytest.mark.parametrize("network", [DEEP, LINEAR])
@pytest.mark.parametrize("batch", [None, "batch"])
def test_effects_are_those_of_each_cell_decoded_with_and_without(
    network: Network, batch: str | None, adata: ad.AnnData
) -> None:
    model = fitted(BetaVSC, adata, network, batch=batch)
    used = use(model, adata)
    assert used.switches.all()
    assert 5 < used.on.sum(axis=0).min() < used.on.sum(axis=0).max() < 85
    effect, se = ablate(model, used)
    expected, error = by_hand(model, adata)
    np.testing.assert_allclose(effect, expected, atol=2e-5)
    np.testing.assert_allclose(se, error, atol=2e-5)


def test_linear_decoder_has_its_weights_times_the_mean_activity(adata: ad.AnnData) -> None:
    model = fitted(BetaVSC, adata, LINEAR)
    z, gamma = model.transform(adata), model.inclusion_probabilities(adata)
    weight = model.module_.body.likelihood.weight.detach().numpy()[:, :3]
    activity = [z[gamma[:, j] > 0.5, j].mean() for j in range(3)]
    np.testing.assert_allclose(ablate(model, use(model, adata))[0], weight * activity, atol=1e-6)


@pytest.mark.parametrize("leaf", [BetaVSC, BetaVAE])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_short_way_of_a_linear_decoder_is_the_long_one(
    leaf: type[Estimator], scaled: bool, adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(leaf, adata, LINEAR, scaled=scaled)
    short = ablate(model, use(model, adata))
    monkeypatch.setattr(rooms, "_loadings", lambda model: None)
    for one, other in zip(short, ablate(model, use(model, adata)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_blocks_of_cells_change_nothing_and_bound_what_is_decoded(
    adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(BetaVSC, adata, batch="batch")
    whole = ablate(model, use(model, adata))
    sizes: list[int] = []
    decode = model.decode
    monkeypatch.setattr(rooms, "_BLOCK", 7 * adata.n_vars)
    monkeypatch.setattr(
        model, "decode", lambda z, **more: sizes.append(len(z)) or decode(z, **more)
    )
    for one, other in zip(whole, ablate(model, use(model, adata)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert max(sizes) == 7


def test_without_gates_both_sides_of_a_latent_count_the_same_way(adata: ad.AnnData) -> None:
    model = fitted(BetaVAE, adata, LINEAR)
    z = model.transform(adata).astype(np.float64)
    away = z - z.mean(0)
    far = np.abs(away) > z.std(0)
    weight = model.module_.body.likelihood.weight.detach().numpy()[:, :3]
    expected = weight * [np.abs(away[far[:, j], j]).mean() for j in range(3)]
    np.testing.assert_allclose(ablate(model, use(model, adata))[0], expected, atol=1e-5)


@pytest.mark.parametrize("network", [DEEP, LINEAR])
@pytest.mark.parametrize("likelihood", ["poisson", "zinb"])
def test_effects_on_counts_are_those_on_log_ratios(
    network: Network, likelihood: str, adata: ad.AnnData
) -> None:
    model = fitted(BetaVSC, adata, replace(network, likelihood=likelihood))
    z, gamma = model.transform(adata), model.inclusion_probabilities(adata)
    users = np.flatnonzero(gamma[:, 1] > 0.5)
    without = z[users].copy()
    without[:, 1] = 0
    proportions = [np.expm1(model.decode(code).astype(np.float64)) for code in (z[users], without)]
    ratios = [np.log(p) - np.log(p).mean(axis=1, keepdims=True) for p in proportions]
    effect, _ = ablate(model, use(model, adata))
    np.testing.assert_allclose(effect[:, 1], (ratios[0] - ratios[1]).mean(0), atol=2e-3)
    np.testing.assert_allclose(effect.sum(axis=0), 0, atol=1e-4)
    scaled = 1e4 * adata.layers["counts"].toarray() / adata.obs["n_counts"].to_numpy()[:, None]
    np.testing.assert_allclose(model.expression(adata).toarray(), np.log1p(scaled), rtol=1e-5)


def test_raw_difference_is_that_of_the_means(adata: ad.AnnData) -> None:
    x = adata.X.toarray().astype(np.float64)
    gated, plain = (fitted(leaf, adata) for leaf in (BetaVSC, BetaVAE))
    on = gated.inclusion_probabilities(adata) > 0.5
    found = raw_difference(sp.csr_matrix(x), use(gated, adata))
    for j in range(3):
        np.testing.assert_allclose(found[:, j], x[on[:, j]].mean(0) - x[~on[:, j]].mean(0))
    z = plain.transform(adata).astype(np.float64)
    found = raw_difference(sp.csr_matrix(x), use(plain, adata))
    for j in range(3):
        limit = z[:, j].mean() + np.array([-1, 1]) * z[:, j].std()
        expected = x[z[:, j] > limit[1]].mean(0) - x[z[:, j] < limit[0]].mean(0)
        np.testing.assert_allclose(found[:, j], expected)


def test_a_unit_that_is_never_off_is_moved_from_its_mean(adata: ad.AnnData) -> None:
    model = fitted(BetaVSC, adata, LINEAR)
    with torch.no_grad():
        model.module_.posterior.logit.bias[1] = 99
    used = use(model, adata)
    assert used.switches.tolist() == [True, False, True]
    z = model.transform(adata).astype(np.float64)[:, 1]
    far = np.abs(z - z.mean()) > z.std()
    weight = model.module_.body.likelihood.weight.detach().numpy()[:, 1]
    expected = weight * np.abs(z - z.mean())[far].mean()
    np.testing.assert_allclose(ablate(model, used)[0][:, 1], expected, atol=1e-5)
    latents = scarce.programmes(model, adata).latents
    assert latents["share"][1] == 1
    assert np.isnan(latents["one_sided"][1])
    assert np.isfinite(latents["agreement"]).all()


def test_a_latent_no_cell_uses_has_no_effect(adata: ad.AnnData) -> None:
    model = fitted(BetaVSC, adata)
    with torch.no_grad():
        model.module_.posterior.logit.weight[1] = 0
        model.module_.posterior.logit.bias[1] = -9
    found = scarce.programmes(model, adata, gmt={"set": list(adata.var_names[:5])})
    assert (found.effect[:, 1] == 0).all()
    assert np.isnan(found.se[:, 1]).all()
    assert found.latents["n_cells"].tolist()[1] == 0
    assert np.isnan(found.latents["agreement"][1])
    assert set(found.top()["latent"]) == {0, 2}
    assert found.enrichment is not None
    assert set(found.enrichment["latent"]) == {0, 2}


def test_the_strongest_effects_are_positive_together(adata: ad.AnnData) -> None:
    found = scarce.programmes(fitted(BetaVSC, adata), adata)
    strongest = -np.sort(-np.abs(found.effect), axis=0)[:50]
    for j in range(3):
        some = np.abs(found.effect[:, j]) >= strongest[-1, j]
        assert found.effect[some, j].sum() >= 0
    effect = np.array([[-3.0, 3.0], [1.0, 0.0], [0.0, -1.0]])
    assert _sign(effect).tolist() == [-1, 1]


def test_turning_an_axis_of_a_model_without_gates_changes_nothing(adata: ad.AnnData) -> None:
    model = fitted(BetaVAE, adata, LINEAR)
    before = scarce.programmes(model, adata)
    with torch.no_grad():
        model.module_.posterior.mu.weight[0] *= -1
        model.module_.posterior.mu.bias[0] *= -1
        model.module_.body.likelihood.weight[:, 0] *= -1
    after = scarce.programmes(model, adata)
    np.testing.assert_allclose(before.effect, after.effect, atol=1e-5)
    np.testing.assert_allclose(before.raw, after.raw, atol=1e-5)


def test_minute_effects_do_not_come_first() -> None:
    generator = np.random.default_rng(0)
    effect = generator.normal(0, 0.1, (200, 1))
    se = np.full((200, 1), 0.02)
    effect[0], se[0] = 2.0, 0.05
    effect[1], se[1] = 1e-4, 1e-8
    score = _score(effect, se)[:, 0]
    assert (effect / se)[1] == (effect / se).max()
    assert score.argmax() == 0
    assert score[1] < 0.01


def test_top_genes_are_sorted_and_on_their_side(adata: ad.AnnData) -> None:
    found = scarce.programmes(fitted(BetaVSC, adata), adata)
    table = found.top(7)
    for (_, direction), part in table.groupby(["latent", "direction"]):
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert (part["effect"] > 0).all() if direction == "up" else (part["effect"] < 0).all()
        assert (np.diff(part["score"].abs()) <= 0).all()
    best = found.genes[found.score[:, 0].argmax()]
    assert table["gene"].iloc[0] == best


def test_traversal_moves_one_latent_at_the_mean_code(adata: ad.AnnData) -> None:
    model = fitted(BetaVAE, adata)
    z = model.transform(adata).astype(np.float64)
    path = traverse(model, use(model, adata))
    assert path.shape == (3, 5, 40)
    moved = z.mean(0) - 2 * z.std(0) * np.array([0, 1, 0])
    np.testing.assert_allclose(path[1, 0], model.decode(moved[None])[0], atol=1e-5)
    np.testing.assert_allclose(
        path[:, 2], np.tile(model.decode(z.mean(0)[None]), (3, 1)), atol=1e-5
    )


def test_a_deterministic_code_has_programmes_too(adata: ad.AnnData) -> None:
    model = DeepAutoencoder(n_latent=3, network=DEEP, training=QUICK).fit(adata)
    found = scarce.programmes(model, adata)
    assert not found.gated
    assert found.latents["undecided"].isna().all()
    assert np.isfinite(found.effect).all()
    bare = scarce.programmes(
        DeepAutoencoder(n_latent=3, network=DEEP, training=QUICK).fit(adata.X), adata.X
    )
    np.testing.assert_allclose(bare.effect, found.effect, atol=1e-6)
    assert bare.genes.tolist() == [str(g) for g in range(40)]


def planted(adata: ad.AnnData, sign: int = 1) -> Estimator:
    """A model whose linear decoder has three programmes of eight genes each, the rest noise."""
    model = fitted(BetaVSC, adata, LINEAR)
    generator = np.random.default_rng(5)
    weight = generator.normal(0, 0.05, (40, 3))
    for j in range(3):
        weight[8 * j : 8 * j + 8, j] = sign * generator.uniform(1, 2, 8)
    with torch.no_grad():
        model.module_.body.likelihood.weight[:, :3] = torch.from_numpy(weight)
    return model


def genes(adata: ad.AnnData, j: int) -> list[str]:
    return list(adata.var_names[8 * j : 8 * j + 8])


@pytest.mark.parametrize("sign", [1, -1])
def test_planted_programmes_are_found(sign: int, adata: ad.AnnData) -> None:
    model = planted(adata, sign)
    sets = {f"planted {j}": genes(adata, j) for j in range(3)}
    markers = {f"type {j}": genes(adata, j)[2:] for j in range(3)}
    found = scarce.programmes(model, adata, gmt=sets, markers=markers)
    assert found.enrichment is not None
    for j in range(3):
        top = found.top(8)
        top = top[(top["latent"] == j) & (top["direction"] == "up")]
        assert set(top["gene"]) == set(genes(adata, j))
        assert set(top["name"]) == {f"type {j}"}
        rows = found.enrichment[found.enrichment["latent"] == j]
        best = rows.loc[rows["q_auc"].idxmin()]
        assert (best["set"], best["direction"]) == (f"planted {j}", "up")
        assert best["auc"] == 1
        expected = np.corrcoef(found.effect[:, j], found.raw[:, j])[0, 1]
        assert found.latents["agreement"][j] == pytest.approx(expected)
    effect, _ = ablate(model, use(model, adata))
    np.testing.assert_array_equal(found.effect, effect * found.sign)


def test_gene_sets_come_from_a_file_as_well(adata: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("planted\tno link\t" + "\t".join(genes(adata, 1)) + "\n")
    found = scarce.programmes(planted(adata), adata, gmt=path).enrichment
    assert found is not None
    assert found["latent"][found["p_auc"].idxmin()] == 1


def test_gene_sets_of_other_genes_are_refused(adata: ad.AnnData) -> None:
    model = fitted(BetaVAE, adata)
    with pytest.raises(InputError, match=r"at least 3 of the 40 modelled genes; found at most 0"):
        scarce.programmes(model, adata, gmt={"mouse": ["Cd3e", "Cd4", "Cd8a"]})


def undecided_share(model: Estimator, cells: ad.AnnData) -> NDArray[np.float64]:
    gamma = model.inclusion_probabilities(cells)
    return ((gamma > 0.05) & (gamma < 0.95)).mean(axis=0)


def test_shares_count_the_cells_they_name(adata: ad.AnnData) -> None:
    model = fitted(BetaVSC, adata)
    found, gamma = scarce.programmes(model, adata), model.inclusion_probabilities(adata)
    np.testing.assert_array_equal(found.latents["n_cells"], (gamma > 0.5).sum(0))
    np.testing.assert_allclose(found.latents["share"], (gamma > 0.5).mean(0))
    np.testing.assert_allclose(found.latents["undecided"], undecided_share(model, adata))
    np.testing.assert_array_equal(found.cells["n_active"], (gamma > 0.5).sum(1))
    z = model.transform(adata).astype(np.float64)
    np.testing.assert_allclose(found.cells["hoyer"], hoyer(z / z.std(0)), rtol=1e-5)
    assert found.cells.index.tolist() == list(adata.obs_names)
    for j in range(3):
        mine = z[gamma[:, j] > 0.5, j]
        assert found.latents["activity"][j] == pytest.approx(mine.mean(), rel=1e-5)
        expected = abs(mine.mean()) / np.abs(mine).mean()
        assert found.latents["one_sided"][j] == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8).filter(lambda v: max(map(abs, v)) > 1e-3))
def test_hoyer_is_between_none_and_one_and_blind_to_scale(values: list[float]) -> None:
    v = np.array(values)
    found = hoyer(v)
    assert -1e-9 <= found <= 1 + 1e-9
    assert hoyer(-3 * v[::-1]) == pytest.approx(float(found), abs=1e-9)
    alone = np.eye(len(v))[0]
    assert hoyer(alone) == pytest.approx(1)
    assert np.isnan(hoyer(0 * v))


def test_genes_in_another_order_give_the_same_effects(adata: ad.AnnData) -> None:
    model = fitted(BetaVSC, adata)
    shuffled = adata[:, np.random.default_rng(0).permutation(40)]
    one, other = scarce.programmes(model, adata), scarce.programmes(model, shuffled)
    assert one.genes.tolist() == other.genes.tolist()
    np.testing.assert_allclose(one.effect, other.effect, atol=1e-5)
    np.testing.assert_allclose(one.raw, other.raw, atol=1e-6)
