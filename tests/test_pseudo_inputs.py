"""The mixture prior of pseudo-inputs: its bound, its densities, and a β-VSC that learns it."""

import math
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.special import expit, logsumexp, rel_entr, softmax
from scipy.stats import norm

from scarce import BetaVSC
from scarce.errors import InputError
from scarce.estimators import Units
from scarce.generate import draw_codes
from scarce.models.parts import Network
from scarce.models.posteriors import SpikeAndSlabPosterior, SpikeAndSlabPrior
from scarce.models.pseudo_inputs import Mixture, PseudoInputs, pairwise_kl
from scarce.preprocess import normalise
from scarce.train import TrainConfig

CELLS, LATENT, INPUTS = 4, 2, 3


def draw(rng: np.random.Generator, rows: int) -> SpikeAndSlabPosterior:
    """Units whose gates are neither open nor shut and whose slabs overlap, in float64."""
    parts = (rng.normal(size=(3, rows, LATENT)) * np.array([1.0, 0.5, 1.5])[:, None, None]).copy()
    return SpikeAndSlabPosterior(*torch.from_numpy(parts))


def mixture(seed: int = 0, n_inputs: int = INPUTS) -> tuple[SpikeAndSlabPosterior, Mixture]:
    rng = np.random.default_rng(seed)
    log_weight = torch.from_numpy(np.log(rng.dirichlet(np.ones(n_inputs))))
    return draw(rng, CELLS), Mixture(draw(rng, n_inputs), log_weight)


def log_density(q: SpikeAndSlabPosterior, z: np.ndarray) -> np.ndarray:
    """Log probability of gates, and log density of what is not zero, of each unit: by scipy."""
    mu, log_var, logit = (part.numpy() for part in q)
    slab = norm.logpdf(z, mu, np.exp(log_var / 2))
    return np.where(z == 0, np.log(expit(-logit)), np.log(expit(logit)) + slab)


def log_mixture(p: Mixture, z: np.ndarray) -> np.ndarray:
    """Log p(z) of codes, shape (..., LATENT)."""
    parts = log_density(p.components, z[..., None, :]).sum(-1)
    return logsumexp(parts + p.log_weight.numpy(), axis=-1)


def unit(q: SpikeAndSlabPosterior, row: int, j: int) -> tuple[float, float, float]:
    """Mean and standard deviation where on, and how likely it is on."""
    parts = (q.mu, q.log_var.exp().sqrt(), q.gamma)
    mu, sd, gamma = (part[row, j].item() for part in parts)
    return mu, sd, gamma


def integrated(q: tuple[float, float, float], p: tuple[float, float, float]) -> float:
    (mu, s, gamma), (m, t, alpha) = q, p

    def slab(z: float) -> float:
        ratio = math.log(gamma / alpha) + norm.logpdf(z, mu, s) - norm.logpdf(z, m, t)
        return float(gamma * norm.pdf(z, mu, s) * ratio)

    spike = (1 - gamma) * math.log((1 - gamma) / (1 - alpha))
    return quad(slab, mu - 10 * s, mu + 10 * s)[0] + spike


def test_divergence_between_two_units_equals_integration_over_both_parts() -> None:
    q, p = mixture()
    ours = pairwise_kl(q, p.components).numpy()
    assert ours.shape == (CELLS, INPUTS, LATENT)
    for b, u, j in np.ndindex(*ours.shape):
        expected = integrated(unit(q, b, j), unit(p.components, u, j))
        assert ours[b, u, j] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_bound_lies_between_the_divergence_and_that_of_the_best_component(seed: int) -> None:
    q, p = mixture(seed)
    rng = np.random.default_rng(1)
    mu, log_var, logit = (part.numpy() for part in q)
    shape = (100_000, *mu.shape)
    z = (rng.random(shape) < expit(logit)) * rng.normal(mu, np.exp(log_var / 2), shape)
    samples = log_density(q, z).sum(-1) - log_mixture(p, z)
    error = 4 * samples.std(0) / math.sqrt(len(samples))
    bound = p.kl(q).numpy()
    assert (samples.mean(0) > -error).all()
    assert (samples.mean(0) - error < bound).all()
    single = pairwise_kl(q, p.components).sum(2) - p.log_weight
    assert (bound < single.min(1).values.numpy()).all()


def test_a_single_fixed_component_gives_the_divergence_itself() -> None:
    q, _ = mixture()
    prior = SpikeAndSlabPrior(LATENT, 0.3, slab=(1.0, 0.5)).double()
    mean = torch.full((1, LATENT), 1.0, dtype=torch.float64)
    component = SpikeAndSlabPosterior(mean, 2 * torch.log(mean / 2), prior.logit[None])
    p = Mixture(component, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(p.kl(q), prior.kl(q))
    torch.testing.assert_close(p.unit_kl(q), prior.unit_kl(q))
    torch.testing.assert_close(p.price(q, 0.5), prior.price(q, 0.5))
    torch.testing.assert_close(p.gamma, prior.gamma)
    drawn, known = (
        prior_.importance_samples(q, 50, torch.Generator().manual_seed(0)) for prior_ in (p, prior)
    )
    torch.testing.assert_close(drawn, known)


@given(
    arrays(np.float64, (2, INPUTS), elements=st.floats(-6, 6)),
    st.integers(0, 50),
)
def test_no_weights_give_a_lower_bound_than_the_best(logits: np.ndarray, seed: int) -> None:
    w, pi = softmax(logits, 1)
    q, p = mixture(seed)
    p = p._replace(log_weight=torch.from_numpy(np.log(pi)))
    kl = pairwise_kl(q, p.components).sum(2).numpy()
    bound = p.kl(q).numpy()
    assert (bound >= 0).all()
    assert (bound <= kl @ w + rel_entr(w, pi).sum() + 1e-9).all()
    best = softmax(np.log(pi) - kl, 1)
    np.testing.assert_allclose(bound, (best * kl).sum(1) + rel_entr(best, pi).sum(1), atol=1e-9)


def test_what_the_units_add_and_the_choice_of_a_component_are_the_bound() -> None:
    q, p = mixture()
    kl = pairwise_kl(q, p.components).numpy()
    w = softmax(p.log_weight.numpy() - kl.sum(2), 1)
    units = np.einsum("bu,buj->bj", w, kl)
    np.testing.assert_allclose(p.unit_kl(q).numpy(), units)
    choice = rel_entr(w, np.exp(p.log_weight.numpy())).sum(1)
    np.testing.assert_allclose(p.kl(q).numpy(), units.sum(1) + choice)
    # Nothing is free, then each unit has its free bits; the choice has none.
    assert p.price(q, 0.0).item() == pytest.approx((units.sum(1) + choice).mean())
    floor = float(units.mean(0).mean())
    freed = np.maximum(units.mean(0), floor).sum() + choice.mean()
    assert p.price(q, floor).item() == pytest.approx(freed)


def test_the_price_has_the_gradient_of_the_bound() -> None:
    q, p = mixture()
    leaves = [part.requires_grad_() for part in (*q, *p.components, p.log_weight)]
    ours = torch.autograd.grad(p.price(q, 0.0), leaves)
    for one, expected in zip(ours, torch.autograd.grad(p.kl(q).mean(), leaves), strict=True):
        torch.testing.assert_close(one, expected)


def test_weights_of_samples_are_densities_of_the_mixture() -> None:
    q, p = mixture()
    z, ratio = p.importance_samples(q, 200, torch.Generator().manual_seed(0))
    codes = z.numpy()
    assert 0.2 < (codes == 0).mean() < 0.8
    expected = log_mixture(p, codes) - log_density(q, codes).sum(-1)
    np.testing.assert_allclose(ratio.numpy(), expected, atol=1e-10)


def test_new_codes_have_the_gates_and_means_of_their_components() -> None:
    _, p = mixture(5)
    z = p.sample(200_000, LATENT, torch.Generator().manual_seed(0)).numpy()
    pi, gamma = np.exp(p.log_weight.numpy()), p.components.gamma.numpy()
    np.testing.assert_allclose((z != 0).mean(0), pi @ gamma, atol=0.005)
    np.testing.assert_allclose(p.gamma.numpy(), pi @ gamma)
    np.testing.assert_allclose(z.mean(0), pi @ (gamma * p.components.mu.numpy()), atol=0.01)
    # Units of one code share a component, so gates are on together more or less often.
    np.testing.assert_allclose((z != 0).all(1).mean(), pi @ gamma.prod(1), atol=0.005)
    assert abs(pi @ gamma.prod(1) - (pi @ gamma).prod()) > 0.02


def test_the_share_of_units_that_are_on_is_held_to_alpha() -> None:
    _, p = mixture()
    share = (np.exp(p.log_weight.numpy()) @ p.components.gamma.numpy()).mean()
    alpha = np.array([0.2, 0.6])
    divergences = rel_entr(share, alpha) + rel_entr(1 - share, 1 - alpha)
    logit = torch.from_numpy(np.log(alpha / (1 - alpha)))
    assert p.hyper(logit).item() == pytest.approx(divergences.sum())
    logit = torch.full((LATENT,), math.log(share / (1 - share)), dtype=torch.float64)
    assert p.hyper(logit).item() == pytest.approx(0, abs=1e-12)


def test_pseudo_inputs_come_back_to_the_least_value_and_go_on_learning() -> None:
    """A clamp alone has no gradient where it holds, so that a gene once lost stays so."""
    inputs = PseudoInputs(2, 3, torch.zeros(1))
    inputs.start_from(torch.full((2, 3), -5.0), torch.tensor([0.0, -1.0, 0.0]))
    read = []

    def posterior(batch: object) -> SpikeAndSlabPosterior:
        read.append(batch)
        return SpikeAndSlabPosterior(batch.x, batch.x, batch.x)

    inputs.mixture(posterior).gamma.sum().backward()
    expected = torch.tensor([[0.0, -1.0, 0.0]] * 2)
    assert torch.equal(read[0].x, expected)
    assert torch.equal(inputs.x, expected)
    assert (inputs.x.grad != 0).all()
    inputs.start_from(torch.full((2, 3), -5.0), torch.zeros(3))
    inputs.eval().mixture(posterior)
    assert torch.equal(read[1].x, torch.zeros(2, 3))


SMALL = {"n_latent": 3, "training": TrainConfig(epochs=5, batch_size=16, lr=1e-2)}


@pytest.fixture
def adata() -> ad.AnnData:
    """60 cells x 30 genes of two batches; log-normalised, with counts in a layer."""
    counts = np.random.default_rng(0).poisson(0.7, (60, 30)).astype(np.float32)
    cells = ad.AnnData(sp.csr_matrix(counts))
    normalise(cells)
    cells.obs["batch"] = np.where(np.arange(60) % 2, "one", "two")
    return cells


KINDS = {
    "expression": {},
    "counts": {"network": {"likelihood": "nb"}},
    "z-scores": {"scaled": True},
    "batches": {"batch": "batch", "network": {"condition_encoder": True}},
    "alpha and free bits": {"alpha": 0.2, "units": {"free_bits": 0.5}},
    "opening": {"units": {"slab": (1.0, 0.5), "opening": (0.2, 0.8)}},
}


def make(kind: str = "expression", n_inputs: int = 6) -> BetaVSC:
    options = dict(KINDS[kind])
    network = Network(n_hidden=(16,), **options.pop("network", {}))
    units = Units(pseudo_inputs=n_inputs, **options.pop("units", {}))
    return BetaVSC(**SMALL, **options, network=network, units=units)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_its_prior_and_comes_back_from_disk(
    kind: str, adata: ad.AnnData, tmp_path: Path
) -> None:
    model = make(kind).fit(adata)
    assert np.isfinite(model.history_.losses["train"]).all()
    assert {"reconstruction", "kl", "hyper"} < set(model.history_.losses)
    model.save(tmp_path)
    again = BetaVSC.load(tmp_path)
    np.testing.assert_array_equal(again.transform(adata), model.transform(adata))
    np.testing.assert_array_equal(again.sample(9), model.sample(9))
    np.testing.assert_array_equal(again.alpha_, model.alpha_)
    codes = draw_codes(model.module_, 20_000, 3, seed=0).detach().numpy()
    np.testing.assert_allclose((codes != 0).mean(0), model.alpha_, atol=0.015)
    assert model.kl_units_.shape == (3,)
    assert (model.kl_units_ >= 0).all()


@pytest.mark.parametrize("kind", ["expression", "counts", "z-scores"])
def test_pseudo_inputs_begin_at_cells_and_move(kind: str, adata: ad.AnnData) -> None:
    model = make(kind)
    model.training = TrainConfig(epochs=1, batch_size=60, lr=1e-12, held_out=0.5)
    seen, _ = model._split(60)
    inputs = model.fit(adata).module_.pseudo_inputs
    cells = {"counts": adata.layers["counts"]}.get(kind, adata.X).toarray()
    if kind == "z-scores":
        cells = (cells - cells[seen].mean(0)) / cells[seen].std(0, ddof=1)
    gaps = np.abs(inputs.x.detach().numpy()[:, None] - cells[seen]).max(2)
    np.testing.assert_allclose(gaps.min(1), 0, atol=1e-5)
    assert len(set(gaps.argmin(1))) == 6
    model.training = SMALL["training"]
    trained = model.fit(adata).module_.pseudo_inputs
    with torch.no_grad():
        x = trained._cells().x.numpy()
    absent = model.scaling_.base if kind == "z-scores" else np.zeros(30)
    assert (x >= absent - 1e-6).all()
    assert np.abs(x[:, None] - cells[seen]).max(2).min() > 0.02


def test_a_pseudo_input_belongs_to_no_batch(adata: ad.AnnData) -> None:
    model = make("batches").fit(adata)
    net = model.module_
    with torch.no_grad():
        first = net.body.first(net.pseudo_inputs._cells().x)
        between = net.body.covariates(torch.tensor([[0.5, 0.5]]))
        expected = net.posterior(net.body.encoder(first + between))
        torch.testing.assert_close(net.current_prior().components, expected)


def test_no_pseudo_inputs_are_asked_for_by_none(adata: ad.AnnData) -> None:
    model = make(n_inputs=0).fit(adata)
    assert model.module_.pseudo_inputs is None
    np.testing.assert_allclose(model.alpha_, 0.5)
    with pytest.raises(InputError, match="pseudo_inputs must be at least 0; found -1"):
        make(n_inputs=-1).fit(adata)


def test_fewer_cells_than_pseudo_inputs_are_enough(adata: ad.AnnData, tmp_path: Path) -> None:
    few = adata[:5].copy()
    model = make(n_inputs=20).fit(few)
    model.save(tmp_path)
    np.testing.assert_array_equal(BetaVSC.load(tmp_path).transform(few), model.transform(few))
