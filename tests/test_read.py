"""Reading: every format gives the same counts, names and layers, and every path its message."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from files import (
    CELLS,
    COUNTS,
    GENES,
    IDS,
    WRITERS,
    adata,
    h5ad,
    loom,
    put,
    source,
    table,
    tenx_folder,
    tenx_h5,
    zarr,
)
from scarce.data import read
from scarce.errors import InputError
from shared import PBMC3K, needs_pbmc3k


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
        "A number was added to gene names that repeat others: 95 of 32738, the first is 'U1'."
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
        "A number was added to cell names that repeat others: 2 of 5, the first is 'a'.",
        "A number was added to gene names that repeat others: 1 of 3, the first is 'LYZ'.",
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
