r"""Products with a CSR batch, and the exact squared error of a linear layer against it.

The squared error of predictions :math:`H W^\top + 1 b^\top` against sparse targets X needs
neither the predictions nor a dense X. With :math:`A = [H, 1]` and :math:`V = [W, b]`,

.. math:: \|A V^\top - X\|_F^2 = \langle A^\top A, V^\top V\rangle
          - 2 \langle A, X V\rangle + \|X\|_F^2,

that is two Gram matrices of the layer's width D and one product of X with a matrix: the
cost is :math:`2 (B + G) D^2 + 2\,\mathrm{nnz}\,D` flops instead of :math:`2 B G D`, and no
B x G array exists, forward or backward.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scarce.sparse.batches import Batch, CSRBatch

__all__ = ["linear", "read", "squared_error", "squared_error_per_gene"]


def linear(x: Batch, weight: Float[Tensor, "genes width"]) -> Float[Tensor, "cells width"]:
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


class _Linear(torch.autograd.Function):
    """``X @ W`` for sparse constant X; both directions are sums over bags of rows."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: CSRBatch) -> Tensor:
        ctx.x = x
        return _bag(weight, x.genes, x.row_starts, x.values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x: CSRBatch = ctx.x
        return _bag(grad.contiguous(), x.cells, x.gene_starts, x.values[x.order]), None


def _bag(rows: Tensor, picks: Tensor, starts: Tensor, values: Tensor) -> Tensor:
    """Weighted sums of picked rows, one per bag: the fastest CSR product torch has."""
    return F.embedding_bag(
        picks,
        rows,
        starts,
        mode="sum",
        per_sample_weights=values,
        include_last_offset=True,
    )


def read(
    x: CSRBatch, table: Float[Tensor, "genes width"], n_in: int
) -> tuple[Float[Tensor, "cells width"], Float[Tensor, "out out"]]:
    r"""Return ``X @ T`` and ``V.T @ V`` for a table ``T = [W | V]``.

    The two things a batch and the gene-sized layers have to say to each other, at the cost
    of one product with X forward and one backward: the gradient
    :math:`X^\top D + [0 | V (Q + Q^\top)]` is written once.

    Parameters
    ----------
    x
        B cells.
    table
        Shape (G, D): encoder columns W, then decoder columns V.
    n_in
        Number of columns of W.

    Returns
    -------
    The product, shape (B, D), and the Gram matrix, shape (D - n_in, D - n_in).
    """
    return _Read.apply(table, x, n_in)  # type: ignore[no-any-return, no-untyped-call]


class _Read(torch.autograd.Function):
    """Autograd would slice, pad and add arrays of the table's size five times over."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, x: CSRBatch, n_in: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(table)
        ctx.x, ctx.n_in = x, n_in
        v = table[:, n_in:]
        return _bag(table, x.genes, x.row_starts, x.values), v.T @ v

    @staticmethod
    def backward(ctx: Any, product_grad: Tensor, gram_grad: Tensor) -> tuple[Tensor, None, None]:
        (table,) = ctx.saved_tensors
        x, n_in = ctx.x, ctx.n_in
        grad = _bag(product_grad.contiguous(), x.cells, x.gene_starts, x.values[x.order])
        grad[:, n_in:].addmm_(table[:, n_in:], gram_grad + gram_grad.T)
        return grad, None, None


def squared_error(
    a: Float[Tensor, "cells width"],
    cross: Float[Tensor, "cells width"],
    v_gram: Float[Tensor, "width width"],
    x_squares: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    r"""Return :math:`\|A V^\top - X\|_F^2`, accumulated in float64.

    Parameters
    ----------
    a
        Last hidden layer with a column of ones, shape (B, D).
    cross
        ``linear(x, V)``, shape (B, D).
    v_gram
        ``V.T @ V``, shape (D, D). With genes weighted by w, pass ``linear(x, w V)`` and
        ``V.T @ (w V)`` instead: the result is the weighted error.
    x_squares
        :math:`\|X\|_F^2` (or its weighted form).

    Returns
    -------
    Scalar, of the dtype of `a`.
    """
    explained = ((a.T @ a).double() * v_gram.double()).sum()
    matched = (a.double() * cross.double()).sum()
    return (explained - 2 * matched + x_squares.double()).to(a.dtype)


def squared_error_per_gene(
    a: Float[Tensor, "cells width"], v: Float[Tensor, "genes width"], x: CSRBatch
) -> Float[Tensor, " genes"]:
    r"""Return :math:`\sum_i (a_i \cdot v_g - x_{ig})^2` for each gene; not differentiable.

    Parameters
    ----------
    a
        Shape (B, D).
    v
        Shape (G, D).
    x
        The targets.

    Returns
    -------
    Tensor of shape (G,), float64.
    """
    with torch.no_grad():
        crossed = _bag(a, x.cells, x.gene_starts, x.values[x.order])
        explained = ((v @ (a.T @ a)).double() * v.double()).sum(1)
        matched = (v.double() * crossed.double()).sum(1)
        return explained - 2 * matched + x.gene_sums(x.values.double().square())
