"""Poisson counts under a log link and a spike-and-slab code, against sums over patterns of gates.

Given which units are on, a gene's log rate is Gaussian: quadrature does the rest.
"""

from itertools import product
from typing import NamedTuple

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import expit

from batches import batch_of
from scarce.likelihoods import PoissonLogLink
from scarce.sparse.count_losses import log_link_loss

LATENT, KNOWN = 3, 2
every_path = pytest.mark.parametrize("path", ["sparse", "dense"])


class Arguments(NamedTuple):
    """What `log_link_loss` reads beside the counts."""

    known: torch.Tensor
    v: torch.Tensor
    mu: torch.Tensor
    log_var: torch.Tensor
    logit: torch.Tensor

    def leaves(self, dtype: torch.dtype = torch.float64) -> "Arguments":
        return Arguments(*(array.detach().to(dtype).requires_grad_() for array in self))


def arguments(n_cells: int, n_genes: int, latent: int = LATENT, seed: int = 0) -> Arguments:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    v = 0.3 * normal(n_genes, latent + KNOWN + 1)
    v[:, -1] -= np.log(n_genes)
    mu, log_var, logit = normal(3, n_cells, latent)
    code = (mu + 0.5, 0.5 * log_var - 1, 3 * logit)
    return Arguments(normal(n_cells, KNOWN), v, *code)


def quadrature(x: np.ndarray, given: Arguments) -> float:
    """Mean of scipy's log pmf over gates, one by one, and over Gauss-Hermite nodes."""
    known, v, mu, log_var, logit = (array.detach().double().numpy() for array in given)
    weight, library = v[:, : mu.shape[1]], x.sum(1, keepdims=True)
    rest = known @ v[:, mu.shape[1] : -1].T + v[:, -1]
    nodes, shares = np.polynomial.hermite_e.hermegauss(40)
    total = np.zeros(len(x))
    for mask in np.array(list(product([0, 1], repeat=mu.shape[1]))):
        chance = np.where(mask, expit(logit), expit(-logit)).prod(1)
        mean = rest + (mask * mu) @ weight.T
        sd = np.sqrt((mask * np.exp(log_var)) @ np.square(weight).T)
        rate = library * np.exp(mean + sd * nodes[:, None, None])
        fit = np.einsum("k,kig->i", shares / shares.sum(), stats.poisson.logpmf(x, rate))
        total += chance * fit
    return -total.mean()


def dense(x: np.ndarray, given: Arguments) -> torch.Tensor:
    """The closed form in torch's own operations, for its gradients."""
    known, v, mu, log_var, logit = given
    weight, counts = v[:, : mu.shape[1]], torch.from_numpy(x).double()
    rest, library = known @ v[:, mu.shape[1] : -1].T + v[:, -1], counts.sum(1, keepdim=True)
    on, off, w = logit.sigmoid()[:, None], (-logit).sigmoid()[:, None], weight[None]
    factors = off + on * (w * mu[:, None] + w**2 * log_var.exp()[:, None] / 2).exp()
    rates = library * rest.exp() * factors.prod(2)
    log_mu = library.clamp_min(1e-300).log() + rest + (logit.sigmoid() * mu) @ weight.T
    return (rates - counts * log_mu + (counts + 1).lgamma()).sum() / len(x)


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Small tables of counts, with empty cells and genes, frequent genes and large counts."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 7)))
    counts = st.one_of(st.integers(0, 3), st.integers(0, 500))
    values = draw(hnp.arrays(np.int64, shape, elements=counts))
    return values * draw(hnp.arrays(bool, shape))


@given(tables(), st.integers(0, 2), st.integers(0, 99), st.sampled_from(["sparse", "dense"]))
def test_the_expected_loss_is_the_mean_over_gates_and_slabs(
    counts: np.ndarray, latent: int, seed: int, path: str
) -> None:
    given = arguments(*counts.shape, latent, seed)
    ours = log_link_loss(batch_of(counts, path), *given)
    assert ours.item() == pytest.approx(quadrature(counts, given), rel=1e-8, abs=1e-8)


def test_the_expected_loss_is_the_mean_over_samples() -> None:
    counts = np.random.default_rng(0).poisson(0.8, (3, 6))
    given = arguments(*counts.shape)
    likelihood = PoissonLogLink(6, LATENT + KNOWN).double()
    likelihood.weight.data.copy_(given.v)
    generator = torch.Generator().manual_seed(0)
    shape = (200_000, 3, LATENT)
    on = torch.rand(shape, generator=generator, dtype=torch.float64) < given.logit.sigmoid()
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    z = on * (given.mu + (0.5 * given.log_var).exp() * noise)
    h = torch.cat([z, given.known.expand(len(z), -1, -1)], 2)
    with torch.no_grad():
        sampled = -likelihood.log_prob(torch.from_numpy(counts).double(), h).mean(1)
        exact = likelihood.expected_loss(batch_of(counts), given.known, *given[2:])
    error = sampled.std().item() / len(z) ** 0.5
    assert abs(sampled.mean().item() - exact.item()) < 4 * error
    assert error < 0.01 * exact.item()


@given(tables(), st.integers(0, 99), st.sampled_from(["sparse", "dense"]))
def test_values_and_gradients_equal_the_dense_formula(
    counts: np.ndarray, seed: int, path: str
) -> None:
    mine, reference = (arguments(*counts.shape, seed=seed).leaves() for _ in range(2))
    ours, theirs = log_link_loss(batch_of(counts, path), *mine), dense(counts, reference)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-10, abs=1e-10)
    expected = torch.autograd.grad(theirs, reference)
    for a, b in zip(torch.autograd.grad(ours, mine), expected, strict=True):
        assert (a - b).norm() <= 1e-10 * max(1, b.norm())


def test_gradients_agree_with_finite_differences() -> None:
    counts = np.random.default_rng(0).poisson(0.8, (4, 5))
    counts[0], counts[1, 2] = 0, 40
    batch, given = batch_of(counts), arguments(4, 5).leaves()
    assert torch.autograd.gradcheck(lambda *args: 3 * log_link_loss(batch, *args), tuple(given))


def frequent_and_rare(n_cells: int, n_genes: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    rates = rng.gamma(0.3, 1.0, n_genes) * rng.gamma(2.0, 1.0, (n_cells, 1))
    return rng.poisson(rates)


@every_path
def test_float32_stays_within_one_in_a_hundred_thousand(path: str) -> None:
    counts = frequent_and_rare(70, 1500)
    given = arguments(*counts.shape, latent=16)
    mine, reference = given.leaves(torch.float32), given.leaves()
    ours = log_link_loss(batch_of(counts, path, torch.float32), *mine)
    theirs = dense(counts, reference)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    expected = torch.autograd.grad(theirs, reference)
    for a, b in zip(torch.autograd.grad(ours, mine), expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_gates_all_but_closed_or_open_keep_their_digits() -> None:
    counts = frequent_and_rare(8, 40)
    given = arguments(*counts.shape)
    given.logit[:] = torch.tensor([-30.0, 30.0, 90.0]) * (1 - 2 * (torch.arange(8)[:, None] % 2))
    mine, reference = given.leaves(torch.float32), given.leaves()
    ours = log_link_loss(batch_of(counts, dtype=torch.float32), *mine)
    theirs = dense(counts, reference)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    *grads, odds = torch.autograd.grad(ours, mine)
    *expected, _ = torch.autograd.grad(theirs, reference)
    for a, b in zip(grads, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()
    assert odds.abs().max() < 1e-9  # nothing is left to be said of these gates


def test_numbers_do_not_depend_on_threads() -> None:
    counts = frequent_and_rare(30, 400)
    given = arguments(*counts.shape).leaves(torch.float32)
    batch, found = batch_of(counts, dtype=torch.float32), []
    before = numba.get_num_threads()
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            loss = log_link_loss(batch, *given)
            found.append([loss, *torch.autograd.grad(loss, given)])
    finally:
        numba.set_num_threads(before)
    for a, b in zip(found[0], found[-1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_cell_without_counts_is_certain_and_teaches_nothing() -> None:
    given = arguments(2, 5).leaves(torch.float32)
    loss = log_link_loss(batch_of(np.zeros((2, 5)), dtype=torch.float32), *given)
    assert loss.item() == 0
    for grad in torch.autograd.grad(loss, given):
        assert not grad.any()


@every_path
def test_one_huge_count_and_genes_that_never_vary(path: str) -> None:
    counts = np.random.default_rng(0).poisson(0.8, (6, 9))
    counts[:, 0], counts[:, 1], counts[2, 3] = 0, 1, 2**24
    given = arguments(*counts.shape)
    exact = quadrature(counts, given)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-9)):
        mine = given.leaves(dtype)
        loss = log_link_loss(batch_of(counts, path, dtype), *mine)
        assert loss.item() == pytest.approx(exact, rel=tolerance)
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, mine))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_after_a_wild_step_numbers_are_finite_and_slopes_lead_back(dtype: torch.dtype) -> None:
    counts = np.random.default_rng(0).poisson(0.8, (4, 5))
    given = arguments(*counts.shape)
    given.v[:] = given.v.abs()
    given.mu[:] = 1e4
    given.log_var[:] = 10
    mine = given.leaves(dtype)
    loss = log_link_loss(batch_of(counts, dtype=dtype), *mine)
    assert loss.isfinite()
    grads = Arguments(*torch.autograd.grad(loss, mine))
    assert all(grad.square().sum().isfinite() for grad in grads)
    assert (grads.v[:, -1] > 0).all()  # downhill is to lower rates
    assert (grads.mu > 0).all()


def test_log_prob_is_scipys_and_minus_the_loss() -> None:
    counts, h = frequent_and_rare(7, 12), torch.randn(2, 7, 3, dtype=torch.float64)
    counts[4] = 0
    torch.manual_seed(0)
    likelihood = PoissonLogLink(12, 3).double()
    likelihood.start_from(torch.linspace(0.1, 2, 12), torch.ones(12))
    a = (h @ likelihood.weight[:, :-1].T + likelihood.weight[:, -1]).detach().numpy()
    exact = stats.poisson.logpmf(counts, counts.sum(1, keepdims=True) * np.exp(a)).sum(2)
    found = likelihood.log_prob(torch.from_numpy(counts).double(), h).detach()
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9)
    loss = likelihood.loss(batch_of(counts), h[1])
    assert loss.item() == pytest.approx(-exact[1].mean(), rel=1e-9)


def test_beside_the_multinomial_it_says_how_large_the_library_is() -> None:
    counts, h = frequent_and_rare(5, 20), torch.randn(5, 3, dtype=torch.float64)
    v = torch.randn(20, 4, dtype=torch.float64) / 3
    v[:, -1] -= np.log(20)
    none, library = h[:, :0], counts.sum(1)
    rates = (h @ v[:, :-1].T + v[:, -1]).exp().numpy()
    total = rates.sum(1)
    exact = stats.multinomial.logpmf(counts, library, rates / total[:, None])
    exact += stats.poisson.logpmf(library, library * total)
    ours = log_link_loss(batch_of(counts), h, v, none, none, none)
    assert ours.item() == pytest.approx(-exact.mean(), rel=1e-9)


def test_it_starts_at_the_genes_shares_of_all_counts() -> None:
    likelihood = PoissonLogLink(4, 2)
    likelihood.start_from(torch.tensor([0.0, 1.0, 3.0, 4.0]), torch.ones(4))
    shares = likelihood.weight[:, -1].exp()
    torch.testing.assert_close(shares[1:], torch.tensor([0.125, 0.375, 0.5]))
    assert 0 < shares[0] < shares[1]  # absent from these cells, possible in others
    expected = likelihood.expected(torch.zeros(1, 2)).expm1()
    torch.testing.assert_close(expected.sum(), torch.tensor(1e4))
