"""Minibatches of cells as CSR tensors, each with its transpose ready for the backward pass."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from scarce.sparse.stats import entries_per_gene

__all__ = ["Arithmetic", "Batch", "Batches", "CSRBatch", "Matrix", "choose_path", "run_sums"]

Arithmetic = Literal["sparse", "dense"]


@dataclass(frozen=True)
class CSRBatch:
    r"""B cells x G genes: entries in compressed rows, a few dense columns, and one added row.

    The entries are held twice, in row and in gene order: one serves the product ``X @ W``,
    the other its backward pass ``X.T @ D``. Genes found in many cells are left out of them
    and kept as dense columns, where a dense product is faster. The whole stands for
    :math:`X + 1\,\mathrm{base}^\top`, so that z-scored expression, of which no entry is zero,
    is as sparse as the counts.
    """

    row_starts: Tensor
    """Shape (B + 1,), int32: entries of cell i are ``row_starts[i]:row_starts[i + 1]``."""
    genes: Tensor
    """Shape (nnz,), int32: gene of each entry."""
    values: Tensor
    """Shape (nnz,): value of each entry, in row order."""
    gene_starts: Tensor
    """Shape (G + 1,), int32: the same, for the transpose."""
    cells: Tensor
    """Shape (nnz,), int32: cell of each entry, in gene order."""
    gene_values: Tensor
    """Shape (nnz,): value of each entry, in gene order."""
    order: Tensor
    """Shape (nnz,), int32: ``values[order]`` is ``gene_values``."""
    dense_values: Tensor
    """Shape (B, H): dense columns."""
    dense_genes: Tensor
    """Shape (H,), int64: the genes these are."""
    base: Tensor | None = None
    """Shape (G,): what is added to every cell; nothing if None."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return len(self.row_starts) - 1, len(self.gene_starts) - 1

    def map(self, change: Callable[[Tensor], Tensor]) -> "CSRBatch":
        """Return the same pattern with other values; `change` must keep zeros zero."""
        values = change(self.values)
        return replace(
            self,
            values=values,
            gene_values=values[self.order],
            dense_values=change(self.dense_values),
        )

    def cell_squares(self, weight: Tensor | None = None) -> Tensor:
        """Sum the squared values of each cell, without the base; shape (n_cells,), float64.

        With `weight`, shape (n_genes,), each gene's squares count so many times.
        """
        listed, dense = self.values.square(), self.dense_values.square()
        if weight is not None:
            listed *= weight[self.genes]
            dense *= weight[self.dense_genes]
        return run_sums(listed, self.row_starts) + dense.sum(1, dtype=torch.float64)

    def gene_squares(self, weight: Tensor) -> Tensor:
        """Sum the squared values of each gene, without the base; shape (n_genes,), float64.

        With each cell counting as often as `weight` says, shape (n_cells,).
        """
        listed = self.gene_values.square() * weight[self.cells]
        dense = weight.double() @ self.dense_values.square().double()
        return run_sums(listed, self.gene_starts).index_copy_(0, self.dense_genes, dense)


def run_sums(values: Tensor, starts: Tensor) -> Tensor:
    """Sum the values from each of ``starts`` up to the next; float64."""
    running = F.pad(values.cumsum(0, dtype=torch.float64), (1, 0))
    return running[starts[1:]] - running[starts[:-1]]


Matrix = CSRBatch | Tensor
"""B cells x G genes: sparse, or a dense (B, G) tensor where that is the faster path."""


class Batch(NamedTuple):
    """B cells: what was measured of them, and what is known of them beside it."""

    x: Matrix
    covariates: Tensor
    """Shape (B, C): one column per batch of the experiment or continuous covariate; C may be 0."""

    @property
    def n_cells(self) -> int:
        """B."""
        return self.x.shape[0]


def choose_path(*, n_cells: int, n_genes: int, width: int, density: float) -> Arithmetic:
    r"""Return the path with fewer effective flops for the decoder's gene-sized layer.

    Its part of a training step costs :math:`6 B G D` dense and
    :math:`4 (B + G) D^2 + 4 \rho B G D / e` sparse, where e = 0.1 is the measured efficiency
    of a sparse product against a dense one.

    Parameters
    ----------
    n_cells, n_genes, width
        B, G and D: cells in a batch, genes, width of the layer next to the genes.
    density
        Share of nonzero entries.
    """
    ratio = 2 / 3 * (width / n_cells + width / n_genes + density / 0.1)
    return "sparse" if ratio < 1 else "dense"


_DENSE = 0.3
"""Share of cells from which a gene is a dense column: a dense product does about three times
the flops of a sparse one in the same time."""


class Batches:
    """Rows of a CSR matrix, served as batches of almost equal size.

    Sizes differ by one at most, so no batch is ever a single straggling cell. A second
    thread assembles the next batch while the present one is used. The matrix is not copied.

    Parameters
    ----------
    x
        Cells x genes, canonical (sorted, no duplicates).
    rows
        The cells to serve; all of them if None.
    batch_size
        Upper bound on the cells of a batch.
    base
        Shape (G,): row added to every cell, see `CSRBatch`.
    covariates
        Shape (n_cells, C): served beside the cells of x; C = 0 if None.
    path
        Serve `CSRBatch` or dense tensors.
    device, dtype
        Of the tensors served.

    Raises
    ------
    ValueError
        If `x` is not canonical: an entry held twice would be squared in parts.
    """

    def __init__(
        self,
        x: csr_matrix,
        *,
        rows: NDArray[np.int64] | None = None,
        batch_size: int,
        base: NDArray[np.floating] | None = None,
        covariates: NDArray[np.floating] | None = None,
        path: Arithmetic = "sparse",
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not x.has_canonical_format:
            raise ValueError("x must be sorted and without duplicates; call x.sum_duplicates().")
        self.n_genes = x.shape[1]
        self.path = path
        self.device = device
        self._rows = np.arange(x.shape[0]) if rows is None else rows
        self.n_cells = len(self._rows)
        self.n_batches = -(-self.n_cells // batch_size)
        self._starts = x.indptr.astype(np.int64, copy=False)
        self._genes = x.indices.astype(np.int32, copy=False)
        self._values = torch.from_numpy(x.data).to(dtype).numpy()
        counts = entries_per_gene(x)
        dense_genes = np.flatnonzero(counts > _DENSE * max(1, x.shape[0]))
        self._column = np.full(self.n_genes, len(dense_genes), np.int32)
        self._column[dense_genes] = np.arange(len(dense_genes))
        self._dense_genes = torch.from_numpy(dense_genes).to(device)
        self._base = None if base is None else torch.from_numpy(base).to(device, dtype)
        known = np.empty((x.shape[0], 0)) if covariates is None else covariates
        self._covariates = torch.from_numpy(known).to(device, dtype)

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield every cell once in `n_batches`, then again in another random order, endlessly."""

        def orders() -> Iterator[NDArray[np.int64]]:
            while True:
                yield self._rows[torch.randperm(self.n_cells, generator=generator).numpy()]

        return self._serve(orders())

    def ordered(self) -> Iterator[Batch]:
        """Yield every cell once, first to last."""
        return self._serve([self._rows])

    def _serve(self, epochs: Iterable[NDArray[np.int64]]) -> Iterator[Batch]:
        """Yield batches of each epoch's cells, each assembled while the last one is used."""
        parts = (rows for cells in epochs for rows in np.array_split(cells, self.n_batches))
        with ThreadPoolExecutor(max_workers=1) as assembler:
            ahead = assembler.submit(self._assemble, next(parts))
            for rows in parts:
                batch, ahead = ahead.result(), assembler.submit(self._assemble, rows)
                yield batch
            yield ahead.result()

    def _assemble(self, rows: NDArray[np.int64]) -> Batch:
        x = self._dense(rows) if self.path == "dense" else self._sparse(rows)
        return Batch(x, self._covariates[torch.from_numpy(rows)])

    def _sparse(self, rows: NDArray[np.int64]) -> Matrix:
        dense_values = np.zeros((len(rows), len(self._dense_genes) + 1), self._values.dtype)
        row_starts, genes, values = _gather(
            self._starts, self._genes, self._values, rows, self._column, dense_values
        )
        transpose = _transpose(row_starts, genes, values, self.n_genes)
        arrays = (row_starts, genes, values, *transpose, dense_values[:, :-1])
        tensors = (torch.from_numpy(a).to(self.device) for a in arrays)
        return partial(CSRBatch, dense_genes=self._dense_genes, base=self._base)(*tensors)

    def _dense(self, rows: NDArray[np.int64]) -> Matrix:
        x = np.zeros((len(rows), self.n_genes), self._values.dtype)
        _scatter(self._starts, self._genes, self._values, rows, x)
        dense = torch.from_numpy(x).to(self.device)
        return dense if self._base is None else dense.add_(self._base)


# Kernels. Indices are unsigned where it counts: for signed ones numba asks at every access
# whether they count from the end, which more than doubled the time.


@numba.njit(nogil=True, cache=True)
def _gather(
    starts: NDArray[np.int64],
    genes: NDArray[np.int32],
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    column: NDArray[np.int32],
    dense_values: NDArray[np.floating],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.floating]]:
    """Copy rows of a CSR matrix: dense columns into `dense_values`, the rest into a smaller CSR.

    ``column`` is the dense column of each gene; the last one is a bin for all other genes.
    Writing every entry to both places and keeping one costs less than a branch does.
    """
    most = 0
    for row in rows:
        most += starts[row + 1] - starts[row]
    row_starts = np.zeros(len(rows) + 1, np.int32)
    out_genes = np.empty(most + 1, genes.dtype)
    out_values = np.empty(most + 1, values.dtype)
    sparse_bin = dense_values.shape[1] - 1
    n = np.uintp(0)
    for i, row in enumerate(rows):
        dense = dense_values[i]
        for entry in range(np.uintp(starts[row]), np.uintp(starts[row + 1])):
            gene = np.uintp(genes[entry])
            to = np.uintp(column[gene])
            dense[to] = values[entry]
            out_genes[n] = gene
            out_values[n] = values[entry]
            n += np.uintp(to == sparse_bin)
        row_starts[i + 1] = n
    return row_starts, out_genes[:n], out_values[:n]


@numba.njit(nogil=True, cache=True)
def _scatter(
    starts: NDArray[np.int64],
    genes: NDArray[np.int32],
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    x: NDArray[np.floating],
) -> None:
    """Write the given rows of a CSR matrix into the zeros of a dense one."""
    for i, row in enumerate(rows):
        for entry in range(starts[row], starts[row + 1]):
            x[i, genes[entry]] = values[entry]


@numba.njit(nogil=True, cache=True)
def _transpose(
    row_starts: NDArray[np.int32],
    genes: NDArray[np.int32],
    values: NDArray[np.floating],
    n_genes: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.floating], NDArray[np.int32]]:
    """Counting sort by gene: cells stay in order within a gene."""
    gene_starts = np.zeros(n_genes + 1, np.int32)
    for gene in genes:
        gene_starts[np.uintp(gene) + np.uintp(1)] += 1
    for gene in range(n_genes):
        gene_starts[gene + 1] += gene_starts[gene]
    position = gene_starts[:-1].copy()
    cells = np.empty(len(genes), np.int32)
    gene_values = np.empty_like(values)
    order = np.empty(len(genes), np.int32)
    for cell in range(len(row_starts) - 1):
        for entry in range(np.uintp(row_starts[cell]), np.uintp(row_starts[cell + 1])):
            gene = np.uintp(genes[entry])
            slot = np.uintp(position[gene])
            cells[slot] = cell
            gene_values[slot] = values[entry]
            order[slot] = entry
            position[gene] += 1
    return gene_starts, cells, gene_values, order
