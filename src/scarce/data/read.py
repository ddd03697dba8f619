"""Read a file or folder of cells, whatever its format, into an AnnData of counts."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique

from scarce import check
from scarce.data import h5ad, loom, table, tenx
from scarce.data.source import Found, describe, sha256_of_files
from scarce.errors import InputError

__all__ = ["read"]

_SUFFIXES = {
    ".h5ad": "h5ad",
    ".h5": "10x h5",
    ".loom": "loom",
    ".csv": "table",
    ".tsv": "table",
    ".tab": "table",
    ".txt": "table",
}

_ENSEMBL = re.compile(r"^ENS[A-Z]*G\d+(\.\d+)?$")
_SYMBOLS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "symbol")
"""Columns that hold gene symbols where the genes are named by identifier."""

_EXPRESSION = "Gene Expression"


def read(path: str | PathLike[str], *, layer: str | None = None) -> AnnData:
    """Read counts from a file or a folder.

    Parameters
    ----------
    path
        ``.h5ad``; 10x folder (``matrix.mtx``, with or without ``.gz``) or ``.h5``; ``.loom``;
        a table (``.csv``, ``.tsv``, ``.tab``, ``.txt``, with or without ``.gz``) with cells in
        rows or columns; or an AnnData zarr folder.
    layer
        Layer that holds the counts, of an h5ad, zarr or loom file; "raw" means ``adata.raw``.

    Returns
    -------
    Cells x genes: ``X`` holds the counts as CSR of float32, ``obs`` and ``var`` what the file
    says of cells and genes, ``uns["scarce"]["source"]`` the name, format, SHA-256 and notes on
    what was detected. Gene names are symbols where the file has them, identifiers are then in
    ``var["gene_ids"]``. Names that repeat get a number, with a note.

    Raises
    ------
    InputError
        If the path, the layer, the format or a value is wrong; nothing is repaired in silence.
    """
    path = Path(path).expanduser()
    _require_exists(path)
    form = _format(path)
    with _readable(path, form):
        found = _parse(path, form, layer)
    _keep_expression(found)
    _name_by_symbol(found)
    cells = _unique(found.obs.index, "cell", found.notes)
    genes = _unique(found.var.index, "gene", found.notes)
    x = check.counts(found.x, cells, genes, advice=found.advice)
    obs, var = (_writable(of, found.notes) for of in (found.obs, found.var))
    adata = AnnData(X=x, obs=obs.set_axis(cells), var=var.set_axis(genes))
    digest = sha256_of_files(path, found.files)
    adata.uns["scarce"] = describe(path.resolve().name, found.format, digest, found.notes)
    return adata


def _writable(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Rename the column that no h5ad file may have."""
    if "_index" not in table:
        return table
    notes.append("Column '_index' is called 'index_', as its name is reserved in h5ad files.")
    return table.rename(columns={"_index": "index_"})


def _require_exists(path: Path) -> None:
    if path.exists():
        return
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    likely = get_close_matches(path.name, siblings, n=1)
    hint = f" Did you mean {likely[0]!r}?" if likely else ""
    raise InputError(f"the data must be an existing file or folder; found nothing at {path}.{hint}")


def _format(path: Path) -> str:
    """Name the format of a path by what a folder holds or how a file ends."""
    if path.is_dir():
        is_zarr = any((path / name).exists() for name in ("zarr.json", ".zgroup"))
        return "AnnData zarr" if is_zarr else "10x mtx folder"
    name = path.name.lower()
    form = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix)
    if form is None or (name.endswith(".gz") and form != "table"):
        if ".mtx" in path.suffixes:
            raise InputError(f"a 10x matrix must be given by its folder: pass {path.parent}.")
        raise InputError(
            f"a file of cells must end in {', '.join(_SUFFIXES)} (tables also in .gz), or be a 10x "
            f"folder or an AnnData zarr folder; found {path.name}."
        )
    return form


def _parse(path: Path, form: str, layer: str | None) -> Found:
    match form:
        case "h5ad":
            return h5ad.read_h5ad(path, layer)
        case "AnnData zarr":
            return h5ad.read_zarr(path, layer)
        case "loom":
            return loom.read_loom(path, layer)
    if layer is not None:
        raise InputError(f"layer must be left out, as a {form} has none; found {layer!r}.")
    match form:
        case "10x h5":
            return tenx.read_h5(path)
        case "table":
            return table.read_table(path)
        case _:
            return tenx.read_folder(path)


@contextmanager
def _readable(path: Path, form: str) -> Iterator[None]:
    """Turn whatever a reader stumbles over into one sentence: a broken file is no defect here."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path.name} must be readable as {form}; found: {reason[:200]}. The file is broken or "
            "incomplete: copy or make it again."
        ) from error


def _keep_expression(found: Found) -> None:
    """Leave out antibodies, guides and other features that are not gene expression."""
    if "feature_types" not in found.var:
        return
    kinds = found.var["feature_types"].astype(str)
    keep = (kinds == _EXPRESSION).to_numpy()
    if keep.all() or not keep.any():
        return
    left_out = ", ".join(f"{n} {kind}" for kind, n in kinds[~keep].value_counts().items())
    found.notes.append(f"Features that are not gene expression were left out: {left_out}.")
    found.x, found.var = found.x[:, np.flatnonzero(keep)], found.var[keep]


def _name_by_symbol(found: Found) -> None:
    """Name genes by symbol where they are named by Ensembl identifier and symbols are known."""
    ids = found.var.index.astype(str)
    if not len(ids) or np.mean([bool(_ENSEMBL.match(name)) for name in ids]) < 0.5:
        return
    known = [column for column in _SYMBOLS if column in found.var]
    if not known:
        found.notes.append(
            "Genes are named by Ensembl identifier: mitochondrial genes (MT-) are not recognised."
        )
        return
    symbols = found.var[known[0]].astype(object)
    found.var = found.var.assign(gene_ids=ids.to_numpy())
    found.var.index = pd.Index(np.where(symbols.isna(), ids, symbols))
    found.notes.append(f"Genes are named by column {known[0]!r}, not by Ensembl identifier.")


def _unique(names: pd.Index, what: str, notes: list[str]) -> pd.Index:
    """Append a number to names that repeat, and note how many did."""
    names = pd.Index(names.astype(str).astype(object)).rename(None)
    repeats = names.duplicated()
    if not repeats.any():
        return names
    notes.append(
        f"A number was added to {what} names that repeat others: {repeats.sum()} of {len(names)}, "
        f"the first is {names[int(repeats.argmax())]!r}."
    )
    with warnings.catch_warnings():
        # Barcodes end in a number anyway: what anndata would warn of is in the notes.
        warnings.simplefilter("ignore", UserWarning)
        unique: pd.Index = make_index_unique(names)
        return unique
