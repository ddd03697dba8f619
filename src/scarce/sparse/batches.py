"""Minibatches of cells as CSR tensors, each with its transpose ready for the backward pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

__all__ = ["Batch", "Batches", "CSRBatch", "Path", "choose_path"]

Path = Literal["sparse", "dense"]


@dataclass(frozen=True)
class CSRBatch:
    """B cells x G genes in compressed rows, together with the pattern of the transpose.

    The transpose is stored as a permutation of the same values, so one batch serves the
    product ``X @ W`` and, in its backward pass, ``X.T @ D``.
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
    order: Tensor
    """Shape (nnz,), int64: ``values[order]`` are the values in gene order."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return len(self.row_starts) - 1, len(self.gene_starts) - 1

    def with_values(self, values: Tensor) -> "CSRBatch":
        """Return the same pattern with other values, shape (nnz,)."""
        return replace(self, values=values)

    def gene_sums(self, values: Tensor) -> Tensor:
        """Sum `values`, shape (nnz,), over the cells of each gene; shape (n_genes,)."""
        sums = torch.zeros(self.shape[1], dtype=values.dtype, device=values.device)
        return sums.index_add_(0, self.genes, values)


Batch = CSRBatch | Tensor
"""B cells x G genes: sparse, or a dense (B, G) tensor where that is the faster path."""


def choose_path(*, n_cells: int, n_genes: int, width: int, density: float) -> Path:
    r"""Return the path with fewer effective flops for the two gene-sized layers.

    One training step costs :math:`6 B G D` dense and
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


class Batches:
    """The rows of a CSR matrix, served as batches of almost equal size.

    Sizes differ by one at most, so no batch is ever a single straggling cell.

    Parameters
    ----------
    x
        Cells x genes, canonical (sorted, no duplicates).
    batch_size
        Upper bound on the cells of a batch.
    path
        Serve `CSRBatch` or dense tensors.
    device, dtype
        Of the tensors served.
    """

    def __init__(
        self,
        x: csr_matrix,
        *,
        batch_size: int,
        path: Path = "sparse",
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n_cells, self.n_genes = x.shape
        self.n_batches = -(-self.n_cells // batch_size)
        self.path = path
        self.device = device
        self.dtype = dtype
        self._starts = x.indptr.astype(np.int64)
        self._genes = x.indices.astype(np.int32)
        self._values = torch.from_numpy(x.data).to(dtype).numpy()

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield every cell once, in an order drawn from `generator`."""
        return self._serve(torch.randperm(self.n_cells, generator=generator).numpy())

    def ordered(self) -> Iterator[Batch]:
        """Yield every cell once, first to last."""
        return self._serve(np.arange(self.n_cells))

    def _serve(self, cells: NDArray[np.int64]) -> Iterator[Batch]:
        for rows in np.array_split(cells, self.n_batches):
            yield self._dense(rows) if self.path == "dense" else self._sparse(rows)

    def _sparse(self, rows: NDArray[np.int64]) -> CSRBatch:
        row_starts, genes, values = _gather(self._starts, self._genes, self._values, rows)
        gene_starts, cells, order = _transpose(row_starts, genes, self.n_genes)
        arrays = (row_starts, genes, values, gene_starts, cells, order)
        return CSRBatch(*(torch.from_numpy(a).to(self.device) for a in arrays))

    def _dense(self, rows: NDArray[np.int64]) -> Tensor:
        row_starts, genes, values = _gather(self._starts, self._genes, self._values, rows)
        x = np.zeros((len(rows), self.n_genes), dtype=values.dtype)
        x[np.repeat(np.arange(len(rows)), np.diff(row_starts)), genes] = values
        return torch.from_numpy(x).to(self.device)


@numba.njit(nogil=True, cache=True)
def _gather(
    starts: NDArray[np.int64],
    genes: NDArray[np.int32],
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.floating]]:
    """Copy the given rows of a CSR matrix into one smaller CSR matrix."""
    row_starts = np.zeros(len(rows) + 1, np.int32)
    for i, row in enumerate(rows):
        row_starts[i + 1] = row_starts[i] + starts[row + 1] - starts[row]
    out_genes = np.empty(row_starts[-1], genes.dtype)
    out_values = np.empty(row_starts[-1], values.dtype)
    for i, row in enumerate(rows):
        first, last = starts[row], starts[row + 1]
        out_genes[row_starts[i] : row_starts[i + 1]] = genes[first:last]
        out_values[row_starts[i] : row_starts[i + 1]] = values[first:last]
    return row_starts, out_genes, out_values


@numba.njit(nogil=True, cache=True)
def _transpose(
    row_starts: NDArray[np.int32], genes: NDArray[np.int32], n_genes: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Counting sort by gene: cells stay in order within a gene."""
    gene_starts = np.zeros(n_genes + 1, np.int32)
    for gene in genes:
        gene_starts[gene + 1] += 1
    for gene in range(n_genes):
        gene_starts[gene + 1] += gene_starts[gene]
    position = gene_starts[:-1].copy()
    cells = np.empty(len(genes), np.int32)
    order = np.empty(len(genes), np.int64)
    for cell in range(len(row_starts) - 1):
        for entry in range(row_starts[cell], row_starts[cell + 1]):
            slot = position[genes[entry]]
            cells[slot] = cell
            order[slot] = entry
            position[genes[entry]] = slot + 1
    return gene_starts, cells, order
