"""Small files of counts in every format that is read."""

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.io import mmwrite
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

CELLS = [
    "AAACATACAACCAC-1",
    "AAACATTGAGCTAC-1",
    "AAACATTGATCAGC-1",
    "AAACCGTGCTTCCG-1",
    "AAACGCACTGGTAC-1",
]
GENES = ["CD3E", "MS4A1", "LYZ"]
IDS = ["ENSG00000198851", "ENSG00000156738", "ENSG00000090382"]
COUNTS = np.array([[1, 0, 0], [0, 2, 0], [3, 0, 4], [0, 0, 300], [0, 5, 0]])


def adata(x: object = None) -> AnnData:
    matrix = csr_matrix(COUNTS.astype(np.float32)) if x is None else x
    obs = pd.DataFrame({"donor": pd.Categorical(list("aabbb"))}, index=CELLS)
    return AnnData(X=matrix, obs=obs, var=pd.DataFrame({"gene_ids": IDS}, index=GENES))


def put(path: Path, content: str) -> None:
    """Write text, compressed if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


def tenx_folder(path: Path, *, features: str, end: str, prefix: str = "") -> Path:
    path.mkdir()
    mmwrite(path / "m.mtx", coo_matrix(COUNTS.T))
    put(path / f"{prefix}matrix.mtx{end}", (path / "m.mtx").read_text())
    (path / "m.mtx").unlink()
    kind = "\tGene Expression" if features == "features.tsv" else ""
    lines = [f"{i}\t{g}{kind}\n" for i, g in zip(IDS, GENES, strict=True)]
    put(path / f"{prefix}{features}{end}", "".join(lines))
    put(path / f"{prefix}barcodes.tsv{end}", "".join(f"{cell}\n" for cell in CELLS))
    return path


def tenx_h5(path: Path, *, version: int) -> Path:
    """Cell Ranger's layout; fixed-length strings and genes x cells by column."""
    x = csc_matrix(COUNTS.T.astype(np.int32))
    names = {"id": IDS, "name": GENES, "feature_type": ["Gene Expression"] * 3, "genome": ["h"] * 3}
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "hg19")
        group["barcodes"] = np.array(CELLS, "S18")
        group["data"], group["indices"], group["indptr"] = x.data, x.indices.astype("i8"), x.indptr
        group["shape"] = np.array(x.shape, np.int32)
        if version == 3:
            for name, values in names.items():
                group[f"features/{name}"] = np.array(values, "S20")
        else:
            group["genes"], group["gene_names"] = np.array(IDS, "S20"), np.array(GENES, "S20")
    return path


def loom(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["matrix"] = COUNTS.T
        file["layers/spliced"] = 2 * COUNTS.T
        file["col_attrs/CellID"], file["col_attrs/donor"] = CELLS, np.array(list("aabbb"), "S1")
        file["row_attrs/Gene"], file["row_attrs/Accession"] = GENES, IDS
        file["col_attrs/umap"] = np.zeros((5, 2))
    return path


def zarr(path: Path, version: int, content: AnnData | None = None) -> Path:
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")  # about defaults of later versions
        (adata() if content is None else content).write_zarr(path)
    return path


def h5ad(path: Path, content: AnnData | None = None) -> Path:
    (adata() if content is None else content).write_h5ad(path)
    return path


def table(path: Path, *, cells_in_rows: bool, separator: str = ",", corner: str = ",") -> Path:
    frame = pd.DataFrame(COUNTS, index=CELLS, columns=GENES)
    frame = frame if cells_in_rows else frame.T
    header, body = frame.to_csv(sep=separator).split("\n", 1)
    put(path, corner + header.removeprefix(separator) + "\n" + body)
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "10x-v2": lambda d: tenx_folder(d / "hg19", features="genes.tsv", end=""),
    "10x-v2-gz": lambda d: tenx_folder(d / "hg19", features="genes.tsv", end=".gz"),
    "10x-v3": lambda d: tenx_folder(d / "f", features="features.tsv", end=".gz"),
    "10x-v3-plain": lambda d: tenx_folder(d / "f", features="features.tsv", end=""),
    "10x-prefix": lambda d: tenx_folder(d / "f", features="features.tsv", end=".gz", prefix="S1_"),
    "10x-h5-v2": lambda d: tenx_h5(d / "old.h5", version=2),
    "10x-h5-v3": lambda d: tenx_h5(d / "new.h5", version=3),
    "h5ad-csr": lambda d: h5ad(d / "a.h5ad"),
    "h5ad-csc": lambda d: h5ad(d / "a.h5ad", adata(csc_matrix(COUNTS))),
    "h5ad-dense": lambda d: h5ad(d / "a.h5ad", adata(COUNTS)),
    "h5ad-big-endian": lambda d: h5ad(d / "a.h5ad", adata(COUNTS.astype(">f8"))),
    "zarr-v2": lambda d: zarr(d / "a.zarr", 2),
    "zarr-v3": lambda d: zarr(d / "a.zarr", 3),
    "zarr-dense": lambda d: zarr(d / "a.zarr", 3, adata(COUNTS)),
    "loom": lambda d: loom(d / "a.loom"),
    "csv": lambda d: table(d / "a.csv", cells_in_rows=True),
    "csv-genes-in-rows": lambda d: table(d / "a.csv", cells_in_rows=False),
    "tsv-gz": lambda d: table(d / "a.tsv.gz", cells_in_rows=False, separator="\t", corner="gene\t"),
    "csv-semicolon-bom": lambda d: table(
        d / "a.csv", cells_in_rows=True, separator=";", corner="\ufeffcell;"
    ),
    "txt-from-R": lambda d: table(d / "a.txt", cells_in_rows=True, separator=" ", corner=""),
    "space in name": lambda d: h5ad(d / "zwei Zellen ü.h5ad"),
}


def source(cells: AnnData) -> dict[str, object]:
    return cells.uns["scarce"]["source"]
