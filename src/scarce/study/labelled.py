"""Labelled data sets as every trial of a study sees them."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scarce import check, preprocess
from scarce.data import load
from scarce.data.labels import from_components, read_labels
from scarce.errors import InputError

__all__ = ["Facts", "Labelled", "Source", "forget", "load_labelled", "modelled_cells"]

_LEAST_CELLS = 3
"""In which a gene must be found, as in Seurat."""


@dataclass(frozen=True)
class Source:
    """Where a labelled data set lies.

    Parameters
    ----------
    data
        Path or data set name.
    labels
        Column of the cell table, or a file by barcode.
    layer
        Layer with the counts.
    data_dir
        Where ``pbmc3k`` lies, for use without network.
    circular
        The labels are known to come from principal components.
    """

    data: str
    labels: str
    layer: str | None = None
    data_dir: str | None = None
    circular: bool = False


@dataclass(frozen=True)
class Facts:
    """What identifies a labelled data set, wherever it lies."""

    name: str
    sha256: str
    """Digest of the input's bytes."""
    labels_sha256: str
    """Digest of the labelled cells and their labels."""
    n_cells_read: int
    n_cells: int
    """Cells with a label."""
    n_genes: int
    n_types: int
    label_source: str
    """One phrase, printed beside every score."""
    circular: bool
    """The labels were derived from principal components, so scores favour PCA."""


class Labelled(NamedTuple):
    """A data set ready for trials."""

    cells: AnnData
    """Log-normalised, counts in a layer: cells with a label x genes in three of them."""
    labels: NDArray[np.str_]
    facts: Facts


@lru_cache(maxsize=1)
def load_labelled(source: Source) -> Labelled:
    """Read a data set and keep what can be scored.

    Whoever labelled the cells decided which are good: cells with a label are kept and no
    others, and of the genes those found in at least three of these.

    Raises
    ------
    InputError
        If the data or the labels cannot be read, or the labels name fewer than two types or
        as many types as cells.
    """
    adata = load(source.data, layer=source.layer, data_dir=source.data_dir)
    origin: dict[str, Any] = adata.uns["scarce"]["source"]
    name = re.sub(r"\.(h5ad|h5|loom|zarr|csv|tsv|txt)(\.gz)?$", "", origin["name"])
    labels, label_source = _labels(adata, source, name)
    counts = labels.value_counts()
    if not 2 <= len(counts) < len(labels):
        raise InputError(
            f"labels must name at least two types and fewer types than cells; found {len(counts)} "
            f"for the {len(labels)} labelled cells of {name}, the first {counts.index[0]!r}. "
            "Name another column or file."
        )
    cells = adata[labels.index]
    cells = cells[:, cells.X.getnnz(axis=0) >= _LEAST_CELLS].copy()
    preprocess.normalise(cells)
    circular = source.circular or from_components(label_source)
    facts = Facts(
        name=name,
        sha256=origin["sha256"],
        labels_sha256=_digest(labels),
        n_cells_read=adata.n_obs,
        n_cells=cells.n_obs,
        n_genes=cells.n_vars,
        n_types=len(counts),
        label_source=label_source + (" (circular: derived from PCA)" if circular else ""),
        circular=circular,
    )
    return Labelled(cells, labels.to_numpy(dtype=str), facts)


@lru_cache(maxsize=2)
def modelled_cells(
    source: Source, n_genes: int | None, batch: str | None
) -> tuple[AnnData, str | None]:
    """Return the data set with its most variable genes, or all where `n_genes` is None.

    With the column of a batch those most variable within batches. And what the reader must
    know of that choice, see `preprocess.variable_genes`.
    """
    cells = load_labelled(source).cells
    if n_genes is None or n_genes >= cells.n_vars:
        return cells, None
    marked = cells.copy()
    note = preprocess.variable_genes(marked, n_genes, batch)
    return marked[:, marked.var["highly_variable"].to_numpy()].copy(), note


def forget() -> None:
    """Read files again when they are next asked for."""
    load_labelled.cache_clear()
    modelled_cells.cache_clear()


def _labels(adata: AnnData, source: Source, name: str) -> tuple[pd.Series, str]:
    if Path(source.labels).is_file():
        return read_labels(source.labels, adata.obs_names, partial=True)
    if source.labels in adata.obs:
        where = f"column {source.labels!r}"
        labels = check.labels(adata.obs[source.labels], adata.obs_names, source=where, partial=True)
        return labels, where
    raise InputError(
        f"every data set must have labels; found no column and no file {source.labels!r} for "
        f"{name}. Its columns: {', '.join(map(repr, adata.obs)) or 'none'}. Give --labels once for "
        "all data sets, or once for each in their order."
    )


def _digest(labels: pd.Series) -> str:
    lines = "".join(f"{cell}\t{label}\n" for cell, label in labels.items())
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()
