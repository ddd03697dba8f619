"""Data sets by name, so that a first run needs no file."""

import os
import tarfile
from os import PathLike
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix

from scarce import check
from scarce.data import tenx
from scarce.data.read import read
from scarce.data.simulate import simulate
from scarce.data.source import describe, sha256_of_files
from scarce.errors import InputError

__all__ = ["DATASETS", "load"]

DATASETS = {
    "pbmc68k_reduced": "700 blood cells, 765 genes, with cell types; needs no internet",
    "pbmc3k": "2,700 blood cells, 32,738 genes; downloaded once",
    "simulated": "2,000 cells, 1,000 genes, with planted types and gene programmes",
}
"""Names of the data sets, and what each is."""

_FOLDER_VARIABLE = "SCARCE_DATA_DIR"

_PBMC3K_FILE = "pbmc3k_filtered_gene_bc_matrices.tar.gz"
_PBMC3K_URL = f"https://cf.10xgenomics.com/samples/cell-exp/1.1.0/pbmc3k/{_PBMC3K_FILE}"
_PBMC3K_SHA256 = "847d6ebd9a1ec9a768f2be7e40ca42cbfe75ebeb6d76a4c24167041699dc28b5"
_PBMC3K_CONTENT = {"cells": 2700, "genes": 32738, "nonzeros": 2_286_884, "UMIs": 6_390_631}
_LARGEST_MEMBER = 2**28
"""Bytes; the matrix of PBMC3k has a tenth of them."""


def load(
    source: str | PathLike[str],
    *,
    layer: str | None = None,
    data_dir: str | PathLike[str] | None = None,
) -> AnnData:
    """Load a data set by name, or read a file or folder.

    Parameters
    ----------
    source
        One of `DATASETS`, or a path. The name of a data set always means the data set;
        write ``./pbmc3k`` for a folder of that name.
    layer
        Layer of a file that holds the counts.
    data_dir
        Folder that holds ``pbmc3k`` as a 10x folder or as the archive 10x distributes, or is
        that 10x folder itself, for machines without internet. The environment variable
        ``SCARCE_DATA_DIR`` does the same.

    Returns
    -------
    Counts, as from `read`.

    Raises
    ------
    InputError
        If there is no such data set or path, or the data set cannot be had.
    """
    name = os.fspath(source)
    if name not in DATASETS:
        _require_known(name)
        return read(name, layer=layer)
    if layer is not None:
        raise InputError(f"layer must be left out for data set {name!r}; found {layer!r}.")
    if name == "pbmc3k":
        return _pbmc3k(data_dir or os.environ.get(_FOLDER_VARIABLE))
    return _pbmc68k_reduced() if name == "pbmc68k_reduced" else simulate()


def _require_known(name: str) -> None:
    """Raise for a name that is neither a data set nor a path; a path is left to `read`."""
    if Path(name).exists() or Path(name).name != name or Path(name).suffix:
        return
    try:
        check.one_of("data", name, DATASETS)
    except InputError as error:
        raise InputError(f"{error} Or give an existing file or folder.") from None


def _pbmc68k_reduced() -> AnnData:
    """Recover the counts of scanpy's example from their rounded logarithms.

    Its values are log(1 + count * factor of the cell), rounded to three decimals.
    """
    import scanpy

    original = scanpy.datasets.pbmc68k_reduced()
    cells, genes = original.obs_names, original.raw.var_names
    x = check.counts(_counts_behind(original.raw.X), cells, genes)
    adata = AnnData(X=x, obs=original.obs[["bulk_labels"]], var=original.raw.var[[]])
    file = Path(scanpy.datasets.__file__).with_name("10x_pbmc68k_reduced.h5ad")
    note = "Counts were recovered from the log-normalised values that scanpy ships."
    digest = sha256_of_files(file, (file,))
    adata.uns["scarce"] = describe(
        "pbmc68k_reduced", "data set of scanpy", digest, [note], filtered=True
    )
    return adata


def _counts_behind(logs: csr_matrix) -> csr_matrix:
    """Undo log-normalisation: the smallest nonzero value of a cell is one count.

    The unit of a cell is refined by least squares, as rounding to three decimals blurs the
    smallest value; one count in 260 is then still told from the next.
    """
    scaled = np.expm1(logs.data.astype(np.float64))
    n_stored = np.diff(logs.indptr)
    unit = np.minimum.reduceat(scaled, logs.indptr[:-1])
    guess = np.rint(scaled / np.repeat(unit, n_stored))
    unit = np.add.reduceat(scaled * guess, logs.indptr[:-1])
    unit /= np.add.reduceat(guess**2, logs.indptr[:-1])
    error = np.abs(scaled / np.repeat(unit, n_stored) - guess).max()
    if error > 0.1:
        raise InputError(
            f"pbmc68k_reduced must hold logarithms of scaled counts; found a value {error:.2g} "
            "away from a whole count. Install the scanpy that this version was tested with."
        )
    return csr_matrix((guess, logs.indices, logs.indptr), shape=logs.shape)


def _pbmc3k(folder: str | PathLike[str] | None) -> AnnData:
    """Read PBMC3k from a folder or the download cache, and check that it is PBMC3k."""
    path = _download() if folder is None else _find_pbmc3k(Path(folder).expanduser())
    adata = read(path) if path.is_dir() else _read_archive(path)
    x = adata.X
    found = {"cells": x.shape[0], "genes": x.shape[1], "nonzeros": x.nnz, "UMIs": int(x.sum())}
    if found != _PBMC3K_CONTENT:
        raise InputError(
            f"pbmc3k must hold {_listed(_PBMC3K_CONTENT)}; found {_listed(found)} in {path}. "
            f"Get it from {_PBMC3K_URL}."
        )
    source: dict[str, Any] = adata.uns["scarce"]["source"]
    source["name"] = "pbmc3k"
    return adata


def _find_pbmc3k(folder: Path) -> Path:
    if folder.is_dir():
        inside = folder / "pbmc3k"
        for path in (inside, folder):
            if path.is_dir() and tenx.is_folder(path):
                return path
        for archive in (folder / _PBMC3K_FILE, inside / _PBMC3K_FILE):
            if archive.is_file():
                return archive
    raise InputError(
        f"the data folder must hold a 10x folder pbmc3k or {_PBMC3K_FILE}; found neither in "
        f"{folder}. Get it from {_PBMC3K_URL}."
    )


def _download() -> Path:
    """Fetch the archive into the cache of the operating system, unless it is there."""
    import pooch

    digest, cache = f"sha256:{_PBMC3K_SHA256}", pooch.os_cache("scarce")
    try:
        return Path(pooch.retrieve(_PBMC3K_URL, digest, _PBMC3K_FILE, cache))
    except (OSError, ValueError) as error:
        raise InputError(
            f"pbmc3k must be downloaded once, which failed ({type(error).__name__}). Get "
            f"{_PBMC3K_URL} by other means, and pass --data-dir or set {_FOLDER_VARIABLE} to the "
            "folder that holds it. Data sets without a download: pbmc68k_reduced, simulated."
        ) from error


def _read_archive(path: Path) -> AnnData:
    """Read the 10x folder inside an archive; only its three files are unpacked, by our names."""
    wanted = ("matrix.mtx", "genes.tsv", "barcodes.tsv")
    try:
        with TemporaryDirectory() as scratch, tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isfile() or name not in wanted or member.size > _LARGEST_MEMBER:
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    with content, (Path(scratch) / name).open("wb") as copy:
                        copyfileobj(content, copy)
            return read(scratch)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"{path.name} must be the archive that 10x distributes; found: {error}. "
            f"Get it from {_PBMC3K_URL}."
        ) from error


def _listed(content: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in content.items())
