"""Every likelihood against scipy, and its gradients against those of the plain dense formula."""

import math
from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import log_softmax

from batches import batch_of
from scarce.likelihoods import LIKELIHOODS, Likelihood
from scarce.models.beta_vae import BetaVAENet
from scarce.models.parts import Body, Network
from scarce.sparse.batches import Batch
from scarce.sparse.count_losses import negative_binomial_loss, poisson_loss, zero_inflated_loss
from scarce.sparse.elementary import exp, log1p

LOSSES = {"poisson": poisson_loss, "nb": negative_binomial_loss, "zinb": zero_inflated_loss}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
WIDTH = 3


def weights(name: str, n_cells: int, n_genes: int, width: int = WIDTH) -> list[torch.Tensor]:
    """h, weights, log dispersions and weights of the log odds of zeros, as far as there are."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    drawn = [
        normal(n_cells, width),
        normal(n_genes, width + 1),
        2 * normal(n_genes),
        normal(n_genes, width + 1),
    ]
    return drawn[: {"poisson": 2, "nb": 3, "zinb": 4}[name]]


def leaves(arrays: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    return [array.to(dtype).requires_grad_() for array in arrays]


def scipy_loss(name: str, x: np.ndarray, arrays: list[torch.Tensor]) -> float:
    """The definition, from scipy's distributions; x has a count in every cell."""
    h, v, *others = (array.detach().double().numpy() for array in arrays)
    mu = x.sum(1, keepdims=True) * np.exp(log_softmax(h @ v[:, :-1].T + v[:, -1], axis=1))
    if name == "poisson":
        return -stats.poisson.logpmf(x, mu).sum() / len(x)
    theta = np.exp(others[0])
    nb = stats.nbinom.logpmf(x, theta, theta / (theta + mu))
    if name == "zinb":
        odds = h @ others[1][:, :-1].T + others[1][:, -1]
        log_pi, log_rest = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
        nb = np.where(x > 0, log_rest + nb, np.logaddexp(log_pi, log_rest + nb))
    return -nb.sum() / len(x)


def dense_loss(name: str, x: torch.Tensor, arrays: list[torch.Tensor]) -> torch.Tensor:
    """The definition in torch's own operations, for its gradients."""
    h, v, *others = arrays
    library = x.sum(1, keepdim=True)
    log_share = (h @ v[:, :-1].T + v[:, -1]).log_softmax(1)
    log_mu, mu = library.clamp_min(1e-300).log() + log_share, library * log_share.exp()
    log_p = x * log_mu - (x + 1).lgamma()
    if name == "poisson":
        return -(log_p - mu).sum() / len(x)
    theta = others[0].exp()
    at_zero = -theta * (mu / theta).log1p()
    log_p = log_p + (x + theta).lgamma() - theta.lgamma() - x * (theta + mu).log() + at_zero
    if name == "zinb":
        odds = h @ others[1][:, :-1].T + others[1][:, -1]
        zero = F.softplus(at_zero - odds) - F.softplus(-odds)
        log_p = torch.where(x > 0, log_p - F.softplus(odds), zero)
    return -log_p.sum() / len(x)


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Small tables of counts, with empty cells and genes, frequent genes and large counts."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 9)))
    counts = st.one_of(st.integers(0, 3), st.integers(0, 500))
    values = draw(hnp.arrays(np.int64, shape, elements=counts))
    return values * draw(hnp.arrays(bool, shape))


@pytest.mark.parametrize(
    ("ours", "exact", "x"),
    [
        (exp, np.exp, np.linspace(-87, 88, 100_001)),
        (log1p, np.log1p, np.exp(np.linspace(-60, 80, 100_001))),
        (log1p, np.log1p, np.linspace(-0.5, 1, 100_001)),
    ],
)
def test_single_precision_polynomials_are_exact_to_the_last_digits(
    ours: Callable, exact: Callable, x: np.ndarray
) -> None:
    single = x.astype(np.float32)

    @numba.njit(error_model="numpy")
    def compiled(values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        for i in range(len(values)):
            out[i] = ours(values[i])
        return out

    np.testing.assert_allclose(compiled(single), exact(single.astype(float)), rtol=3e-7)
    np.testing.assert_allclose(compiled(x[::100]), exact(x[::100]), rtol=1e-14)


@every_loss
@given(counts=tables(), path=st.sampled_from(["sparse", "dense"]))
def test_losses_equal_scipys_distributions(name: str, counts: np.ndarray, path: str) -> None:
    counts[:, 0] += counts.sum(1) == 0
    arrays = weights(name, *counts.shape)
    ours = LOSSES[name](batch_of(counts, path), *arrays)
    assert ours.item() == pytest.approx(scipy_loss(name, counts, arrays), rel=1e-8, abs=1e-8)


@every_loss
@given(counts=tables(), path=st.sampled_from(["sparse", "dense"]))
def test_values_and_gradients_equal_the_dense_formula(
    name: str, counts: np.ndarray, path: str
) -> None:
    mine, reference = (leaves(weights(name, *counts.shape), torch.float64) for _ in range(2))
    ours = LOSSES[name](batch_of(counts, path), *mine)
    theirs = dense_loss(name, torch.from_numpy(counts).double(), reference)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-10, abs=1e-10)
    expected = torch.autograd.grad(theirs, reference)
    for a, b in zip(torch.autograd.grad(ours, mine), expected, strict=True):
        assert (a - b).norm() <= 1e-10 * max(1, b.norm())


@every_loss
def test_gradients_agree_with_finite_differences(name: str) -> None:
    counts = np.random.default_rng(0).poisson(0.8, (4, 5))
    counts[0], counts[1, 2] = 0, 40
    batch = batch_of(counts)
    arguments = leaves(weights(name, 4, 5), torch.float64)
    assert torch.autograd.gradcheck(lambda *args: 3 * LOSSES[name](batch, *args), arguments)


def frequent_and_rare(n_cells: int, n_genes: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    rates = rng.gamma(0.3, 1.0, n_genes) * rng.gamma(2.0, 1.0, (n_cells, 1))
    return rng.poisson(rates)


@every_loss
@pytest.mark.parametrize("path", ["sparse", "dense"])
def test_float32_stays_within_one_in_a_hundred_thousand(name: str, path: str) -> None:
    counts = frequent_and_rare(70, 1500)
    arrays = weights(name, *counts.shape, width=16)
    arrays[1:2] = [arrays[1] / 4]
    mine, reference = leaves(arrays, torch.float32), leaves(arrays, torch.float64)
    ours = LOSSES[name](batch_of(counts, path, torch.float32), *mine)
    theirs = dense_loss(name, torch.from_numpy(counts).double(), reference)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    expected = torch.autograd.grad(theirs, reference)
    for a, b in zip(torch.autograd.grad(ours, mine), expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@every_loss
def test_numbers_do_not_depend_on_threads(name: str) -> None:
    counts = frequent_and_rare(30, 400)
    arrays = leaves(weights(name, *counts.shape), torch.float32)
    batch, found = batch_of(counts, dtype=torch.float32), []
    before = numba.get_num_threads()
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            loss = LOSSES[name](batch, *arrays)
            found.append([loss, *torch.autograd.grad(loss, arrays)])
    finally:
        numba.set_num_threads(before)
    for a, b in zip(found[0], found[-1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@every_loss
def test_a_cell_without_counts_is_certain_and_teaches_nothing(name: str) -> None:
    arrays = leaves(weights(name, 2, 5), torch.float32)
    loss = LOSSES[name](batch_of(np.zeros((2, 5)), dtype=torch.float32), *arrays)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    for grad in torch.autograd.grad(loss, arrays):
        assert grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_large_dispersions_of_rare_genes_keep_their_digits(name: str) -> None:
    # In float32 theta (log theta - log(theta + mu)) is -.0095 at theta = 1e4 and mu = .01.
    counts = np.array([[0, 1]])
    share = torch.tensor([[0.0, math.log(0.01)], [0.0, math.log(0.99)]], dtype=torch.float64)
    arrays = [torch.zeros(1, 1, dtype=torch.float64), share]
    arrays.append(torch.full((2,), math.log(1e4), dtype=torch.float64))
    if name == "zinb":
        arrays.append(torch.tensor([[0.0, -40.0], [0.0, -40.0]], dtype=torch.float64))
    ours = LOSSES[name](batch_of(counts, dtype=torch.float32), *leaves(arrays, torch.float32))
    assert ours.item() == pytest.approx(scipy_loss(name, counts, arrays), abs=1e-6)


@every_loss
@every_dtype
def test_huge_counts_and_distant_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    counts = np.array([[2**20, 0, 1], [0, 3, 0]])
    arrays = weights(name, 2, 3)
    arrays[1][:, -1] = torch.tensor([0.0, -150.0, 100.0])  # exp(-250) is 0 in float32
    mine = leaves(arrays, dtype)
    ours = LOSSES[name](batch_of(counts, dtype=dtype), *mine)
    theirs = dense_loss(name, torch.from_numpy(counts).double(), arrays)  # scipy's is infinite
    tolerance = 1e-6 if dtype == torch.float32 else 1e-9
    assert ours.item() == pytest.approx(theirs.item(), rel=tolerance)
    for grad in torch.autograd.grad(ours, mine):
        assert grad.isfinite().all()


def test_the_poisson_is_the_multinomial_given_the_library() -> None:
    counts = frequent_and_rare(5, 20)
    h, v = weights("poisson", *counts.shape)
    p = (h @ v[:, :-1].T + v[:, -1]).double().softmax(1).numpy()
    library = counts.sum(1)
    expected = stats.multinomial.logpmf(counts, library, p / p.sum(1, keepdims=True))
    expected += stats.poisson.logpmf(library, library)
    assert poisson_loss(batch_of(counts), h, v).item() == pytest.approx(-expected.mean(), rel=1e-9)


def built(name: str, n_genes: int = 12) -> Likelihood:
    torch.manual_seed(0)
    likelihood = LIKELIHOODS[name](n_genes, WIDTH).eval()
    for parameter in likelihood.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return likelihood


def cells_for(likelihood: Likelihood) -> np.ndarray:
    counts = frequent_and_rare(7, 12)
    return counts if likelihood.counts else np.log1p(counts)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_prob_of_cells_is_minus_the_loss_and_takes_samples(name: str) -> None:
    likelihood = built(name)
    x, h = cells_for(likelihood), torch.randn(2, 7, WIDTH)
    log_prob = likelihood.log_prob(torch.from_numpy(x).float(), h)
    assert log_prob.shape == (2, 7)
    loss = likelihood.loss(batch_of(x, dtype=torch.float32), h[1]).item()
    if name == "squared_error":  # twice the negative log likelihood, up to a constant
        loss = (loss + 12 * math.log(2 * math.pi)) / 2
    assert log_prob[1].mean().item() == pytest.approx(-loss, rel=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "shared_gaussian", "squared_error"])
def test_gaussians_equal_scipys(name: str) -> None:
    likelihood = built(name)
    x, h = cells_for(likelihood), torch.randn(7, WIDTH)
    likelihood.start_from(torch.ones(12), torch.linspace(0.2, 3, 12))
    variance = {
        "gaussian": np.linspace(0.2, 3, 12),
        "shared_gaussian": np.full(12, 1.6),
        "squared_error": np.ones(12),
    }[name]
    mean = likelihood.expected(h).detach().numpy()
    exact = stats.norm.logpdf(x, mean, np.sqrt(variance)).sum(1)
    found = likelihood.log_prob(torch.from_numpy(x).float(), h).detach()
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_a_level_of_noise_per_cell_equals_scipys_multivariate_t() -> None:
    likelihood = built("student_t")
    x, h = cells_for(likelihood), torch.randn(7, WIDTH)
    likelihood.start_from(torch.ones(12), torch.linspace(0.2, 3, 12))
    degrees = 2 * likelihood.log_shape.exp().item()
    mean, shape = likelihood.expected(h).detach().numpy(), np.diag(np.linspace(0.2, 3, 12))
    exact = [stats.multivariate_t.logpdf(x[i], mean[i], shape, degrees) for i in range(7)]
    found = likelihood.log_prob(torch.from_numpy(x).float(), h).detach()
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_levels_of_noise_that_do_not_vary_are_the_gaussian() -> None:
    likelihood, gaussian = built("student_t"), built("gaussian")
    x, h = torch.from_numpy(cells_for(gaussian)).float(), torch.randn(7, WIDTH)
    likelihood.load_state_dict({**gaussian.state_dict(), "log_shape": torch.tensor(18.0)})
    torch.testing.assert_close(
        likelihood.log_prob(x, h), gaussian.log_prob(x, h), rtol=1e-5, atol=1e-4
    )


def test_the_shared_variance_is_the_best_one_for_the_batch() -> None:
    likelihood = built("shared_gaussian").train()
    x, h = cells_for(likelihood), torch.randn(7, WIDTH)
    mean = likelihood.expected(h).detach().numpy()
    best = stats.norm.logpdf(x, mean, (x - mean).std(mean=0)).sum(1).mean()
    loss = likelihood.loss(batch_of(x, dtype=torch.float32), h)
    assert loss.item() == pytest.approx(-best, rel=1e-5)


@every_loss
def test_counts_start_at_the_genes_shares(name: str) -> None:
    likelihood = built(name)
    mean = torch.tensor([0.0, *np.linspace(0.1, 4, 11)]).float()
    likelihood.start_from(mean, 2 * mean)
    found = likelihood.expected(torch.zeros(1, WIDTH))[0].expm1()
    torch.testing.assert_close(found[1:] / found[-1], (mean / mean[-1])[1:])
    assert 0 < found[0] < found[1]  # absent from these cells, possible in others


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_dispersions_start_at_their_moments_and_stay_in_bounds(name: str) -> None:
    likelihood = built(name, n_genes=3)
    likelihood.start_from(torch.tensor([2.0, 2.0, 0.0]), torch.tensor([4.0, 1.0, 0.0]))
    theta = likelihood.log_theta.exp()
    assert theta[0].item() == pytest.approx(2)  # 4 = 2 + 2^2 / 2
    assert theta[1] > 50  # no more spread than Poisson's
    assert likelihood.log_theta.isfinite().all()
    x, h = batch_of(np.array([[3, 0, 1]]), dtype=torch.float32), torch.zeros(1, WIDTH)
    losses = []
    for extreme in (10.0, 1000.0):
        likelihood.log_theta.data.fill_(extreme)
        losses.append(likelihood.loss(x, h).item())
    assert losses[0] == losses[1]


@every_loss
def test_the_encoder_reads_logarithms_thinned_after_they_are_taken(name: str) -> None:
    torch.manual_seed(0)
    network = Network(n_hidden=(4,), input_dropout=0.5, likelihood=name)
    net = BetaVAENet(Body(400, 2, network), 2, beta=1.0, warm_up=0.0)
    counts = frequent_and_rare(50, 400)
    read = []
    net.body.first.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    batch = Batch(torch.from_numpy(counts).float(), torch.empty(50, 0))
    net.loss(batch, progress=0.0, generator=torch.Generator().manual_seed(0))
    net.eval().encode(batch)
    thinned, whole = read
    torch.testing.assert_close(whole, batch.x.log1p())
    kept = thinned != 0
    torch.testing.assert_close(thinned[kept], 2 * whole[kept])
    assert thinned.sum() == pytest.approx(whole.sum().item(), rel=0.05)
