"""10x Genomics output: the folder with ``matrix.mtx`` and the ``.h5`` file, of Cell Ranger 2 on."""

import csv
from pathlib import Path

import h5py
import pandas as pd
from scipy.io import mminfo, mmread
from scipy.sparse import csr_matrix

from scarce.data import stores
from scarce.data.source import Found
from scarce.errors import InputError

__all__ = ["is_folder", "read_folder", "read_h5"]

_MATRIX = ("matrix.mtx",)
_FEATURES = ("features.tsv", "genes.tsv")
_BARCODES = ("barcodes.tsv",)

_GZIP = 1032
"""Largest ratio that gzip can reach."""


def is_folder(path: Path) -> bool:
    """Whether a folder holds a matrix as 10x writes it."""
    return bool(_parts(path, _MATRIX))


def read_folder(path: Path) -> Found:
    """Read ``matrix.mtx``, ``features.tsv`` or ``genes.tsv``, and ``barcodes.tsv``.

    Each may end in ``.gz``, and all may share a prefix, as in GEO downloads.
    """
    files = tuple(_part(path, names) for names in (_MATRIX, _FEATURES, _BARCODES))
    features, barcodes = (
        pd.read_csv(
            file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE
        )
        for file in files[1:]
    )
    # Columns: id, symbol (absent in some pipelines), kind (since Cell Ranger 3).
    symbols = features[min(1, features.shape[1] - 1)]
    var = pd.DataFrame({"gene_ids": features[0].to_numpy()}, index=pd.Index(symbols))
    if features.shape[1] > 2:
        var["feature_types"] = features[2].to_numpy()
    return Found(
        x=_read_mtx(files[0], n_genes=len(features), n_cells=len(barcodes)),
        obs=pd.DataFrame(index=pd.Index(barcodes[0])),
        var=var,
        format="10x mtx folder",
        files=files,
    )


def read_h5(path: Path) -> Found:
    """Read a 10x ``.h5`` file: one group, ``matrix`` since Cell Ranger 3, a genome before."""
    with stores.hdf5(path) as file:
        group = _group(file)
        if "features" in group:
            features = group["features"]
            names, ids = stores.text(features["name"]), stores.text(features["id"])
            var = pd.DataFrame({"gene_ids": ids}, index=pd.Index(names))
            var["feature_types"] = stores.text(features["feature_type"])
        else:
            names, ids = stores.text(group["gene_names"]), stores.text(group["genes"])
            var = pd.DataFrame({"gene_ids": ids}, index=pd.Index(names))
        obs = pd.DataFrame(index=pd.Index(stores.text(group["barcodes"])))
        # Genes x cells by column is cells x genes by row.
        x = stores.compressed(group, (len(obs), len(var)))
    return Found(x=x, obs=obs, var=var, format="10x h5", files=(path,))


def _group(file: h5py.File) -> h5py.Group:
    if "X" in file:
        raise InputError(
            "a .h5 file must be 10x output; found an AnnData file. Rename it to end in .h5ad."
        )
    names = ["matrix"] if "matrix" in file else list(file)
    groups = [file[name] for name in names if "barcodes" in file[name]]
    if len(groups) != 1:
        raise InputError(
            "a .h5 file must be 10x output with the counts of one genome; found "
            f"{len(groups)} among its groups ({', '.join(file) or 'none'})."
        )
    return groups[0]


def _read_mtx(path: Path, *, n_genes: int, n_cells: int) -> csr_matrix:
    """Read genes x cells in Matrix Market form as cells x genes, after checking its header."""
    rows, columns, entries, *_ = mminfo(path)
    if (rows, columns) != (n_genes, n_cells):
        raise InputError(
            f"{path.name} must have a row per gene and a column per barcode, {n_genes} x "
            f"{n_cells} by the files beside it; found {rows} x {columns}."
        )
    ratio = _GZIP if path.suffix == ".gz" else 1
    if entries > path.stat().st_size * ratio:
        raise InputError(
            f"{path.name} must hold the {entries} entries it claims; found "
            f"{path.stat().st_size} bytes. The file is broken: copy it again."
        )
    return csr_matrix(mmread(path).T)


def _part(path: Path, names: tuple[str, ...]) -> Path:
    """Find the one file of a folder that plays a role."""
    found = _parts(path, names)
    wanted = " or ".join(names)
    if len(found) > 1:
        listed = ", ".join(file.name for file in found)
        raise InputError(f"a 10x folder must hold one {wanted}; found {listed} in {path}.")
    if not found:
        raise InputError(
            f"a 10x folder must hold matrix.mtx, barcodes.tsv and features.tsv or genes.tsv, each "
            f"may end in .gz; found no {wanted} in {path}, {_content(path)}."
        )
    return found[0]


def _parts(path: Path, names: tuple[str, ...]) -> list[Path]:
    files = (file for file in sorted(path.iterdir()) if not file.name.startswith("."))
    return [file for file in files if file.name.removesuffix(".gz").endswith(names)]


def _content(path: Path) -> str:
    """Describe what a folder holds instead, and a 10x folder inside it if there is one."""
    entries = sorted(path.iterdir())
    if not entries:
        return "which is empty"
    inner = [entry.name for entry in entries if entry.is_dir() and is_folder(entry)]
    if inner:
        return f"but its folder {inner[0]} is a 10x folder: give that"
    more = ", ..." if len(entries) > 5 else ""
    return "which holds " + ", ".join(entry.name for entry in entries[:5]) + more
