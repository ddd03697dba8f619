"""Log likelihoods of counts given a linear layer, with gradients, for sparse and dense batches.

Formulas and kernels are in `scarce.sparse.counts` and, where a code is averaged over,
`scarce.sparse.log_link`. The library of a cell is its counts over the modelled genes, and the
softmax shares it out. Costs 6 B G D flops per linear map, and no more than two B x G arrays: the
softmax couples the genes of a cell.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from scarce.sparse import counts, log_link
from scarce.sparse.batches import Matrix
from scarce.sparse.counts import BLOCK, Entries
from scarce.sparse.ops import cell_totals, linear, with_ones

__all__ = ["log_link_loss", "negative_binomial_loss", "poisson_loss", "zero_inflated_loss"]

_GENES = 32 * BLOCK
"""Genes whose log odds of zero inflation are held at once."""


def poisson_loss(
    x: Matrix, h: Float[Tensor, "cells width"], v: Float[Tensor, "genes columns"]
) -> Float[Tensor, ""]:
    r"""Return :math:`-\log p(x)` per cell of Poisson counts.

    As :math:`\sum_g \mu_g = n`, it is the multinomial's, but for that of n itself.

    Parameters
    ----------
    x
        Counts, B cells x G genes.
    h
        Last hidden layer, shape (B, D).
    v
        Weights and, as last column, biases of the log rates; shape (G, D + 1).

    Returns
    -------
    Scalar, of the dtype of `h`, in nats.
    """
    return _CountLoss.apply(_poisson, x, torch.is_grad_enabled(), with_ones(h), v)  # type: ignore[no-any-return, no-untyped-call]


def negative_binomial_loss(
    x: Matrix,
    h: Float[Tensor, "cells width"],
    v: Float[Tensor, "genes columns"],
    log_theta: Float[Tensor, " genes"],
) -> Float[Tensor, ""]:
    r"""Return :math:`-\log p(x)` per cell of counts with variance :math:`\mu + \mu^2/\theta`.

    Parameters
    ----------
    x, h, v
        As in `poisson_loss`.
    log_theta
        Shape (G,).
    """
    return _CountLoss.apply(  # type: ignore[no-any-return, no-untyped-call]
        _negative_binomial, x, torch.is_grad_enabled(), with_ones(h), v, log_theta
    )


def zero_inflated_loss(
    x: Matrix,
    h: Float[Tensor, "cells width"],
    v: Float[Tensor, "genes columns"],
    log_theta: Float[Tensor, " genes"],
    zeros: Float[Tensor, "genes columns"],
) -> Float[Tensor, ""]:
    r"""Return :math:`-\log p(x)` per cell of a negative binomial mixed with zeros.

    Parameters
    ----------
    x, h, v, log_theta
        As in `negative_binomial_loss`.
    zeros
        Weights and biases of the log odds of a zero from elsewhere; shape (G, D + 1).
    """
    return _CountLoss.apply(  # type: ignore[no-any-return, no-untyped-call]
        _zero_inflated, x, torch.is_grad_enabled(), with_ones(h), v, log_theta, zeros
    )


def log_link_loss(
    x: Matrix,
    known: Float[Tensor, "cells known"],
    v: Float[Tensor, "genes columns"],
    mu: Float[Tensor, "cells latent"],
    log_var: Float[Tensor, "cells latent"],
    logit: Float[Tensor, "cells latent"],
) -> Float[Tensor, ""]:
    r"""Return :math:`-E_q \log p(x | z)` per cell of Poisson counts with a log link.

    Parameters
    ----------
    x
        Counts, B cells x G genes.
    known
        What the genes read beside the code, shape (B, C).
    v
        Weights of the units, of what is known and, as last column, biases, in natural
        logarithms of a gene's share of the library; shape (G, J + C + 1).
    mu, log_var, logit
        Mean and log variance of each unit where on, and log odds of being on, shape (B, J).

    Returns
    -------
    Scalar, of the dtype of `mu`, in nats.
    """
    library, given = cell_totals(x), with_ones(known)
    mean = torch.cat([logit.sigmoid() * mu, given], 1)
    explained = (linear(x, v).double() * mean.double()).sum() + _constant(x, library)
    expected = _ExpectedCounts.apply(  # type: ignore[no-untyped-call]
        library, torch.is_grad_enabled(), given, v, mu, log_var.exp(), logit
    )
    return ((expected - explained) / len(mu)).to(mu.dtype)  # type: ignore[no-any-return]


class _Softmax(NamedTuple):
    """Rates of a batch, before a likelihood looks at them."""

    x: Entries
    a: Tensor
    """Exponentials, shape (G, B), to be multiplied by `scale`."""
    scale: NDArray[np.floating]
    """Shape (n_blocks, B)."""
    library: NDArray[np.float64]
    """Counts of each cell, shape (B,)."""
    log_likelihood: float
    r""":math:`\sum x \log\mu - \log x!` of the batch."""


class _CountLoss(torch.autograd.Function):
    """One likelihood; its gradients are made along with the loss, as they share all terms.

    Nothing of B x G survives the forward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        likelihood: Callable[..., tuple[float, list[Tensor]]],
        x: Matrix,
        wanted: bool,
        h: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        h, v, *others = (w.detach().contiguous() for w in (h, *weights))
        total, grads = likelihood(_softmax(x, h, v), h, v, *others, wanted=wanted)
        ctx.save_for_backward(*grads)
        return h.new_tensor(-total / len(h))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        same = up.item() == 1  # as a rule; then a pass over all weights is saved
        return None, None, None, *(grads if same else (up * grad for grad in grads))


class _ExpectedCounts(torch.autograd.Function):
    """Sum of the expected counts; its gradients are made along with it, as they share all terms."""

    @staticmethod
    def forward(
        ctx: Any,
        library: Tensor,
        wanted: bool,
        given: Tensor,
        v: Tensor,
        mu: Tensor,
        variance: Tensor,
        logit: Tensor,
    ) -> Tensor:
        n_latent = mu.shape[1]
        on, off = logit.sigmoid(), (-logit).sigmoid()
        by_unit = (u.detach().T.contiguous().numpy() for u in (mu, variance, on, off))
        units, size = log_link.Units(*by_unit), library.to(mu.dtype).numpy()
        weight, rest = v.detach()[:, :n_latent].contiguous(), v.detach()[:, n_latent:]
        a, d_weight = rest @ given.detach().T, torch.empty_like(weight)
        sums = np.zeros((-(-len(a) // log_link.BLOCK), n_latent, 3, len(mu)), units.mu.dtype)
        total = log_link.expected_counts(
            a.numpy(), weight.numpy(), units, size, d_weight.numpy(), sums, wanted
        )
        if wanted:
            d_mu, d_variance, d_odds = torch.from_numpy(sums.sum(0)).permute(1, 2, 0)
            d_v = torch.cat([d_weight, a @ given], 1)
            ctx.save_for_backward(a.T @ rest, d_v, d_mu, d_variance, d_odds * on * off)
        return library.new_tensor(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(up.to(grad.dtype) * grad for grad in ctx.saved_tensors)


def _poisson(rates: _Softmax, h: Tensor, v: Tensor, *, wanted: bool) -> tuple[float, list[Tensor]]:
    total = rates.log_likelihood - rates.library.sum()
    if not wanted:
        return total, []
    counts.poisson_gradient(rates.a.numpy(), rates.x, rates.scale, -1 / len(h))
    return total, [rates.a.T @ v, rates.a @ h]


def _negative_binomial(
    rates: _Softmax, h: Tensor, v: Tensor, log_theta: Tensor, *, wanted: bool
) -> tuple[float, list[Tensor]]:
    theta = log_theta.double().exp()
    d_theta = torch.empty_like(theta)
    residual = np.zeros_like(rates.scale)
    a, each = rates.a.numpy(), theta.numpy()
    total = rates.log_likelihood + counts.negative_binomial(
        a, rates.x, rates.scale, each, d_theta.numpy(), residual
    )
    if not wanted:
        return total, []
    share = _share(residual, rates.library)
    counts.project_negative_binomial(a, rates.x, each, share, -1 / len(h))
    return total, [rates.a.T @ v, rates.a @ h, _d_log(theta, d_theta, h)]


def _zero_inflated(
    rates: _Softmax, h: Tensor, v: Tensor, log_theta: Tensor, zeros: Tensor, *, wanted: bool
) -> tuple[float, list[Tensor]]:
    theta = log_theta.double().exp()
    d_theta = torch.empty_like(theta)
    residual = np.zeros_like(rates.scale)
    a, error = rates.a.numpy(), torch.empty_like(rates.a)
    d_h, d_zeros, factor = torch.zeros_like(h), torch.empty_like(zeros), -1 / len(h)
    total = rates.log_likelihood
    for first in range(0, len(zeros), _GENES):
        genes = slice(first, first + _GENES)
        blocks = slice(first // BLOCK, first // BLOCK + _GENES // BLOCK)
        rho = zeros[genes] @ h.T
        total += counts.zero_inflated(
            a[genes],
            rho.numpy(),
            error[genes].numpy(),
            rates.x.of(genes),
            rates.scale[blocks],
            theta[genes].numpy(),
            d_theta[genes].numpy(),
            residual[blocks],
        )
        if wanted:
            torch.mm(rho, factor * h, out=d_zeros[genes])
            d_h.addmm_(rho.T, zeros[genes], alpha=factor)
    if not wanted:
        return total, []
    share = _share(residual, rates.library)
    counts.project(a, error.numpy(), share, factor)
    return total, [d_h.addmm_(rates.a.T, v), rates.a @ h, _d_log(theta, d_theta, h), d_zeros]


def _softmax(x: Matrix, h: Tensor, v: Tensor) -> _Softmax:
    """Share out the library of each cell, but for a last scaling of the exponentials."""
    listed, library = _entries(x), cell_totals(x).numpy()
    a = v @ h.T
    n_blocks = -(-len(a) // BLOCK)
    most = np.empty((n_blocks, len(h)), a.numpy().dtype)
    sums = np.empty((n_blocks, len(h)))
    log_likelihood = counts.exponentials(a.numpy(), listed, most, sums)
    above = most - most.max(0)
    log_sum = most.max(0) + np.log((sums * np.exp(above.astype(np.float64))).sum(0))
    scale = (library * np.exp(most - log_sum)).astype(most.dtype)
    log_library = np.log(np.where(library > 0, library, 1))
    log_likelihood += library @ (log_library - log_sum) - counts.log_factorials(listed.values)
    return _Softmax(listed, a, scale, library, float(log_likelihood))


def _entries(x: Matrix) -> Entries:
    """List the counts of a batch by gene."""
    if isinstance(x, Tensor):
        by_gene = x.T.contiguous().numpy()
        genes, cells = np.nonzero(by_gene)
        starts = np.searchsorted(genes, np.arange(x.shape[1] + 1))
        return Entries(starts.astype(np.int64), cells.astype(np.int32), by_gene[genes, cells])
    arrays = (x.gene_starts, x.cells, x.gene_values, x.dense_values, x.dense_genes)
    return Entries(*counts.entries(*(array.numpy() for array in arrays)))


def _constant(x: Matrix, library: Tensor) -> float:
    r"""Return :math:`\sum x \log n - \log x!` of the batch."""
    values = (x,) if isinstance(x, Tensor) else (x.values, x.dense_values)
    factorials = sum(counts.log_factorials(v.flatten().numpy()) for v in values)
    return float(torch.special.xlogy(library, library).sum()) - factorials


def _share(residual: NDArray[np.floating], library: NDArray[np.float64]) -> NDArray[np.floating]:
    """Return the sums of e over the genes by the library; nothing is lost where that is 0."""
    sums = residual.sum(0, dtype=np.float64)
    share: NDArray[np.floating] = sums / np.where(library > 0, library, 1)
    return share.astype(residual.dtype)


def _d_log(theta: Tensor, d_theta: Tensor, h: Tensor) -> Tensor:
    """Turn the gradient of theta into that of its logarithm, of the loss per cell."""
    return (theta * d_theta / -len(h)).to(h.dtype)
