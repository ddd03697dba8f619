"""VASC's layers against formulas written again in numpy, and its scaled input."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.special import expit, logit

from scarce import VASC
from scarce.models.parts import Body, Network
from scarce.models.vasc import DroppedOut, VASCNet, dense, keep_logit
from scarce.sparse.batches import Batch, Batches
from scarce.train import TrainConfig

A = np.array([-6.0, -4.7, -4.5, -2.0, 0.0, 1.5, 9.0])


def layer() -> tuple[DroppedOut, torch.Tensor, np.ndarray, np.ndarray]:
    """A layer over 6 genes in float64, 5 hidden vectors, their log odds and values in [0, 1]."""
    torch.manual_seed(0)
    likelihood = DroppedOut(6, 4).double()
    with torch.no_grad():
        likelihood.weight.normal_(std=2)
    h = torch.randn(5, 4, dtype=torch.float64)
    weight = likelihood.weight.detach().numpy()
    a = h.numpy() @ weight[:, :-1].T + weight[:, -1]
    y = np.random.default_rng(0).uniform(size=(5, 6)) * (np.arange(6) % 2)
    return likelihood, h, a, y


def cross_entropy(y: np.ndarray, out: np.ndarray) -> float:
    """Per cell, as Keras has it, times the number of genes."""
    return float(-(y * np.log(out) + (1 - y) * np.log1p(-out)).sum(1).mean())


def test_odds_of_keeping_an_entry_are_those_of_its_drop_out() -> None:
    p_drop = np.exp(-(expit(A) ** 2))
    found = keep_logit(torch.tensor(A, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, np.log1p(-p_drop) - np.log(p_drop), rtol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odds_and_gradients_stay_finite_and_right_at_the_ends(dtype: torch.dtype) -> None:
    a = torch.tensor([-300.0, -60.0, -20.0, 60.0, 300.0], dtype=dtype, requires_grad=True)
    odds = keep_logit(a)
    odds.sum().backward()
    expected = [-600, -120, -40, np.log(np.e - 1), np.log(np.e - 1)]
    np.testing.assert_allclose(odds.detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(a.grad, [2, 2, 2, 0, 0], atol=1e-6)


def test_gradient_of_the_odds_is_its_finite_difference() -> None:
    a = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(keep_logit, a)


def test_loss_without_noise_is_the_cross_entropy_at_the_expected_gates() -> None:
    likelihood, h, a, y = layer()
    x_tilde = expit(a)
    out = x_tilde * (1 - np.exp(-(x_tilde**2)))
    np.testing.assert_allclose(likelihood.expected(h).detach(), out, rtol=1e-7)
    found = likelihood.loss(torch.tensor(y), h).item()
    assert found == pytest.approx(cross_entropy(y, out))


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_noisy_gates_are_a_gumbel_softmax_over_kept_and_dropped(tau: float) -> None:
    likelihood, h, a, y = layer()
    u = torch.rand(a.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x_tilde = expit(a)
    p_drop = np.exp(-(x_tilde**2))
    # The difference of two Gumbel draws is logistic.
    classes = np.stack([np.log(p_drop), np.log1p(-p_drop) + logit(u.numpy())]) / tau
    gate = np.exp(classes[1]) / np.exp(classes).sum(0)
    generator = torch.Generator().manual_seed(3)
    found = likelihood.noisy_loss(torch.tensor(y), h, tau, generator).item()
    assert found == pytest.approx(cross_entropy(y, gate * x_tilde))


def test_cold_gates_are_open_as_often_as_entries_are_kept() -> None:
    likelihood = DroppedOut(1, 1)
    with torch.no_grad():
        likelihood.weight.zero_()  # x~ = .5, kept with probability 1 - exp(-.25)
    h, y = torch.zeros(200_000, 1), torch.ones(200_000, 1)
    lost = likelihood.noisy_loss(y, h, 0.01, torch.Generator().manual_seed(0))
    # E -log sigmoid(gate / tau) of a logistic gate around k is about E max(-gate, 0) / tau.
    k = np.log(np.expm1(0.25))
    assert 0.01 * lost.item() == pytest.approx(np.logaddexp(0, -k) + 0.01 * np.log(2), rel=0.02)


def cells() -> sp.csr_matrix:
    x = np.log1p(np.random.default_rng(1).poisson(0.4, (30, 20))).astype(np.float32)
    x[:, 3] += 0.5  # in every cell, so a dense column of the sparse batch
    x[7] = 0
    return sp.csr_matrix(x)


def test_each_cell_is_divided_by_its_largest_value() -> None:
    """So scaling a cell changes its reconstruction by as much, and its code not at all."""
    torch.manual_seed(0)
    net = VASCNet(Body(20, 2, Network((8,)), likelihood=DroppedOut), 2, l1=0.01).eval()
    x = torch.tensor(cells().toarray())
    one, three = (Batch(f * x, torch.empty(30, 0)) for f in (1, 3))
    torch.testing.assert_close(net.encode(one), net.encode(three))
    torch.testing.assert_close(net.code(one).sd, net.code(three).sd)
    seen = [net.reconstruct(batch, batch.covariates) for batch in (one, three)]
    filled = np.arange(30) != 7
    torch.testing.assert_close(3 * seen[0][filled], seen[1][filled])
    assert torch.isfinite(seen[0]).all()


def test_a_sparse_batch_is_made_dense_whole() -> None:
    x = cells()
    batch = next(Batches(x, batch_size=30).ordered())
    assert len(batch.x.dense_genes) > 0
    np.testing.assert_array_equal(dense(batch.x), x.toarray())


def test_noise_is_of_training_only() -> None:
    torch.manual_seed(0)
    network = Network((8,), input_dropout=0.0)
    net = VASCNet(Body(20, 2, network, likelihood=DroppedOut), 2, l1=0.01)
    with torch.no_grad():
        net.posterior.log_var.bias.fill_(-30)  # codes as good as certain
        net.posterior.log_var.weight.zero_()
    batch = Batch(torch.tensor(cells().toarray()), torch.empty(30, 0))
    spread = {}
    for training in (True, False):
        net.train(training)
        losses = [
            net.loss(batch, progress=1.0, generator=torch.Generator().manual_seed(s)).total.item()
            for s in range(5)
        ]
        spread[training] = np.ptp(losses)
    assert spread[True] > 0.1
    assert spread[False] < 0.01


def test_two_types_are_told_apart() -> None:
    types = np.arange(120) % 2
    rates = np.where(types[:, None] == np.arange(40) % 2, 3.0, 0.2)
    x = sp.csr_matrix(np.log1p(np.random.default_rng(0).poisson(rates)).astype(np.float32))
    adata = ad.AnnData(x, obs=pd.DataFrame(index=[str(i) for i in range(120)]))
    training = TrainConfig(epochs=40, batch_size=60, lr=1e-2, held_out=0)
    network = Network((32, 16), normalise=False, first_linear=True, input_dropout=0.0)
    model = VASC(network=network, training=training).fit(adata)
    assert not model.module_.body.direct
    z, x_hat = model.transform(adata), model.reconstruct(adata)
    direction = z[types == 1].mean(0) - z[types == 0].mean(0)
    side = (z - z.mean(0)) @ direction > 0
    assert (side == types).mean() > 0.95
    assert np.corrcoef(x_hat.ravel(), x.toarray().ravel())[0, 1] > 0.7
