"""From counts to the matrix the models see: quality control, normalisation, variable genes."""

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array
from threadpoolctl import threadpool_limits

from scarce.errors import InputError
from scarce.sparse.stats import TARGET_SUM, mean_and_variance
from scarce.summary import Removed

__all__ = [
    "Scaling",
    "Thresholds",
    "add_column",
    "log_normalised",
    "mitochondrial",
    "normalise",
    "own",
    "percent_mito",
    "quality_control",
    "totals",
    "variable_genes",
]

_ENOUGH_CELLS = 3
"""Of a gene, as in the Seurat tutorial."""
_ENOUGH_GENES = 4
"""Of a trend: fewer points crash the compiled loess, and the process with it."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of quality control, as in the Seurat tutorial on PBMCs.

    Parameters
    ----------
    min_cells
        Genes must be found in at least this many cells.
    min_genes, max_genes
        Cells must have more than `min_genes` and fewer than `max_genes` genes.
    max_mito
        Cells must have less than this percentage of counts in mitochondrial genes, those
        whose names start with ``MT-`` in upper or lower case.
    """

    min_cells: int = 3
    min_genes: int = 200
    max_genes: float = 2500
    max_mito: float = 5.0


def quality_control(adata: AnnData, thresholds: Thresholds) -> tuple[AnnData, list[Removed]]:
    """Return the cells and genes worth analysing, and what each rule took away.

    The order is Seurat's: cells with fewer than `min_genes` genes first, then rare genes,
    then the limits on cells; genes are not filtered again.

    Parameters
    ----------
    adata
        Counts in ``X``, CSR. Not modified.
    thresholds
        The limits.

    Raises
    ------
    InputError
        If fewer than two cells or no gene would be left.
    """
    n_cells, n_genes = adata.shape
    adata = adata[_genes_per_cell(adata) >= thresholds.min_genes]
    empty = f"cells with fewer than {thresholds.min_genes} genes"
    removed = [Removed(empty, n_cells - adata.n_obs, 0)]
    adata = adata[:, _cells_per_gene(adata) >= thresholds.min_cells]
    removed.append(
        Removed(f"genes in fewer than {thresholds.min_cells} cells", 0, n_genes - adata.n_vars)
    )

    found, mito = _genes_per_cell(adata), percent_mito(csr_matrix(adata.X), adata.var_names)
    rules = {
        f"cells with {thresholds.min_genes} genes or fewer": found <= thresholds.min_genes,
        f"cells with {thresholds.max_genes:g} genes or more": found >= thresholds.max_genes,
        f"cells with {thresholds.max_mito:g} % mitochondrial counts or more": mito
        >= thresholds.max_mito,
    }
    keep = np.ones(adata.n_obs, bool)
    for rule, fails in rules.items():
        removed.append(Removed(rule, int((keep & fails).sum()), 0))
        keep &= ~fails
    if keep.sum() < 2 or adata.n_vars == 0:
        raise InputError(
            f"quality control must leave cells and genes; it left {keep.sum()} of {n_cells} "
            f"cells and {adata.n_vars} of {n_genes} genes ({_describe(removed)}). "
            "Widen --min-genes, --max-genes or --max-mito, or pass --no-qc."
        )
    kept = adata[keep].copy()
    add_column(kept.obs, "n_genes", found[keep])
    add_column(kept.obs, "percent_mito", mito[keep])
    return kept, removed


def normalise(adata: AnnData) -> None:
    """Keep counts in ``layers["counts"]`` and put log-normalised expression into ``X``.

    Parameters
    ----------
    adata
        Counts in ``X``, CSR. Modified in place.
    """
    counts = csr_matrix(adata.X, dtype=np.float32)
    adata.layers["counts"] = counts
    add_column(adata.obs, "n_counts", totals(counts))
    adata.X = log_normalised(counts)
    # Scanpy's None for a natural logarithm is not readable before anndata 0.12.
    adata.uns["log1p"] = {"base": math.e}


def add_column(table: pd.DataFrame, name: str, values: Any) -> None:  # noqa: ANN401 - any array
    """Set a column in place; one that has its name already is kept as `own` calls it."""
    if name in table:
        table[own(name)] = table[name]
    table[name] = values


def own(name: str) -> str:
    """Return what the user's own column is called where ours takes its name."""
    return f"{name}_input"


def percent_mito(counts: csr_matrix, genes: pd.Index) -> NDArray[np.float64]:
    """Return the percentage of each cell's counts in mitochondrial genes, shape (n_cells,)."""
    n, part = totals(counts), totals(counts[:, mitochondrial(genes)])
    return 100 * part / np.where(n > 0, n, 1)


def mitochondrial(genes: pd.Index) -> NDArray[np.bool_]:
    """Mark genes by the start of their name: human ``MT-`` or mouse ``mt-``."""
    return np.asarray(genes.str.upper().str.startswith("MT-"))


def log_normalised(counts: csr_matrix) -> csr_matrix:
    r"""Return Seurat's LogNormalize, :math:`\log(1 + 10^4\,x_{ig} / n_i)` of n_i counts in cell i.

    In float32. Only nonzeros are touched; a cell without counts stays all zero.
    """
    n = totals(counts)
    scaled = csr_matrix(diags_array(TARGET_SUM / np.where(n > 0, n, 1)) @ counts)
    return scaled.log1p().astype(np.float32)


def totals(counts: csr_matrix) -> NDArray[np.float64]:
    """Return the counts of each cell, shape (n_cells,)."""
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def variable_genes(adata: AnnData, n_genes: int | None, batch: str | None = None) -> str | None:
    """Mark the genes to model in ``var["highly_variable"]``.

    Parameters
    ----------
    adata
        With ``layers["counts"]``. Modified in place.
    n_genes
        The most variable genes by Seurat's "vst" (variance of standardised, clipped counts),
        or None for all. At most as many as there are.
    batch
        Column of the cell table. Genes are then ranked within each batch, and those among the
        first `n_genes` of most batches are marked, of these the first by their median rank, as
        Seurat's SelectIntegrationFeatures does: not what differs between batches alone.

    Returns
    -------
    None, or what the reader must know of the choice: that it was made within batches, or without
    the genes found in fewer than 3 cells, which many data sets still have before quality
    control and along which the curve of variance against mean cannot always be fitted.

    Raises
    ------
    InputError
        If it cannot be fitted at all.
    """
    if n_genes is None or n_genes >= adata.n_vars:
        adata.var["highly_variable"] = True
        return None
    note: str | None
    if batch is None:
        of_all, note = _ranks(adata, n_genes)
        ranks = [of_all]
    else:
        ranks, note = _ranks_within(adata, n_genes, batch)
    table = pd.DataFrame(np.stack(ranks))
    n_batches, rank = table.notna().sum(), table.median()
    first = np.lexsort((rank, -n_batches))[:n_genes]
    adata.var["highly_variable_rank"] = rank.to_numpy()
    adata.var["highly_variable"] = np.isin(np.arange(adata.n_vars), first) & rank.notna().to_numpy()
    return note


def _ranks_within(
    adata: AnnData, n_genes: int, batch: str
) -> tuple[list[NDArray[np.float64]], str]:
    """Return the ranks in each batch, and what to say of them."""
    ranks, too_small = [], []
    for level, cells in adata.obs.groupby(adata.obs[batch].astype(str)).indices.items():
        try:
            ranks.append(_ranks(adata[cells], n_genes)[0])
        except InputError:
            too_small.append(f"{level!r} ({len(cells):,} cell{'s' * (len(cells) > 1)})")
    if not ranks:
        on_all = f"Variable genes were chosen on all cells: every {batch!r} is too small for it."
        return [_ranks(adata, n_genes)[0]], on_all
    left_out = f", of which too small for it: {', '.join(too_small)}" if too_small else ""
    return ranks, f"Variable genes were chosen within each {batch!r}{left_out}."


def _ranks(adata: AnnData, n_genes: int) -> tuple[NDArray[np.float64], str | None]:
    """Return the rank of each gene by variance, NaN beyond the first."""
    counts = csr_matrix(adata.layers["counts"])
    with suppress(ValueError):  # many genes with one same mean leave loess nothing to fit
        return _ranked(counts, n_genes), None
    common = _cells_per_gene(adata) >= _ENOUGH_CELLS
    n_common = np.count_nonzero(common)
    ranks = np.full(adata.n_vars, np.nan)
    try:
        ranks[common] = _ranked(counts[:, common], n_genes)
    except ValueError as error:
        raise InputError(
            "variable genes must stand out from a trend of variance with mean expression; none can "
            f"be fitted to {adata.n_obs:,} cells and {adata.n_vars:,} genes, of which {n_common:,} "
            f"are found in at least {_ENOUGH_CELLS} cells. Pass --genes all."
        ) from error
    return ranks, (
        f"Variable genes were chosen among the {n_common:,} found in at least "
        f"{_ENOUGH_CELLS} cells: with rarer ones the trend of variance cannot be fitted."
    )


def _ranked(counts: csr_matrix, n_genes: int) -> NDArray[np.float64]:
    import scanpy as sc

    if np.count_nonzero(mean_and_variance(counts)[1]) < _ENOUGH_GENES:
        raise ValueError("too few genes vary")
    bare = AnnData(counts)
    # Scanpy's compiled loops leave their number of threads to everything that shares OpenMP.
    with threadpool_limits(), warnings.catch_warnings():
        # Loess warns of ties among genes seen in few cells; the fit is Seurat's.
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(bare, flavor="seurat_v3", n_top_genes=n_genes)
    ranks: NDArray[np.float64] = bare.var["highly_variable_rank"].to_numpy(np.float64)
    return ranks


@dataclass(frozen=True)
class Scaling:
    r"""Seurat's ScaleData without a dense array: z-scores as sparse entries plus one row.

    A gene's z-score is :math:`\min((x - m) / s, c)`. With :math:`\mathrm{base} = -m / s` it is
    :math:`\mathrm{base} + \min(x / s, c + m / s)`, whose second term is zero where x is.
    A gene that does not vary has s = infinity: its z-scores are zero, as Seurat's.
    """

    mean: NDArray[np.float64]
    """m, shape (n_genes,)."""
    sd: NDArray[np.float64]
    """s with n - 1, shape (n_genes,)."""
    limit: float = 10.0
    """c, the upper clip; Seurat has no lower one, scanpy clips at both ends."""

    @classmethod
    def of(cls, x: csr_matrix, rows: NDArray[np.int64] | None = None) -> "Scaling":
        """Take means and standard deviations from these rows of x, or from all."""
        mean, variance = mean_and_variance(x, rows=rows, correction=1)
        return cls(mean, np.where(variance > 0, np.sqrt(variance), np.inf))

    @property
    def base(self) -> NDArray[np.float64]:
        """The z-score of an entry that is zero, shape (n_genes,)."""
        return -self.mean / self.sd

    def entries(self, x: csr_matrix) -> csr_matrix:
        """Return the sparse part: add `base` to each of its rows for the z-scores."""
        sd, most = self.sd.astype(x.dtype), (self.limit - self.base).astype(x.dtype)
        values = x.data / sd[x.indices]
        np.minimum(values, most[x.indices], out=values)
        return csr_matrix((values, x.indices, x.indptr), shape=x.shape)

    def undo(self, z_scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the expression that has these z-scores, shape (n_cells, n_genes)."""
        varies = np.isfinite(self.sd)
        return z_scores * np.where(varies, self.sd, 0.0) + self.mean


def _genes_per_cell(adata: AnnData) -> NDArray[np.int64]:
    return adata.X.getnnz(axis=1)  # type: ignore[no-any-return]


def _cells_per_gene(adata: AnnData) -> NDArray[np.int64]:
    return adata.X.getnnz(axis=0)  # type: ignore[no-any-return]


def _describe(removed: list[Removed]) -> str:
    return "; ".join(f"{r.rule}: {r.n_cells or r.n_genes}" for r in removed)
