"""Reading: every format gives the same counts, and nothing a file contains does harm."""

import gzip
import hashlib
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import mmwrite
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

from scarce.data import read
from scarce.errors import InputError

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
PBMC3K = Path(__file__).parents[1].parent / "shared" / "data" / "pbmc3k"

needs_pbmc3k = pytest.mark.skipif(
    not PBMC3K.is_dir(), reason="PBMC3k is not beside the repository (../shared/data/pbmc3k)"
)


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


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_counts_and_names(form: str, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path)
    found = read(path)
    assert isinstance(found.X, csr_matrix)
    assert found.X.dtype == np.float32
    assert found.X.has_canonical_format
    np.testing.assert_array_equal(found.X.toarray(), COUNTS)
    assert list(found.obs_names) == CELLS
    assert list(found.var_names) == GENES
    if not form.startswith(("csv", "tsv", "txt")):
        assert list(found.var["gene_ids"]) == IDS
    if form.startswith(("h5ad", "zarr", "loom")):
        assert list(found.obs["donor"]) == list("aabbb")
    assert source(found)["name"] == path.name
    assert not found.layers
    found.write_h5ad(tmp_path / "again.h5ad")
    np.testing.assert_array_equal(read(tmp_path / "again.h5ad").X.toarray(), COUNTS)


def test_10x_h5_means_the_same_to_scanpy(tmp_path: Path) -> None:
    scanpy = pytest.importorskip("scanpy")
    for version in (2, 3):
        path = tenx_h5(tmp_path / f"{version}.h5", version=version)
        theirs = scanpy.read_10x_h5(path)
        np.testing.assert_array_equal(read(path).X.toarray(), theirs.X.toarray())


@needs_pbmc3k
def test_pbmc3k_has_its_published_size() -> None:
    found = read(PBMC3K)
    assert found.shape == (2700, 32738)
    assert found.X.nnz == 2_286_884
    assert found.X.sum(dtype=np.float64) == 6_390_631
    assert found.var_names.is_unique
    assert sum(found.var_names.str.startswith("MT-")) == 13
    assert found.var["gene_ids"].iloc[0] == "ENSG00000243485"
    assert source(found)["notes"] == [
        "95 gene names repeat others and got a number, the first is 'U1'."
    ]


def test_digest_is_of_the_bytes_of_a_file(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", cells_in_rows=True)
    assert source(read(path))["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_digest_of_a_folder_is_of_names_and_bytes_of_the_files_read(tmp_path: Path) -> None:
    path = tenx_folder(tmp_path / "f", features="genes.tsv", end="")
    digest = hashlib.sha256()
    for name in ("barcodes.tsv", "genes.tsv", "matrix.mtx"):
        digest.update(name.encode() + b"\0" + (path / name).read_bytes())
    (path / "notes.txt").write_text("not read")
    assert source(read(path))["sha256"] == digest.hexdigest()


# --- layers ---------------------------------------------------------------------------------


def normalised(**layers: object) -> AnnData:
    x = csr_matrix(np.log1p(COUNTS))
    result = adata(x)
    result.layers.update(layers)
    return result


def test_layer_and_raw_are_read_when_asked_for(tmp_path: Path) -> None:
    content = normalised(counts=csr_matrix(COUNTS), double=2 * COUNTS)
    content.raw = adata(csr_matrix(3 * COUNTS))
    content = content[:, ["LYZ", "CD3E"]].copy()
    path = h5ad(tmp_path / "a.h5ad", content)
    np.testing.assert_array_equal(read(path, layer="counts").X.toarray(), COUNTS[:, [2, 0]])
    np.testing.assert_array_equal(read(path, layer="double").X.toarray(), 2 * COUNTS[:, [2, 0]])
    raw = read(path, layer="raw")
    np.testing.assert_array_equal(raw.X.toarray(), 3 * COUNTS)
    assert list(raw.var_names) == GENES
    assert source(raw)["notes"] == ["Counts are those of layer 'raw'."]


def test_layer_of_zarr_and_loom(tmp_path: Path) -> None:
    path = zarr(tmp_path / "a.zarr", 3, normalised(counts=csr_matrix(COUNTS)))
    np.testing.assert_array_equal(read(path, layer="counts").X.toarray(), COUNTS)
    path = loom(tmp_path / "a.loom")
    np.testing.assert_array_equal(read(path, layer="spliced").X.toarray(), 2 * COUNTS)


WHOLE = (
    "counts must be whole numbers; found 0.693147 at cell 'AAACATACAACCAC-1', gene 'CD3E' "
    "(6 of 6 stored values). "
)


@pytest.mark.parametrize(
    ("layers", "layer", "message"),
    [
        ({}, None, WHOLE + "If X is normalised, give the file that it was made from: no layer "
         "has counts."),
        ({"counts": csr_matrix(COUNTS)}, None, WHOLE + "If X is normalised, pass --layer counts."),
        ({"a": COUNTS, "counts": COUNTS}, None, WHOLE + "If X is normalised, pass --layer counts."),
        ({"umi": COUNTS, "log": np.log1p(COUNTS)}, None, WHOLE + "If X is normalised, pass "
         "--layer umi."),
        ({"umi": COUNTS, "log": np.log1p(COUNTS)}, "log", WHOLE + "If layer 'log' is normalised, "
         "pass --layer umi."),
        ({"counts": COUNTS}, "cuonts", ("layer must be one of 'counts'; found 'cuonts'. Did you "
         "mean 'counts'?")),
        ({}, "counts", "layer must be left out, as the file has none; found 'counts'."),
    ],
)  # fmt: skip
def test_message_points_to_the_layer_that_has_counts(
    layers: dict[str, object], layer: str | None, message: str, tmp_path: Path
) -> None:
    path = h5ad(tmp_path / "a.h5ad", normalised(**layers))
    with pytest.raises(InputError) as error:
        read(path, layer=layer)
    assert str(error.value) == message


def test_message_points_to_raw(tmp_path: Path) -> None:
    content = normalised()
    content.raw = adata()
    with pytest.raises(InputError, match=r"pass --layer raw\.$"):
        read(h5ad(tmp_path / "a.h5ad", content))


def test_file_without_x_names_its_layers(tmp_path: Path) -> None:
    content = AnnData(obs=adata().obs, var=adata().var, layers={"counts": COUNTS})
    with pytest.raises(InputError) as error:
        read(h5ad(tmp_path / "a.h5ad", content))
    assert str(error.value) == (
        "counts must be in X or in a layer; found no X. Pass --layer with one of the layers of "
        "the file: 'counts'."
    )


def test_formats_without_layers_refuse_one(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", cells_in_rows=True)
    with pytest.raises(InputError) as error:
        read(path, layer="counts")
    assert str(error.value) == "layer must be left out, as a table has none; found 'counts'."


# --- names ----------------------------------------------------------------------------------


def test_names_that_repeat_get_a_number_and_a_note(tmp_path: Path) -> None:
    content = adata()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        content.var_names = ["CD3E", "LYZ", "LYZ"]
        content.obs_names = ["a", "b", "a", "a", "c"]
        path = h5ad(tmp_path / "a.h5ad", content)
    found = read(path)
    assert list(found.var_names) == ["CD3E", "LYZ", "LYZ-1"]
    assert list(found.obs_names) == ["a", "b", "a-1", "a-2", "c"]
    assert source(found)["notes"] == [
        "2 cell names repeat others and got a number, the first is 'a'.",
        "1 gene names repeat others and got a number, the first is 'LYZ'.",
    ]


def test_symbols_replace_ensembl_identifiers(tmp_path: Path) -> None:
    content = adata()
    content.var = pd.DataFrame({"feature_name": ["CD3E", None, "LYZ"]}, index=IDS)
    found = read(h5ad(tmp_path / "a.h5ad", content))
    assert list(found.var_names) == ["CD3E", IDS[1], "LYZ"]
    assert list(found.var["gene_ids"]) == IDS
    assert source(found)["notes"] == [
        "Genes are named by column 'feature_name', not by Ensembl identifier."
    ]


def test_identifiers_without_symbols_are_kept_and_noted(tmp_path: Path) -> None:
    content = adata()
    content.var = pd.DataFrame(index=IDS)
    found = read(h5ad(tmp_path / "a.h5ad", content))
    assert list(found.var_names) == IDS
    assert source(found)["notes"] == [
        "Genes are named by Ensembl identifier: mitochondrial genes (MT-) are not recognised."
    ]


def test_features_that_are_not_genes_are_left_out_with_a_note(tmp_path: Path) -> None:
    content = adata()
    content.var["feature_types"] = ["Gene Expression", "Antibody Capture", "Gene Expression"]
    found = read(h5ad(tmp_path / "a.h5ad", content))
    np.testing.assert_array_equal(found.X.toarray(), COUNTS[:, [0, 2]])
    assert list(found.var_names) == ["CD3E", "LYZ"]
    assert source(found)["notes"] == [
        "Features that are not gene expression were left out: 1 Antibody Capture."
    ]


# --- orientation of tables ------------------------------------------------------------------


def note_of(path: Path) -> object:
    return source(read(path))["notes"]


def test_note_says_what_told_cells_from_genes(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", cells_in_rows=False)
    assert note_of(path) == ["Cells are in columns, by their names."]
    assert source(read(path))["format"] == "table with cells in columns"


@pytest.mark.parametrize(
    ("names", "axis"),
    [
        (["gene0", "gene1", "gene2"], 1),
        (["ENSMUSG00000000001", "ENSMUSG00000000003", "x"], 1),
        (["mt-Co1", "Rpl13a", "x"], 1),
        (["cell_1", "cell_2", "cell_3"], 0),
        (["s1_ACGTACGTAA", "s1_ACGTACGTAC", "s1_ACGTACGTAG"], 0),
    ],
)
def test_names_on_one_axis_decide(names: list[str], axis: int, tmp_path: Path) -> None:
    other = ["p", "q", "r", "s", "t"]
    x = COUNTS if axis == 1 else COUNTS.T  # names are those of the axis of three
    frame = pd.DataFrame(COUNTS, index=other, columns=names)
    for written in (frame, frame.T):
        written.to_csv(tmp_path / "a.csv")
        found = read(tmp_path / "a.csv")
        np.testing.assert_array_equal(found.X.toarray(), x)


def test_names_that_say_nothing_mean_cells_in_rows(tmp_path: Path) -> None:
    pd.DataFrame(COUNTS, index=list("pqrst"), columns=list("xyz")).to_csv(tmp_path / "a.csv")
    assert note_of(tmp_path / "a.csv") == [
        (
            "Neither names nor totals tell cells from genes: cells are taken to be in rows. If "
            "they are in columns, transpose the table."
        )
    ]


@pytest.mark.parametrize("transpose", [False, True])
def test_totals_decide_where_names_say_nothing(transpose: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.lognormal(0, 2, size=80), size=(60, 80))  # 60 cells, 80 genes
    frame = pd.DataFrame(
        x, index=[f"x{i}" for i in range(60)], columns=[f"y{i}" for i in range(80)]
    )
    (frame.T if transpose else frame).to_csv(tmp_path / "a.csv")
    found = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(found.X.toarray(), x)
    place = "columns" if transpose else "rows"
    assert source(found)["notes"] == [
        f"Cells are taken to be in {place}: totals vary less there than for genes."
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ",CD3E,kind,LYZ\na,1,B cell,2\nb,1,T cell,2\n",
            (
                "a table of counts must hold numbers only; found 'B cell' in column 'kind' of 'a'. "
                "Leave out columns that are no counts."
            ),
        ),
        (
            ",CD3E,LYZ\na,1,2\nb,1\n",
            "every line of a.csv must have 3 fields, as its first has; found 2 in the line of 'b'.",
        ),
        (
            "1,2,3\n4,5,6\n",
            (
                "the first line of a.csv must hold names; found only numbers. Write the table with "
                "a first line and a first column of names."
            ),
        ),
        (
            "CD3E,LYZ\n0,5\n0,6\n",
            (
                "the first column of a.csv must hold names; found numbers that repeat. Write the "
                "table with a first line and a first column of names."
            ),
        ),
        (
            "",
            (
                "a table of counts must have a first line of names and a first column of names; "
                "found 0 columns in a.csv."
            ),
        ),
        (
            ",CD3E,LYZ\na,1,2\nb,nan,2\n",
            (
                "counts must be finite; found nan at cell 'b', gene 'CD3E' (1 of 4 stored values). "
                "If the values are normalised, give the raw counts they were made from."
            ),
        ),
        (",CD3E,LYZ\na,1,2\n", "counts must have at least 2 cells; found 1."),
        (",CD3E,LYZ\n", "counts must have at least 2 cells; found 0."),
    ],
)
def test_tables_that_are_no_counts_are_refused(content: str, message: str, tmp_path: Path) -> None:
    put(tmp_path / "a.csv", content)
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv")
    assert str(error.value) == message


# --- paths ----------------------------------------------------------------------------------


def test_missing_path_suggests_a_neighbour(tmp_path: Path) -> None:
    h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError) as error:
        read(tmp_path / "cell.h5ad")
    assert str(error.value) == (
        f"the data must be an existing file or folder; found nothing at {tmp_path}/cell.h5ad. "
        "Did you mean 'cells.h5ad'?"
    )


def test_unknown_ending_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "cells.rds", "")
    with pytest.raises(InputError) as error:
        read(tmp_path / "cells.rds")
    assert str(error.value) == (
        "a file of cells must end in .h5ad, .h5, .loom, .csv, .tsv, .tab, .txt (tables also in "
        ".gz), or be a 10x folder or an AnnData zarr folder; found cells.rds."
    )


def test_matrix_of_a_10x_folder_points_to_the_folder(tmp_path: Path) -> None:
    path = tenx_folder(tmp_path / "f", features="genes.tsv", end="")
    with pytest.raises(InputError) as error:
        read(path / "matrix.mtx")
    assert str(error.value) == f"a 10x matrix must be given by its folder: pass {path}."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: None, "found no matrix.mtx in {path}, which is empty."),
        (
            lambda d: put(d / "a.txt", ""),
            "found no matrix.mtx in {path}, which holds a.txt.",
        ),
        (
            lambda d: tenx_folder(d / "hg19", features="genes.tsv", end=""),
            "found no matrix.mtx in {path}, but its folder hg19 is a 10x folder: give that.",
        ),
        (
            lambda d: put(d / "matrix.mtx", ""),
            "found no features.tsv or genes.tsv in {path}, which holds matrix.mtx.",
        ),
    ],
)
def test_folder_that_is_not_10x_is_described(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.mkdir()
    make(path)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a 10x folder must hold matrix.mtx, barcodes.tsv and features.tsv or genes.tsv, each may "
        "end in .gz; " + message.format(path=path)
    )


def test_folder_with_two_matrices_is_refused(tmp_path: Path) -> None:
    path = tenx_folder(tmp_path / "f", features="genes.tsv", end="", prefix="S1_")
    put(path / "S2_matrix.mtx.gz", "")
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        f"a 10x folder must hold one matrix.mtx; found S1_matrix.mtx, S2_matrix.mtx.gz in {path}."
    )


def test_matrix_that_disagrees_with_its_names_is_refused(tmp_path: Path) -> None:
    path = tenx_folder(tmp_path / "f", features="genes.tsv", end="")
    put(path / "barcodes.tsv", "a\nb\n")
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "matrix.mtx must have a row per gene and a column per barcode, 3 x 2 by the files beside "
        "it; found 3 x 5."
    )


def test_matrix_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tenx_folder(tmp_path / "f", features="genes.tsv", end="")
    put(path / "matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n3 5 999999999\n")
    with pytest.raises(InputError, match=r"^matrix\.mtx must hold the 999999999 entries it claims"):
        read(path)


def test_anndata_in_h5_is_pointed_out(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(h5ad(tmp_path / "a.h5"))
    assert str(error.value) == (
        "a .h5 file must be 10x output; found an AnnData file. Rename it to end in .h5ad."
    )


def test_h5_of_two_genomes_or_none_is_refused(tmp_path: Path) -> None:
    path = tenx_h5(tmp_path / "a.h5", version=2)
    with h5py.File(path, "a") as file:
        file.copy("hg19", "mm10")
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a .h5 file must be 10x output with the counts of one genome; found 2 among its groups "
        "(hg19, mm10)."
    )


def test_loom_without_names_says_where_they_belong(tmp_path: Path) -> None:
    path = loom(tmp_path / "a.loom")
    with h5py.File(path, "a") as file:
        del file["col_attrs/CellID"]
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a loom file must name its cells in one of CellID, obs_names, cell_names, barcode; found "
        "donor."
    )


# --- broken and hostile files ---------------------------------------------------------------


@pytest.mark.parametrize("form", [form for form in WRITERS if form[:3] not in ("csv", "txt")])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_truncated_files_are_an_input_error(form: str, keep: float, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    largest = max(files, key=lambda file: ("matrix" in file.name, file.stat().st_size))
    content = largest.read_bytes()
    largest.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", bytes(range(256)) * 8])
@pytest.mark.parametrize("ending", [".h5ad", ".h5", ".loom", ".tsv.gz"])
def test_files_of_another_kind_are_an_input_error(
    content: bytes, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read(path)


def test_broken_file_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(b"<html>")
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a.tsv.gz must be readable as table; found: Not a gzipped file (b'<h'). The file is broken "
        "or incomplete: copy or make it again."
    )


def replace(name: str, values: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def external_link(file: h5py.File) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("/etc/passwd", "/X")


def soft_link(file: h5py.File) -> None:
    file["layers/again"] = h5py.SoftLink("/X")


def external_storage(file: h5py.File) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (6,), "f4", external=[("/etc/passwd", 0, 24)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(6,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(6,))
    del file["X/data"]
    file.create_virtual_dataset("X/data", layout)


def bomb(file: h5py.File) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (2**36,), "f4", chunks=(2**20,))


def cycle(file: h5py.File) -> None:
    file["obs/self"] = file["obs"]
    file["uns/root"] = file["/"]
    file["obs"].attrs["column-order"] = ["self"]


MUTANTS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "index 10^6": (replace("X/indices", [0, 1, 0, 2, 10**6, 1]), "between 0 and 2; found 1000000"),
    "index = columns": (replace("X/indices", [0, 1, 0, 2, 3, 1]), "between 0 and 2; found 3"),
    "index negative": (replace("X/indices", [0, 1, 0, 2, -7, 1]), "between 0 and 2; found -7"),
    "indptr jump": (replace("X/indptr", [0, 1, 10**9, 4, 5, 6]), "with 1 falls"),
    "indptr negative": (replace("X/indptr", [0, -1, 2, 4, 5, 6]), "with 1 falls"),
    "indptr short": (replace("X/indptr", [0, 1, 2, 6]), r"found \(4,\) row starts"),
    "indptr past end": (replace("X/indptr", [0, 1, 2, 4, 5, 9]), "from 0 to 9"),
    "data short": (replace("X/data", [1.0, 2.0]), r"\(6,\) indices and \(2,\) values"),
    "data 2-d": (replace("X/data", np.ones((6, 2))), "found 2 dimensions of float64"),
    "data text": (replace("X/data", ["a"] * 6), "found 1 dimensions of object"),
    "NaN": (replace("X/data", [1, 2, np.nan, 4, 5, 6]), "must be finite; found nan at cell"),
    "infinite": (replace("X/data", [1, 2, np.inf, 4, 5, 6]), "must be finite; found inf at cell"),
    "negative": (replace("X/data", [1, 2, -3, 4, 5, 6]), "must not be negative; found -3 at cell"),
    "fewer cells": (
        replace("obs/_index", CELLS[:4]),
        "The file is broken or incomplete: copy or make it again",
    ),
    "external link": (external_link, "must be inside the file; found a link at /X"),
    "soft link": (soft_link, "must be inside the file; found a link at /layers/again"),
    "external storage": (external_storage, "found an array in another file at /X/data"),
    "virtual data set": (virtual, "found an array in another file at /X/data"),
    "size bomb": (bomb, "found 274877906944 bytes claimed and 0 stored at /X/data"),
    "no obs": (lambda file: file.__delitem__("obs"), "found none at /obs"),
    "old obs": (replace("obs", np.zeros(5, "S3")), "found none at /obs"),
    "X of text": (replace("X", ["a"]), r"found shape \(1,\) at /X"),
    "cycle": (cycle, "The file is broken or incomplete"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutated_h5ad_is_an_input_error_that_says_why(mutant: str, tmp_path: Path) -> None:
    change, message = MUTANTS[mutant]
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message):
        read(path)


def test_column_beyond_the_last_is_refused_in_10x_h5(tmp_path: Path) -> None:
    path = tenx_h5(tmp_path / "a.h5", version=3)
    with h5py.File(path, "a") as file:
        file["matrix/indices"][0] = 10**6
    with pytest.raises(InputError, match="found 1000000"):
        read(path)


def test_missing_zarr_chunk_is_not_read_as_zeros(tmp_path: Path) -> None:
    path = zarr(tmp_path / "a.zarr", 3)
    shutil.rmtree(path / "X" / "data" / "c")
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a zarr array must have all its chunks; found 1 of 1 missing in /X/data. "
        "Copy the folder again."
    )


def test_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        file["X"].attrs["shape"] = [5, 4]
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "counts must have a row per cell and a column per gene, 5 x 3; found shape (5, 4) at /X."
    )


@pytest.fixture(scope="module")
def whole_h5ad(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return h5ad(tmp_path_factory.mktemp("whole") / "a.h5ad").read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_gives_counts_or_an_input_error(
    position: float, value: int, whole_h5ad: bytes, tmp_path: Path
) -> None:
    content = bytearray(whole_h5ad)
    content[int(position * len(content))] = value
    path = tmp_path / "a.h5ad"
    path.write_bytes(content)
    try:
        found = read(path)
    except InputError:
        return
    assert found.n_obs >= 2
    assert np.all(found.X.data > 0)
