r"""Products with a CSR batch, and the exact squared error of a linear layer against it.

The squared errors of predictions :math:`\hat X = A V^\top`, where :math:`A = [H, 1]` is the
last hidden layer with a column of ones and :math:`V = [W, b]` holds weights and biases, need
neither the predictions nor a dense X. With :math:`Q = V^\top V`, cell i has

.. math::
    S_i = \|V a_i - x_i\|^2 = a_i \cdot (Q a_i - 2 V^\top x_i) + \|x_i\|^2,
    \qquad \tfrac12 \partial_{a_i} S_i = Q a_i - V^\top x_i,

and, of a sum in which cell i counts :math:`u_i`, with :math:`U = \mathrm{diag}(u)`,

.. math:: \tfrac12 \partial_V \textstyle\sum_i u_i S_i = V (A^\top U A) - X^\top U A:

with D columns that is :math:`4 (B + G) D^2 + 4\,\mathrm{nnz}\,D` flops, forward and backward,
instead of :math:`6 B G D`, and no B x G array exists. A row added to every cell of X moves
to the other side: it is taken from b.
"""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from scarce.sparse.batches import CSRBatch, Matrix, run_sums

__all__ = ["cell_totals", "linear", "squared_error", "with_ones"]


def linear(x: Matrix, weight: Float[Tensor, "genes width"]) -> Float[Tensor, "cells width"]:
    """Multiply cells by a genes x width matrix: ``X @ W``, 2 nnz D flops.

    Parameters
    ----------
    x
        B cells x G genes.
    weight
        Shape (G, D). Its gradient ``X.T @ D`` is a second product with the same entries.

    Returns
    -------
    Tensor of shape (B, D).
    """
    if isinstance(x, Tensor):
        return x @ weight
    return _Linear.apply(weight, x)  # type: ignore[no-any-return, no-untyped-call]


def cell_totals(x: Matrix) -> Float[Tensor, " cells"]:
    """Sum the values of each cell, without the base; float64."""
    if isinstance(x, Tensor):
        return x.sum(1, dtype=torch.float64)
    return run_sums(x.values, x.row_starts) + x.dense_values.sum(1, dtype=torch.float64)


class _Linear(torch.autograd.Function):
    """``X @ W + 1 (base @ W)`` for constant X and base."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: CSRBatch) -> Tensor:
        ctx.x = x
        product = _product(x, weight)
        return product if x.base is None else product.add_(x.base @ weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        x: CSRBatch = ctx.x
        grad = _transposed_product(x, d)
        return (grad if x.base is None else grad.addr_(x.base, d.sum(0))), None


def squared_error(
    x: Matrix,
    h: Float[Tensor, "cells width"],
    v: Float[Tensor, "genes columns"],
    weight: Float[Tensor, " genes"] | None = None,
) -> Float[Tensor, " cells"]:
    r"""Return :math:`\sum_g w_g\,([h_i, 1] \cdot v_g - x_{ig})^2` of each cell i.

    Parameters
    ----------
    x
        The targets, B cells x G genes.
    h
        Last hidden layer, shape (B, D).
    v
        Weights and, as last column, biases of the genes; shape (G, D + 1).
    weight
        w, shape (G,); one for every gene where not given.

    Returns
    -------
    Tensor of shape (B,), of the dtype of `h`. Against sparse targets it is accumulated in
    float64 and is a difference of larger terms: its relative rounding error grows as the share of
    :math:`\|X\|^2` it explains nears one, and a warning says so when less than a thousandth is
    left unexplained in float32.
    """
    if isinstance(x, Tensor):
        squares = (with_ones(h) @ v.T - x).square()
        return squares.sum(1) if weight is None else squares @ weight
    return _SquaredError.apply(with_ones(h), v, x, weight)  # type: ignore[no-any-return, no-untyped-call]


_LEAST_SHARE = 1e-3
_CANCELLED = (
    "the model leaves less than a thousandth of the data's squares unexplained, where this "
    'difference of large sums in float32 is inexact; fit with path="dense".'
)


class _SquaredError(torch.autograd.Function):
    """The formulas of this file; the gradient of `weight` is the squared error of each gene."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, v: Tensor, x: CSRBatch, weight: Tensor | None) -> Tensor:
        v = _without_base(v, x)
        weighted = v if weight is None else v * weight[:, None]
        aq, xv = a @ (v.T @ weighted), _product(x, weighted)
        squares = x.cell_squares(weight)
        ctx.x = x
        ctx.save_for_backward(a, v, weight, aq, xv)
        errors = _inner_rows(a, aq) - 2 * _inner_rows(a, xv) + squares
        if a.dtype == torch.float32 and errors.sum() < _LEAST_SHARE * squares.sum():
            warnings.warn(_CANCELLED, stacklevel=2)
        return errors.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, Tensor, None, Tensor | None]:
        a, v, weight, aq, xv = ctx.saved_tensors
        d_a, ua = 2 * up[:, None] * (aq - xv), 2 * up[:, None] * a
        if weight is None:
            return d_a, _transposed_product(ctx.x, -ua).addmm_(v, a.T @ ua), None, None
        vp, xa = v @ (a.T @ ua), _transposed_product(ctx.x, ua)
        d_weight = _inner_rows(v, 0.5 * vp - xa) + ctx.x.gene_squares(up)
        return d_a, weight[:, None] * (vp - xa), None, d_weight.to(weight.dtype)


def _product(x: CSRBatch, rows: Tensor) -> Tensor:
    """``X @ rows`` without the base, (B, D)."""
    product = _bag(rows, x.genes, x.row_starts, x.values)
    return product.addmm_(x.dense_values, rows.detach()[x.dense_genes])


def _transposed_product(x: CSRBatch, rows: Tensor) -> Tensor:
    """``X.T @ rows`` without the base, (G, D)."""
    product = _bag(rows, x.cells, x.gene_starts, x.gene_values)
    return product.index_copy_(0, x.dense_genes, x.dense_values.T @ rows)


def _bag(rows: Tensor, picks: Tensor, starts: Tensor, values: Tensor) -> Tensor:
    """Weighted sums of picked rows, one per bag: the fastest CSR product torch has."""
    return F.embedding_bag(
        picks,
        rows.detach().contiguous(),
        starts,
        mode="sum",
        per_sample_weights=values,
        include_last_offset=True,
    )


def with_ones(h: Tensor) -> Tensor:
    """Append a column of ones, which the biases multiply."""
    return F.pad(h, (0, 1), value=1.0)


def _without_base(v: Tensor, x: CSRBatch) -> Tensor:
    return v if x.base is None else torch.cat([v[:, :-1], (v[:, -1] - x.base)[:, None]], 1)


def _inner_rows(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).sum(1)
