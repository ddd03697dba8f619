"""Loom files: genes x cells in HDF5, with named attributes of both."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from scarce import check
from scarce.data import stores
from scarce.data.source import Found
from scarce.errors import InputError

__all__ = ["read_loom"]

_CELL_NAMES = ("CellID", "obs_names", "cell_names", "barcode")
_GENE_NAMES = ("Gene", "var_names", "gene_names", "GeneName")
_GENE_ID = "Accession"


def read_loom(path: Path, layer: str | None) -> Found:
    """Read the main matrix of a loom file, or one of its layers."""
    with stores.hdf5(path) as file:
        where = _place(file, layer)
        obs = _attributes(file["col_attrs"], _CELL_NAMES, "cell")
        var = _attributes(file["row_attrs"], _GENE_NAMES, "gene")
        var = var.rename(columns={_GENE_ID: "gene_ids"})
        x = stores.matrix(file[where], (len(var), len(obs))).T.tocsr()
    return Found(x=x, obs=obs, var=var, format="loom", files=(path,))


def _place(file: h5py.File, layer: str | None) -> str:
    layers = list(file["layers"]) if "layers" in file else []
    if layer is not None and not layers:
        raise InputError(f"layer must be left out, as the file has none; found {layer!r}.")
    return "matrix" if layer is None else f"layers/{check.one_of('layer', layer, layers)}"


def _attributes(group: h5py.Group, names: tuple[str, ...], what: str) -> pd.DataFrame:
    """Read the attributes with one value per cell or gene, indexed by the first known name."""
    columns = {
        key: stores.text(array) if h5py.check_string_dtype(array.dtype) else np.asarray(array)
        for key, array in group.items()
        if array.ndim == 1
    }
    known = [name for name in names if name in columns]
    if not known:
        raise InputError(
            f"a loom file must name its {what}s in one of {', '.join(names)}; found "
            f"{', '.join(columns) or 'no attributes'}."
        )
    index = pd.Index(columns.pop(known[0]))
    return pd.DataFrame(columns, index=index)
