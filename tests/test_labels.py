"""Labels from a table: matched to the cells by barcode, whatever the table looks like."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from scarce import check
from scarce.data.labels import from_components, read_labels
from scarce.errors import InputError
from shared import PBMC3K_LABELS, needs_pbmc3k

CELLS = ["AAAC-1", "AAAG-1", "AACC-1"]
EXPECTED = {"AAAC-1": "B", "AAAG-1": "T", "AACC-1": "NK"}

TABLES = {
    "csv": "barcode,cell_type\nAACC-1,NK\nAAAC-1,B\nAAAG-1,T\n",
    "index without a name": ",cell_type\nAACC-1,NK\nAAAC-1,B\nAAAG-1,T\n",
    "as R writes it": '"celltype"\n"AACC-1" "NK"\n"AAAC-1" "B"\n"AAAG-1" "T"\n',
    "semicolons": "cell;Cell Types\nAACC-1;NK\nAAAC-1;B\nAAAG-1;T\n",
    "tabs, no header": "AACC-1\tNK\nAAAC-1\tB\nAAAG-1\tT\n",
    "label before barcode": "label,id\nNK,AACC-1\nB,AAAC-1\nT,AAAG-1\n",
    "more cells": "barcode,label\nx,x\nAACC-1,NK\nAAAC-1,B\nAAAG-1,T\ny,NA\n",
    "repeats that agree": "barcode,label\nAACC-1,NK\nAAAC-1,B\nAAAC-1,B\nAAAG-1,T\n",
    "spaces in the header": "my barcode,a cell type of mine\nAACC-1,NK\nAAAC-1,B\nAAAG-1,T\n",
    "any other name": "barcode,who\nAACC-1,NK\nAAAC-1,B\nAAAG-1,T\n",
}


def put(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("kind", TABLES)
def test_labels_follow_the_cells_whatever_the_table_looks_like(kind: str, tmp_path: Path) -> None:
    found, _ = read_labels(put(tmp_path / "labels.csv", TABLES[kind]), CELLS)
    assert list(found.index) == CELLS
    assert found.to_dict() == EXPECTED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv.gz", gzip.compress(TABLES["csv"].encode())),
        ("labels.csv", gzip.compress(TABLES["csv"].encode())),
        ("labels.csv.gz", TABLES["csv"].encode()),
        ("labels.txt", TABLES["csv"].replace(",", "\t").encode("utf-16")),
    ],
    ids=["gzip", "gzip named csv", "csv named gzip", "UTF-16"],
)
def test_labels_are_read_by_what_the_file_holds(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_labels(tmp_path / name, pd.Index(CELLS))[0].to_dict() == EXPECTED


def test_a_wide_table_is_not_listed_whole(tmp_path: Path) -> None:
    genes = ",".join(f"gene{i}" for i in range(3000))
    rows = [f"{cell},{','.join(['0'] * 3000)}" for cell in CELLS]
    path = put(tmp_path / "counts.csv", "\n".join([f"barcode,{genes}", *rows]) + "\n")
    with pytest.raises(InputError, match=r"'gene7' and 2,992 more in counts\.csv\. Call it"):
        read_labels(path, CELLS)


def test_a_workbook_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(InputError, match=r"archive in labels\.xlsx\. Save the sheet as CSV"):
        read_labels(tmp_path / "labels.xlsx", CELLS)


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ("cluster,cell_type", "cell_type"),
        ("label,annotation", "label"),
        ("n_counts,louvain", "louvain"),
        ("batch,bulk_labels", "bulk_labels"),
        ("orig.ident,seurat_clusters,CellType", "CellType"),
        ("orig.ident,seurat_clusters", "seurat_clusters"),
        ("cell_type_score,cell_type", "cell_type"),
        ("phenotype,type", "type"),
    ],
)
def test_the_best_named_column_is_chosen(columns: str, chosen: str, tmp_path: Path) -> None:
    values = ",".join(columns.split(","))
    content = f"barcode,{columns}\n" + "".join(f"{cell},{values}\n" for cell in CELLS)
    labels, where = read_labels(put(tmp_path / "labels.csv", content), CELLS)
    assert where.removesuffix(", which names clusters") == f"column {chosen!r} of labels.csv"
    assert from_components(where) == (
        chosen in {"louvain", "seurat_clusters"} or "cluster," in columns
    )
    assert labels.name == chosen
    assert set(labels) == {chosen}


@needs_pbmc3k
def test_seurat_labels_of_pbmc3k_name_the_cells_after_quality_control() -> None:
    table = pd.read_csv(PBMC3K_LABELS)
    labels, where = read_labels(PBMC3K_LABELS, table["barcode"][::-1])
    assert where.startswith("column 'cell_type' of ")
    assert from_components(where)
    assert list(labels) == list(table["cell_type"][::-1])
    assert labels.nunique() == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "barcode,label\nAAAC,B\nAAAG,T\n",
            (
                "labels must name the cells; none of the 3 cells is in labels.csv. Cells look "
                "like 'AAAC-1', labels.csv has 'AAAC'. Write them alike."
            ),
        ),
        (
            "barcode,label\nAAAC-1,B\nAAAG-1,\n",
            (
                "every cell must have a label; 2 of 3 cells have none in labels.csv, the first is "
                "'AAAG-1'. Add them to labels.csv, or take these cells out."
            ),
        ),
        (
            "barcode,label\nAAAC-1,B\nAAAG-1,T\nAAAC-1,T\nAACC-1,B\n",
            (
                "each cell must have one label; found 'B', 'T' for 'AAAC-1' in labels.csv "
                "(names with several labels: 1)."
            ),
        ),
        (
            "barcode,batch,donor\nAAAC-1,1,2\n",
            (
                "labels must be in a column that can be told from the others; found 'batch', "
                "'donor' in labels.csv. Call it cell_type."
            ),
        ),
        (
            "barcode,label\nAAAC-1,NA\n",
            (
                "labels must name the cells; none of the 3 cells is in labels.csv. Cells look "
                "like 'AAAC-1', labels.csv has no labels. Write them alike."
            ),
        ),
        (
            "AAAC-1\nAAAG-1\n",
            (
                "labels must be in a table with a column of barcodes and one of labels; found "
                "2 lines x 1 columns in labels.csv."
            ),
        ),
        (
            "",
            (
                "labels must be in a table with a column of barcodes and one of labels; found "
                "0 lines x 0 columns in labels.csv."
            ),
        ),
    ],
)
def test_tables_that_do_not_label_the_cells_are_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        read_labels(put(tmp_path / "labels.csv", content), CELLS)
    assert str(error.value) == message


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "labels.csv", CELLS)
    assert str(error.value) == (
        f"labels must be in an existing file; found none at {tmp_path}/labels.csv."
    )
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(gzip.compress(TABLES["csv"].encode())[:-9])
    with pytest.raises(InputError, match=r"labels.csv.gz must be a table of barcodes and labels; "):
        read_labels(path, CELLS)
    with pytest.raises(InputError, match="must be a table of barcodes and labels"):
        read_labels(
            put(tmp_path / "labels.csv", "barcode,label\nAAAC-1,B\nAAAG-1,T,extra\n"), CELLS
        )


def test_commas_in_labels_do_not_part_tabs(tmp_path: Path) -> None:
    lines = ["barcode\tcell_type", *(f"{cell}\tCD4-positive, alpha-beta" for cell in CELLS)]
    found, _ = read_labels(put(tmp_path / "labels.tsv", "\n".join(lines)), CELLS)
    assert set(found) == {"CD4-positive, alpha-beta"}


@pytest.mark.parametrize("none", ["NA", "nan", "None", "#N/A"])
def test_words_for_no_label_are_none(none: str, tmp_path: Path) -> None:
    lines = ["barcode,cell_type", f"{CELLS[0]},{none}", *(f"{cell},T" for cell in CELLS[1:])]
    with pytest.raises(InputError, match="every cell must have a label"):
        read_labels(put(tmp_path / "labels.csv", "\n".join(lines)), CELLS)
    with pytest.raises(InputError, match="every cell must have a label"):
        check.labels(pd.Series([none, *"TT"], index=list("abc")), list("abc"))


def test_cells_without_a_label_may_be_left_out(tmp_path: Path) -> None:
    content = f"barcode,label\n{CELLS[1]},B\nother,T\n"
    labels, _ = read_labels(put(tmp_path / "labels.csv", content), CELLS, partial=True)
    assert labels.to_dict() == {CELLS[1]: "B"}
    with pytest.raises(InputError, match="none of the"):
        read_labels(put(tmp_path / "labels.csv", "barcode,label\nx,B\n"), CELLS, partial=True)
