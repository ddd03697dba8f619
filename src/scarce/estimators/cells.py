"""What an estimator reads of the cells it is given."""

import warnings
from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from scarce import check
from scarce.errors import InputError
from scarce.likelihoods import LIKELIHOODS

__all__ = ["Cells", "matrix", "select_genes", "table"]

Cells: TypeAlias = AnnData | csr_matrix
"""Log-normalised expression or, for a likelihood of counts, raw counts; cells x genes."""


def matrix(
    cells: Cells, layer: str | None, likelihood: str, *, least_cells: int = 1
) -> tuple[csr_matrix, list[str] | None]:
    """Return what a likelihood models, checked, as CSR, and the gene names where known."""
    of_counts = LIKELIHOODS[likelihood].counts
    read = partial(check.log_normalised, n_cells=least_cells)
    if of_counts:
        advice = (
            f"Likelihood {likelihood!r} is one of raw counts: keep them in layers['counts'], or "
            "pass the layer that has them."
        )
        read = partial(check.counts, n_cells=least_cells, advice=advice)
    if not isinstance(cells, AnnData):
        if isinstance(cells, pd.DataFrame) or not hasattr(cells, "shape"):
            raise InputError(
                "cells must be an AnnData, or a sparse matrix or an array without names; found a "
                f"{type(cells).__name__}. Make an AnnData of it, so that genes match by name."
            )
        return read(cells), None
    if cells.isbacked:
        raise InputError(
            "cells must be in memory; found an AnnData backed by a file. Pass adata.to_memory()."
        )
    if layer is None and of_counts and "counts" in cells.layers:
        layer = "counts"
    if layer is not None and layer not in cells.layers:
        raise InputError(
            f"layer must be one of the layers {sorted(cells.layers)}; found {layer!r}."
        )
    advice = "Genes are matched by name: call adata.var_names_make_unique() first."
    check.no_repeats("names of genes", cells.var_names, advice=advice)
    values = cells.X if layer is None else cells.layers[layer]
    return read(values, cells.obs_names, cells.var_names), list(cells.var_names)


def table(cells: Cells) -> pd.DataFrame:
    """The cell table; without columns for a matrix."""
    return cells.obs if isinstance(cells, AnnData) else pd.DataFrame(index=range(cells.shape[0]))


def select_genes(x: csr_matrix, names: list[str], wanted: list[str]) -> csr_matrix:
    """Return the columns of the wanted genes; warn of absent ones, which are zero.

    Raises
    ------
    InputError
        If none of them is there.
    """
    position = {name: i for i, name in enumerate(names)}
    columns = np.array([position.get(name, -1) for name in wanted])
    present = columns >= 0
    if not present.any():
        raise InputError(
            f"cells must share genes with the fit; found none of its {len(wanted)} genes "
            f"(the fit has {wanted[0]!r}, the cells have {names[0]!r}). Use the same gene names."
        )
    if not present.all():
        warnings.warn(
            f"{present.sum()} of the {len(wanted)} genes of the fit were found; "
            "the others count as zero.",
            stacklevel=4,
        )
    picked = x[:, columns[present]].tocoo()
    genes = np.flatnonzero(present)[picked.col]
    aligned = csr_matrix((picked.data, (picked.row, genes)), shape=(x.shape[0], len(wanted)))
    aligned.sort_indices()
    return aligned
