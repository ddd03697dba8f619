"""Validators: what passes comes back clean, what does not is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csc_array, csr_array, csr_matrix, lil_matrix

from scarce import check
from scarce.errors import InputError

CELLS = ["AAAC-1", "AAAG-1", "AACC-1"]
GENES = ["CD3E", "MS4A1"]
GOOD = np.array([[1, 0], [0, 2], [3, 4]])


def with_value(value: float) -> NDArray[np.float64]:
    x = GOOD.astype(np.float64)
    x[2, 0] = value
    return x


@st.composite
def triplets(draw: st.DrawFn) -> tuple[coo_matrix, type]:
    """Counts with repeats, empty rows and columns, stored zeros."""
    shape = draw(st.tuples(st.integers(2, 6), st.integers(1, 5)))
    n = draw(st.integers(1, 20))
    rows = draw(st.lists(st.integers(0, shape[0] - 1), min_size=n, max_size=n))
    columns = draw(st.lists(st.integers(0, shape[1] - 1), min_size=n, max_size=n))
    values = draw(st.lists(st.integers(0, 100), min_size=n, max_size=n))
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64, np.float32, np.float64]))
    return coo_matrix((np.array([1, *values[1:]], dtype), (rows, columns)), shape=shape), dtype


@given(triplets())
def test_counts_keep_every_value_whatever_the_sparsity_and_type(case: tuple) -> None:
    x, _ = case
    dense = np.zeros(x.shape)
    np.add.at(dense, (x.row, x.col), x.data.astype(np.float64))
    # CSR with repeats and stored zeros, as scipy itself would never make it
    order = np.argsort(x.row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(x.row, minlength=x.shape[0]))])
    csr = csr_matrix((x.data[order], x.col[order], starts), shape=x.shape)
    before = [part.copy() for part in (csr.data, csr.indices, csr.indptr)]

    found = check.counts(csr, range(x.shape[0]), range(x.shape[1]))

    assert isinstance(found, csr_matrix)
    assert found.dtype == np.float32
    assert found.has_canonical_format
    assert np.all(found.data)
    np.testing.assert_array_equal(found.toarray(), dense)
    for part, copy in zip((csr.data, csr.indices, csr.indptr), before, strict=True):
        np.testing.assert_array_equal(part, copy)


@pytest.mark.parametrize("kind", [np.array, csr_array, csc_array, coo_matrix, lil_matrix])
def test_counts_accept_every_kind_of_table(kind: type) -> None:
    found = check.counts(kind(GOOD), CELLS, GENES)
    np.testing.assert_array_equal(found.toarray(), GOOD)


@pytest.mark.parametrize("dtype", [bool, np.uint64, np.float16, ">i4", ">f8"])
def test_counts_accept_every_real_type(dtype: str) -> None:
    found = check.counts(GOOD.astype(dtype), CELLS, GENES)
    np.testing.assert_array_equal(found.toarray(), GOOD.astype(dtype).astype(float))


def test_narrow_counts_do_not_overflow_when_repeats_are_summed() -> None:
    x = csr_matrix((np.full(3, 200, np.uint8), [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    assert check.counts(x, ["a", "b"], GENES)[0, 1] == 400


def test_clean_counts_are_not_copied() -> None:
    x = csr_matrix(GOOD.astype(np.float32))
    assert np.shares_memory(check.counts(x, CELLS, GENES).data, x.data)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            0.37,
            (
                "counts must be whole numbers; found 0.37 at cell 'AACC-1', gene 'CD3E' "
                "(1 of 4 stored values). If X is normalised, pass --layer counts."
            ),
        ),
        (
            -2,
            (
                "counts must not be negative; found -2 at cell 'AACC-1', gene 'CD3E' "
                "(1 of 4 stored values). If X is normalised, pass --layer counts."
            ),
        ),
        (
            np.nan,
            (
                "counts must be finite; found nan at cell 'AACC-1', gene 'CD3E' "
                "(1 of 4 stored values). If X is normalised, pass --layer counts."
            ),
        ),
        (
            np.inf,
            (
                "counts must be finite; found inf at cell 'AACC-1', gene 'CD3E' "
                "(1 of 4 stored values). If X is normalised, pass --layer counts."
            ),
        ),
        (
            2**24 + 1,
            (
                "counts must be at most 16777216; found 1.67772e+07 at cell 'AACC-1', gene 'CD3E' "
                "(1 of 4 stored values). Larger ones lose digits in float32."
            ),
        ),
    ],
)
def test_first_wrong_count_is_named(value: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        check.counts(
            with_value(value), CELLS, GENES, advice="If X is normalised, pass --layer counts."
        )
    assert str(error.value) == message


def test_all_wrong_counts_are_counted() -> None:
    with pytest.raises(InputError, match=r"found 0\.5 at cell 'AAAC-1', gene 'CD3E' \(4 of 4"):
        check.counts(GOOD / 2 + 0.5 * (GOOD % 2 == 0) * (GOOD > 0), CELLS, GENES)


def test_largest_exact_count_passes() -> None:
    assert check.counts(with_value(2**24), CELLS, GENES).max() == 2**24


def test_unprintable_and_long_names_are_escaped_and_cut() -> None:
    cells = ["a", "b", "\u202ex\n" + "y" * 10**6]
    with pytest.raises(InputError) as error:
        check.counts(with_value(0.5), cells, GENES)
    assert r"'\u202ex\nyyy" in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((1, 2)), "counts must have at least 2 cells; found 1."),
        (np.ones((0, 2)), "counts must have at least 2 cells; found 0."),
        (np.ones((3, 0)), "counts must have at least 1 gene; found none."),
        (np.ones(3), "counts must be a table of cells x genes; found shape (3,)."),
        (
            np.full((3, 2), "x"),
            "counts must be real numbers; found values of type <U1.",
        ),
        (
            np.zeros((3, 2)),
            (
                "counts must hold a value that is not zero; found 3 cells and 2 genes without any. "
                "Pass raw counts, not normalised values."
            ),
        ),
        (
            np.ones((2, 2)),
            (
                "counts must have a name for each row and column; found 2 rows with 3 cell names, "
                "2 columns with 2 gene names."
            ),
        ),
    ],
)
def test_tables_that_cannot_be_counts_are_refused(x: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError) as error:
        check.counts(x, CELLS, GENES)
    assert str(error.value) == message


def broken_csr(**parts: list[int]) -> csr_matrix:
    x = csr_matrix(GOOD)
    for name, value in parts.items():
        setattr(x, name, np.array(value))
    return x


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"indices": [0, 1, 0, 2]},
            (
                "sparse indices must be between 0 and 1; found 2 (1 of 4 stored values). "
                "The sparse matrix is broken: make it again."
            ),
        ),
        (
            {"indices": [0, -1, 0, 1]},
            (
                "sparse indices must be between 0 and 1; found -1 (1 of 4 stored values). "
                "The sparse matrix is broken: make it again."
            ),
        ),
        (
            {"indptr": [0, 9, 2, 4]},
            (
                "sparse row starts must rise from 0 to 4; found them going from 0 to 4, "
                "falling 1 times in 3 steps. The sparse matrix is broken: make it again."
            ),
        ),
        (
            {"data": [1, 2, 3]},
            (
                "a sparse matrix of 3 rows and 3 values must have 4 row starts and 3 indices; "
                "found arrays of shape (4,) and (4,). The sparse matrix is broken: make it again."
            ),
        ),
    ],
)
def test_broken_structure_is_refused_before_values_are_read(
    parts: dict[str, list[int]], message: str
) -> None:
    for validate in (lambda x: check.counts(x, CELLS, GENES), check.log_normalised):
        with pytest.raises(InputError) as error:
            validate(broken_csr(**parts))
        assert str(error.value) == message


def test_structure_must_be_whole_numbers() -> None:
    with pytest.raises(InputError, match="found indptr of float64 and indices of int64"):
        check.structure(np.array([0.0, 1.0]), np.array([0]), 1, (1, 1))


@given(
    st.lists(st.integers(-2, 8), min_size=1, max_size=5),
    st.lists(st.integers(-2, 4), max_size=6),
    st.integers(0, 6),
    st.tuples(st.integers(0, 4), st.integers(1, 3)),
)
def test_structure_passes_exactly_the_arrays_that_stay_inside(
    indptr: list[int], indices: list[int], n_values: int, shape: tuple[int, int]
) -> None:
    inside = (
        len(indptr) == shape[0] + 1
        and len(indices) == n_values
        and indptr == sorted(indptr)
        and (indptr[0], indptr[-1]) == (0, n_values)
        and all(0 <= index < shape[1] for index in indices)
    )
    arrays = np.array(indptr, np.int64), np.array(indices, np.int64)
    if inside:
        check.structure(*arrays, n_values, shape)
    else:
        with pytest.raises(InputError):
            check.structure(*arrays, n_values, shape)


def test_log_normalised_keeps_values_and_sums_repeats() -> None:
    x = csr_matrix((np.array([0.5, 0.25, 1.0]), [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    found = check.log_normalised(x)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), [[0, 0.75], [1, 0]])
    assert check.log_normalised(np.ones((1, 1))).shape == (1, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.nan,
            (
                "expression must be finite; found nan at row 2, column 0 (1 of 4 stored values). "
                "Pass normalised counts after log1p, not scaled ones."
            ),
        ),
        (
            -0.5,
            (
                "expression must not be negative; found -0.5 at row 2, column 0 (1 of 4 stored "
                "values). Pass normalised counts after log1p, not scaled ones."
            ),
        ),
        (
            132,
            (
                "log-normalised expression must be at most 20; found 132 at row 2, column 0 (1 of "
                "4 stored values). This looks like raw counts: normalise each cell and take "
                "log1p first."
            ),
        ),
    ],
)
def test_first_wrong_expression_is_named(value: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        check.log_normalised(with_value(value))
    assert str(error.value) == message


def test_wrong_expression_is_named_by_cell_and_gene_where_known() -> None:
    with pytest.raises(InputError, match="at cell 'AACC-1', gene 'CD3E'"):
        check.log_normalised(with_value(-1), CELLS, GENES)


def test_expression_without_cells_or_genes_is_refused() -> None:
    with pytest.raises(InputError, match=r"^expression must have at least 1 cell; found 0\.$"):
        check.log_normalised(np.ones((0, 3)))
    with pytest.raises(InputError, match=r"^expression must have at least 1 gene; found none\.$"):
        check.log_normalised(np.ones((3, 0)))


def test_labels_follow_the_cells_not_the_table() -> None:
    table = pd.Series(["T", "B", "T", "B", 7], index=["c", "a", "c", "x", "b"])
    found = check.labels(table, ["a", "b", "c"])
    assert found.to_dict() == {"a": "B", "b": "7", "c": "T"}
    assert list(found.index) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("table", "cells", "message"),
    [
        (
            {"a": "B", "b": None},
            ["a", "b", "c"],
            (
                "every cell must have a label; 2 of 3 cells have none in cells.csv, the first is "
                "'b'. Add them to cells.csv, or take these cells out."
            ),
        ),
        (
            {"AAAC": "B"},
            ["AAAC-1", "AAAG-1"],
            (
                "labels must name the cells; none of the 2 cells is in cells.csv. Cells look like "
                "'AAAC-1', cells.csv has 'AAAC'. Write them alike."
            ),
        ),
        (
            {"AAAC-1": "B"},
            ["AAAC-1", "AAAC-1-1"],
            (
                "cell names must be unique for labels to be matched by name; found 'AAAC-1' more "
                "than once (repeats: 1)."
            ),
        ),
    ],
)
def test_cells_without_a_label_are_named(
    table: dict[str, str], cells: list[str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        check.labels(pd.Series(table, dtype=object), cells, source="cells.csv")
    assert str(error.value) == message


def test_two_labels_for_a_cell_are_refused() -> None:
    table = pd.Series(["T", "B", "T", "T"], index=["a", "b", "b", "a"])
    with pytest.raises(InputError) as error:
        check.labels(table, ["a", "b"])
    assert str(error.value) == (
        "each cell must have one label; found 'B', 'T' for 'b' in the labels "
        "(names with several labels: 1)."
    )


def test_one_of_returns_what_is_allowed_and_guesses_otherwise() -> None:
    assert check.one_of("model", "dae", ["dae", "bvae"]) == "dae"
    with pytest.raises(InputError) as error:
        check.one_of("layer", "spam", ["counts", "raw"])
    assert str(error.value) == "layer must be one of 'counts', 'raw'; found 'spam'."
    with pytest.raises(InputError, match="Did you mean 'counts'"):
        check.one_of("layer", "count", ["counts", "raw"])


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, {"least": 1}, "n must be at least 1; found 0."),
        (0, {"above": 0}, "n must be above 0; found 0."),
        (3, {"least": 1, "most": 2}, "n must be at least 1 and at most 2; found 3."),
        (1, {"below": 1}, "n must be below 1; found 1."),
        (float("nan"), {"least": 0}, "n must be finite, at least 0; found nan."),
        ("2", {"least": 0}, "n must be a number, at least 0; found '2'."),
        (True, {"least": 0}, "n must be a number, at least 0; found True."),
    ],
)
def test_numbers_out_of_range_are_refused(
    value: float, bounds: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError) as error:
        check.in_range("n", value, **bounds)
    assert str(error.value) == message


def test_bounds_belong_to_the_range_where_they_say_so() -> None:
    check.in_range("n", 1, least=1, most=1)
    check.in_range("n", np.float32(0.5), above=0, below=1)
