"""Sparse products and the squared error equal their dense definitions, gradients included."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scarce.sparse.batches import Batches, CSRBatch, choose_path
from scarce.sparse.ops import linear, read, squared_error, squared_error_per_gene
from scarce.sparse.stats import mean_and_variance


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Small cells x genes tables with empty rows and columns among them."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    values = draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 5).map(float)))
    return values * draw(hnp.arrays(bool, shape))


def batch_of(dense: np.ndarray, dtype: torch.dtype = torch.float64) -> CSRBatch:
    batches = Batches(sp.csr_matrix(dense), batch_size=len(dense), dtype=dtype)
    (batch,) = batches.ordered()
    assert isinstance(batch, CSRBatch)
    return batch


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


@given(tables())
def test_linear_equals_dense_product_and_gradient(dense: np.ndarray) -> None:
    weight = random(dense.shape[1], 3)
    product = linear(batch_of(dense), weight)
    expected = torch.from_numpy(dense) @ weight
    torch.testing.assert_close(product, expected, rtol=1e-12, atol=1e-12)
    upstream = random(*product.shape, seed=1)
    (grad,) = torch.autograd.grad(product, weight, upstream)
    torch.testing.assert_close(grad, torch.from_numpy(dense).T @ upstream, rtol=1e-12, atol=1e-12)


@given(tables())
def test_squared_error_equals_dense_loss_and_gradients(dense: np.ndarray) -> None:
    a, v = random(len(dense), 4), random(dense.shape[1], 4, seed=1)
    x, batch = torch.from_numpy(dense), batch_of(dense)
    product, v_gram = read(batch, v, 0)
    ours = squared_error(a, product, v_gram, batch.values.square().sum())
    theirs = (a @ v.T - x).square().sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for mine, reference in zip(
        torch.autograd.grad(ours, (a, v)), torch.autograd.grad(theirs, (a, v)), strict=True
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


@given(tables())
def test_squared_error_per_gene_sums_over_cells_only(dense: np.ndarray) -> None:
    a, v = random(len(dense), 4).detach(), random(dense.shape[1], 4, seed=1).detach()
    expected = (a @ v.T - torch.from_numpy(dense)).square().sum(0)
    torch.testing.assert_close(
        squared_error_per_gene(a, v, batch_of(dense)), expected, rtol=1e-10, atol=1e-10
    )


def test_gradients_agree_with_finite_differences() -> None:
    batch = batch_of(np.random.default_rng(0).poisson(0.5, (5, 6)).astype(float))
    assert torch.autograd.gradcheck(lambda w: linear(batch, w), random(6, 3))
    assert torch.autograd.gradcheck(lambda t: read(batch, t, 2), random(6, 5))


def test_float32_error_stays_under_one_in_a_hundred_thousand() -> None:
    dense = np.log1p(np.random.default_rng(0).poisson(0.07, (64, 3000)))
    a, v = random(64, 33, dtype=torch.float32), random(3000, 33, seed=1, dtype=torch.float32)
    x, batch = torch.from_numpy(dense), batch_of(dense, torch.float32)
    product, v_gram = read(batch, v, 0)
    ours = squared_error(a, product, v_gram, batch.values.square().sum())
    exact = (a.double() @ v.double().T - x).square().sum()
    assert abs(ours.item() / exact.item() - 1) < 1e-5
    for mine, reference in zip(
        torch.autograd.grad(ours, (a, v)), torch.autograd.grad(exact, (a, v)), strict=True
    ):
        assert (mine - reference).norm() / reference.norm() < 1e-5


@given(tables(), st.integers(1, 10), st.sampled_from(["sparse", "dense"]))
def test_batches_serve_every_cell_once_in_near_equal_sizes(
    dense: np.ndarray, batch_size: int, path: str
) -> None:
    batches = Batches(sp.csr_matrix(dense), batch_size=batch_size, path=path, dtype=torch.float64)
    served = list(batches.ordered())
    identity = torch.eye(dense.shape[1], dtype=torch.float64)
    rows = torch.cat([linear(batch, identity) for batch in served])
    np.testing.assert_array_equal(rows, dense)
    sizes = [batch.shape[0] for batch in served]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_shuffling_follows_the_generator_alone() -> None:
    x = sp.csr_matrix(np.diag(np.arange(1.0, 9.0)))
    orders = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        served = Batches(x, batch_size=3).shuffled(generator)
        orders.append(torch.cat([batch.values for batch in served]).tolist())
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
