"""Sparse products and the squared error equal their dense definitions, gradients included."""

from itertools import islice

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scarce.sparse.batches import Batches, CSRBatch, choose_path
from scarce.sparse.ops import linear, squared_error
from scarce.sparse.stats import mean_and_variance


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Small cells x genes tables with empty rows and columns among them."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    values = draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 5).map(float)))
    return values * draw(hnp.arrays(bool, shape))


def batch_of(
    dense: np.ndarray, dtype: torch.dtype = torch.float64, base: np.ndarray | None = None
) -> CSRBatch:
    batches = Batches(sp.csr_matrix(dense), batch_size=len(dense), base=base, dtype=dtype)
    (batch,) = batches.ordered()
    assert isinstance(batch.x, CSRBatch)
    return batch.x


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def dense_error(
    x: torch.Tensor, h: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """The definition, on a dense target."""
    squares = (h @ v[:, :-1].T + v[:, -1] - x).square()
    return squares.sum(1) if weight is None else squares @ weight


def assert_same_value_and_gradients(
    ours: torch.Tensor, theirs: torch.Tensor, leaves: list[torch.Tensor], tolerance: float
) -> None:
    """Relative to the size of each array, as rounding is; each cell's gradient counts its own."""
    upstream = torch.linspace(-1, 2, len(ours), dtype=ours.dtype)
    mine = torch.autograd.grad(ours, leaves, upstream)
    reference = torch.autograd.grad(theirs, leaves, upstream)
    for a, b in zip((ours, *mine), (theirs, *reference), strict=True):
        assert (a - b).norm() <= tolerance * max(1, b.norm())


bases = st.sampled_from([False, True])


@given(tables(), bases)
def test_linear_equals_dense_product_and_gradient(dense: np.ndarray, based: bool) -> None:
    base = random(dense.shape[1], seed=2).detach().numpy() if based else np.zeros(dense.shape[1])
    weight = random(dense.shape[1], 3)
    product = linear(batch_of(dense, base=base if based else None), weight)
    x = torch.from_numpy(dense + base)
    torch.testing.assert_close(product, x @ weight, rtol=1e-12, atol=1e-12)
    upstream = random(*product.shape, seed=1)
    (grad,) = torch.autograd.grad(product, weight, upstream)
    torch.testing.assert_close(grad, x.T @ upstream, rtol=1e-12, atol=1e-12)


@given(tables(), bases, st.sampled_from([False, True]))
def test_squared_error_equals_dense_loss_and_gradients(
    dense: np.ndarray, based: bool, weighted: bool
) -> None:
    n_cells, n_genes = dense.shape
    base = random(n_genes, seed=2).detach().numpy() if based else np.zeros(n_genes)
    leaves = [random(n_cells, 3), random(n_genes, 4, seed=1)]
    weights = [random(n_genes, seed=3).detach().exp().requires_grad_()] if weighted else []
    batch, x = batch_of(dense, base=base if based else None), torch.from_numpy(dense + base)
    ours = squared_error(batch, *leaves, *weights)
    theirs = dense_error(x, *leaves, *weights)
    assert_same_value_and_gradients(ours, theirs, leaves + weights, 1e-10)


def test_gradients_agree_with_finite_differences() -> None:
    rng = np.random.default_rng(0)
    batch = batch_of(rng.poisson(0.5, (5, 6)).astype(float), base=rng.normal(size=6))
    weight = random(6, seed=3).detach().exp().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: linear(batch, w), random(6, 3))
    arguments = (random(5, 3), random(6, 4, seed=1), weight)
    assert torch.autograd.gradcheck(lambda *args: squared_error(batch, *args), arguments)


@pytest.mark.parametrize("weighted", [False, True])
def test_float32_error_stays_under_one_in_a_hundred_thousand(weighted: bool) -> None:
    dense = np.log1p(np.random.default_rng(0).poisson(0.07, (64, 3000)))
    single = [random(64, 32, dtype=torch.float32), random(3000, 33, seed=1, dtype=torch.float32)]
    if weighted:
        single.append(random(3000, seed=2, dtype=torch.float32).detach().exp().requires_grad_())
    double = [leaf.detach().double().requires_grad_() for leaf in single]
    ours = squared_error(batch_of(dense, torch.float32), *single).sum()
    exact = dense_error(torch.from_numpy(dense), *double).sum()
    assert abs(ours.item() / exact.item() - 1) < 1e-5
    for mine, reference in zip(
        torch.autograd.grad(ours, single), torch.autograd.grad(exact, double), strict=True
    ):
        assert (mine - reference).norm() / reference.norm() < 1e-5


@given(tables())
def test_unsorted_and_repeated_entries_are_refused(dense: np.ndarray) -> None:
    x = sp.csr_matrix(np.vstack([dense, np.ones((1, dense.shape[1]))]))
    if dense.shape[1] > 1:
        last = slice(x.indptr[-2], None)
        x.indices[last] = x.indices[last][::-1].copy()
        x.has_sorted_indices = False
        with pytest.raises(ValueError, match="sorted and without duplicates"):
            Batches(x, batch_size=2)
    repeated = sp.csr_matrix(([1.0, 2.0], [0, 0], [0, 2]), shape=(1, 1))
    with pytest.raises(ValueError, match="sorted and without duplicates"):
        Batches(repeated, batch_size=2)


@given(tables(), st.integers(1, 10), st.sampled_from(["sparse", "dense"]))
def test_batches_serve_every_cell_once_in_near_equal_sizes(
    dense: np.ndarray, batch_size: int, path: str
) -> None:
    batches = Batches(sp.csr_matrix(dense), batch_size=batch_size, path=path, dtype=torch.float64)
    served = list(batches.ordered())
    identity = torch.eye(dense.shape[1], dtype=torch.float64)
    rows = torch.cat([linear(batch.x, identity) for batch in served])
    np.testing.assert_array_equal(rows, dense)
    sizes = [batch.n_cells for batch in served]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_shuffling_follows_the_generator_alone() -> None:
    x = sp.csr_matrix(np.diag(np.arange(1.0, 9.0)))
    orders = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        served = islice(Batches(x, batch_size=3).shuffled(generator), 3)
        orders.append(torch.cat([batch.x.values for batch in served]).tolist())
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(1, 9))


@given(tables())
def test_mean_and_variance_equal_numpy(dense: np.ndarray) -> None:
    mean, variance = mean_and_variance(sp.csr_matrix(dense))
    np.testing.assert_allclose(mean, dense.mean(0), atol=1e-12)
    np.testing.assert_allclose(variance, dense.var(0), atol=1e-12)


def test_variance_survives_a_large_mean() -> None:
    x = sp.csr_matrix(1e8 + np.random.default_rng(0).normal(size=(1000, 1)))
    _, variance = mean_and_variance(x)
    assert variance[0] == pytest.approx(x.toarray().var(), rel=1e-6)


def test_wide_layers_and_full_matrices_go_dense() -> None:
    assert choose_path(n_cells=256, n_genes=13714, width=128, density=0.062) == "sparse"
    assert choose_path(n_cells=240, n_genes=13714, width=800, density=0.062) == "dense"
    assert choose_path(n_cells=256, n_genes=2000, width=128, density=0.5) == "dense"


@pytest.mark.parametrize(("dtype", "told"), [(torch.float32, True), (torch.float64, False)])
def test_an_almost_perfect_fit_is_told_to_go_dense(
    dtype: torch.dtype, told: bool, recwarn: pytest.WarningsRecorder
) -> None:
    h = random(6, 3, dtype=dtype).detach()
    v = random(9, 4, seed=1, dtype=dtype).detach()
    dense = (h @ v[:, :-1].T + v[:, -1]).double().numpy()
    squared_error(batch_of(dense, dtype), h, v)
    assert any("thousandth" in str(w.message) for w in recwarn) == told
    squared_error(batch_of(dense + 1, dtype), h, v)
    assert len(recwarn) == told
