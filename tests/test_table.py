"""Tables of counts: which way round they are is found out, and said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from files import COUNTS, put, source, table
from scarce.data import read
from scarce.errors import InputError


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
                "the first line of a.csv must hold names; found numbers. Write the table with "
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
        (
            "c1,0,0,3\nc2,1,0,2\nc3,0,4,1\n",
            (
                "the first line of a.csv must hold names; found numbers. Write the table with "
                "a first line and a first column of names."
            ),
        ),
        (",CD3E,LYZ\na,1,2\n", "counts must have at least 2 cells; found 1."),
        (
            ",CD3E,LYZ\n",
            (
                "a table of counts must have a line for each cell or gene; found only the first "
                "line in a.csv."
            ),
        ),
    ],
)
def test_tables_that_are_no_counts_are_refused(content: str, message: str, tmp_path: Path) -> None:
    put(tmp_path / "a.csv", content)
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv")
    assert str(error.value) == message
