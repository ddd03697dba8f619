"""Arrays in HDF5 and zarr, looked at before they are read.

HDF5 follows links into other files, and compiled sparse code trusts its index arrays: a file
from a stranger can make either read what is none of its business. So `hdf5` refuses such files
when it opens them, and `matrix` checks the structure of a sparse matrix before its values.
Damage to the bookkeeping of HDF5 itself is left to the HDF5 library.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csr_matrix, vstack

from scarce import check
from scarce.errors import InputError

__all__ = ["compressed", "dense", "hdf5", "matrix", "sane_size", "text"]

Node = Any
"""A group or an array of h5py or zarr; both offer the same few methods used here."""

_LARGE = 4 * 2**30
_DENSEST = 1000
"""More bytes than `_LARGE` from less than a thousandth of them is an attack, not data."""

_BLOCK = 2**22
"""Entries of a dense array held in memory at a time: 32 MB of float64."""


@contextmanager
def hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, after checking every object in it.

    Raises
    ------
    InputError
        If an object lies outside the file (soft or external link, external storage, virtual
        data set) or claims far more data than the file can hold.
    """
    with h5py.File(path, "r") as file:
        _inspect(file)
        yield file


def _inspect(file: h5py.File) -> None:
    """Visit every object once; an object linked twice, or into itself, is not visited again."""
    groups, seen = [file["/"]], set()
    while groups:
        group = groups.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(
                    f"all data must be inside the file; found a link at {where}. Write the file "
                    "again with the linked data in it."
                )
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if isinstance(node, h5py.Dataset):
                _inspect_array(node, where)
            elif isinstance(node, h5py.Group) and address not in seen:
                groups.append(node)
            seen.add(address)


def _inspect_array(array: h5py.Dataset, where: str) -> None:
    if array.external is not None or array.is_virtual:
        raise InputError(
            f"all data must be inside the file; found an array in another file at {where}. "
            "Write the file again with that data in it."
        )
    sane_size(where, array.nbytes, array.id.get_storage_size())


def sane_size(where: str, n_bytes: int, n_stored: int) -> None:
    """Raise `InputError` if an array claims absurdly more bytes than are stored for it."""
    if n_bytes > _LARGE and n_bytes > _DENSEST * n_stored:
        raise InputError(
            f"an array must hold the data it claims; found {n_bytes} bytes claimed and {n_stored} "
            f"stored at {where}. The file is broken: make it again."
        )


def matrix(node: Node, shape: tuple[int, int]) -> csr_matrix:
    """Read a dense, CSR or CSC matrix of an AnnData store.

    Parameters
    ----------
    node
        Array, or group of ``data``, ``indices`` and ``indptr``.
    shape
        (n_cells, n_genes) that the names of the store ask for.

    Raises
    ------
    InputError
        If the shape differs, or the index arrays leave the matrix.
    """
    if hasattr(node, "shape"):
        _same_shape(node.name, node.shape, shape)
        return dense(node)
    encoding = node.attrs.get("encoding-type")
    if encoding not in ("csr_matrix", "csc_matrix"):
        raise InputError(
            f"counts must be a dense, CSR or CSC matrix; found {encoding!r} at {node.name}. "
            "Write the file again with a present version of anndata."
        )
    _same_shape(node.name, tuple(node.attrs["shape"]), shape)
    if encoding == "csr_matrix":
        return compressed(node, shape)
    return compressed(node, shape[::-1]).T.tocsr()


def compressed(group: Node, shape: tuple[int, int]) -> csr_matrix:
    """Read ``data``, ``indices`` and ``indptr`` of a group as CSR of the given shape."""
    data, indices, indptr = (group[name] for name in ("data", "indices", "indptr"))
    if data.dtype.kind not in "biuf" or data.ndim != 1:
        raise InputError(
            f"counts must be a list of real numbers; found {data.ndim} dimensions of {data.dtype} "
            f"at {data.name}."
        )
    # Lengths come with the file's metadata: nothing large is read before they agree.
    if indptr.shape != (shape[0] + 1,) or indices.shape != data.shape:
        raise InputError(
            f"a sparse matrix of {shape[0]} rows must have {shape[0] + 1} row starts and one index "
            f"per value; found {indptr.shape} row starts, {indices.shape} indices and "
            f"{data.shape} values at {group.name}. The file is broken: make it again."
        )
    starts, columns = indptr[...], indices[...]
    check.structure(starts, columns, data.shape[0], shape)
    return csr_matrix((check.native(data[...]), columns, starts), shape=shape)


def dense(array: Node) -> csr_matrix:
    """Read a dense array as CSR, some rows at a time."""
    n_rows, n_columns = array.shape
    step = max(1, _BLOCK // max(1, n_columns))
    blocks = [
        csr_matrix(check.native(array[start : start + step])) for start in range(0, n_rows, step)
    ]
    return vstack(blocks, format="csr") if blocks else csr_matrix(array.shape)


def text(array: h5py.Dataset) -> np.ndarray[Any, Any]:
    """Read an HDF5 array of strings, of fixed or variable length, as an array of `str`."""
    values: np.ndarray[Any, Any] = array.asstr()[...]
    return values


def _same_shape(where: str, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if tuple(found) != wanted:
        raise InputError(
            f"counts must have a row per cell and a column per gene, {wanted[0]} x {wanted[1]}; "
            f"found shape {tuple(int(n) for n in found)} at {where}."
        )
