"""AnnData on disk, as ``.h5ad`` or zarr: one matrix and the tables that name its axes.

Embeddings, graphs and the other layers are not read: they would cost memory and are not used.
"""

from pathlib import Path

import numpy as np
from anndata.io import read_elem

from scarce import check
from scarce.data import stores
from scarce.data.source import Found
from scarce.errors import InputError

__all__ = ["read_h5ad", "read_zarr"]

_RAW = "raw"
"""Name under which ``adata.raw`` is offered, unless a layer has it."""

_SAMPLE = 10_000
"""Values of a layer looked at to tell whether it holds counts."""


def read_h5ad(path: Path, layer: str | None) -> Found:
    """Read one matrix of an ``.h5ad`` file; `layer` None means ``X``, "raw" ``adata.raw``."""
    with stores.hdf5(path) as file:
        return _found(file, layer, "h5ad", (path,))


def read_zarr(path: Path, layer: str | None) -> Found:
    """Read one matrix of a zarr folder, like `read_h5ad`.

    zarr reads a missing chunk as zeros, so the chunks are counted first.
    """
    import zarr

    files = tuple(file for file in path.rglob("*") if file.is_file())
    store = zarr.open_group(path, mode="r")
    where = _place(store, layer)
    if not hasattr(store[where], "shape"):
        n_stored = sum(file.stat().st_size for file in files)
        for name in ("data", "indices", "indptr"):
            _require_chunks(store[f"{where}/{name}"], n_stored)
    return _found(store, layer, "AnnData zarr", files)


def _require_chunks(array: stores.Node, n_stored: int) -> None:
    """Raise if chunks are missing; zarr itself leaves out only chunks that are all zero."""
    stores.sane_size(array.name, array.nbytes, n_stored)
    n_missing = array.nchunks - array.nchunks_initialized
    if n_missing > 0 and not array.name.endswith("indptr"):
        raise InputError(
            f"a zarr array must have all its chunks; found {n_missing} of {array.nchunks} missing "
            f"in {array.name}. Copy the folder again."
        )


def _found(store: stores.Node, layer: str | None, form: str, files: tuple[Path, ...]) -> Found:
    where = _place(store, layer)
    tables = "obs", "raw/var" if where == "raw/X" else "var"
    for name in tables:
        if name not in store or hasattr(store[name], "shape"):
            raise InputError(
                f"an AnnData file must hold tables of cells and genes; found none at /{name}. "
                "Write it with anndata 0.7 or later."
            )
    obs, var = (read_elem(store[name]) for name in tables)
    return Found(
        x=stores.matrix(store[where], (len(obs), len(var))),
        obs=obs,
        var=var,
        format=form,
        files=files,
        notes=[] if layer is None else [f"Counts are those of layer {layer!r}."],
        advice=_advice(store, layer, where),
    )


def _layers(store: stores.Node) -> dict[str, str]:
    """Names a user can give as layer, and where each is stored."""
    places = {_RAW: "raw/X"} if "raw/X" in store else {}
    names = list(store["layers"]) if "layers" in store else []
    return places | {name: f"layers/{name}" for name in names}


def _place(store: stores.Node, layer: str | None) -> str:
    places = _layers(store)
    if layer is not None and not places:
        raise InputError(f"layer must be left out, as the file has none; found {layer!r}.")
    if layer is not None:
        return places[check.one_of("layer", layer, places)]
    if "X" not in store:
        names = ", ".join(map(repr, places)) or "none"
        raise InputError(
            f"counts must be in X or in a layer; found no X. Pass --layer with one of the layers "
            f"of the file: {names}."
        )
    return "X"


def _advice(store: stores.Node, layer: str | None, used: str) -> str:
    """Point to a layer that holds counts, if there is one."""
    others = {name: place for name, place in _layers(store).items() if place != used}
    if layer is not None and "X" in store and _holds_counts(store["X"]):
        return f"If layer {layer!r} is normalised, leave --layer out: X has counts."
    whole = [name for name, place in others.items() if _holds_counts(store[place])]
    values = "X" if layer is None else f"layer {layer!r}"
    if whole:
        return f"If {values} is normalised, pass --layer {min(whole, key='counts'.__ne__)}."
    return f"If {values} is normalised, give the file that it was made from: no layer has counts."


def _holds_counts(node: stores.Node) -> bool:
    """Whether the first values of a matrix are whole, and some are not zero."""
    if hasattr(node, "shape"):
        rows = max(1, _SAMPLE // max(1, node.shape[-1]))
        values = np.asarray(node[:rows])
    else:
        values = np.asarray(node["data"][:_SAMPLE])
    return bool(
        values.dtype.kind in "iuf"
        and np.all(np.isfinite(values))
        and np.all(values >= 0)
        and np.all(np.rint(values) == values)
        and np.any(values)
    )
