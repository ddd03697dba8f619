"""Validators: each returns the clean value, or raises `InputError` before any work is done.

They see arrays, names and options; files and AnnData are the business of `scarce.data`.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse, sparray, spmatrix

from scarce.errors import InputError

__all__ = [
    "a_list",
    "counts",
    "in_range",
    "labels",
    "log_normalised",
    "native",
    "no_repeats",
    "one_of",
    "structure",
]

Names = Sequence[str] | NDArray[Any] | pd.Index
"""Names of cells or genes, in the order of an axis."""

Table = ArrayLike | spmatrix | sparray
"""Values of cells x genes, dense or sparse."""

_LARGEST_COUNT = 2**24
"""Above it, 32-bit floats skip whole numbers."""

_LARGEST_LOG = 20.0
"""log(1 + 4.8e8): above any count scaled to a million per cell, below the usual largest count."""

_NO_LABEL = ("", "NA", "<NA>", "#N/A", "NaN", "nan", "None")
"""How tables, spreadsheets and pandas write that there is none."""

_BROKEN = "The sparse matrix is broken: make it again."


def counts(
    x: Table,
    cells: Names | None = None,
    genes: Names | None = None,
    *,
    n_cells: int = 2,
    advice: str = "Pass raw counts, not normalised values.",
) -> csr_matrix:
    """Return counts as CSR of float32: sorted, without duplicates and without stored zeros.

    Parameters
    ----------
    x
        Counts of shape (n_cells, n_genes), sparse or dense, of any real type. Never modified;
        the result may share its memory.
    cells, genes
        Names for the message, one per row and one per column; without them it gives row and
        column, counted from 0.
    n_cells
        The least number of cells; a single one may have no count, as one among others may.
    advice
        What to do about values that are no counts; the last sentence of the message.

    Raises
    ------
    InputError
        Unless there are enough cells and a gene, every value is finite, non-negative, whole and
        at most 2**24 (the last whole number that float32 has without gaps), and some value is
        not zero. The first offender is named.
    """
    x = _csr(x, "counts")
    _large_enough(x.shape, "counts", n_cells=n_cells)
    if cells is not None and genes is not None:
        _one_name_each(x.shape, cells, genes)
    if x.dtype.kind == "f":
        _require(np.isfinite(x.data), "counts must be finite", x, cells, genes, advice)
    _require(x.data >= 0, "counts must not be negative", x, cells, genes, advice)
    if x.dtype.kind == "f":
        _require(np.rint(x.data) == x.data, "counts must be whole numbers", x, cells, genes, advice)
    x = _canonical(x)
    rule = f"counts must be at most {_LARGEST_COUNT}"
    _require(x.data <= _LARGEST_COUNT, rule, x, cells, genes, "Larger ones lose digits in float32.")
    if x.nnz == 0 and n_cells > 1:
        raise InputError(
            f"counts must hold a value that is not zero; found {x.shape[0]} cells and "
            f"{x.shape[1]} genes without any. {advice}"
        )
    return x.astype(np.float32, copy=False)


def log_normalised(
    x: Table, cells: Names | None = None, genes: Names | None = None, *, n_cells: int = 1
) -> csr_matrix:
    """Return log-normalised expression as CSR of float32, sorted and without duplicates.

    Parameters
    ----------
    x
        Expression of shape (n_cells, n_genes), sparse or dense, in natural logarithms of
        1 + the normalised count. Never modified; the result may share its memory.
    cells, genes
        Names for the message; without them it gives row and column, counted from 0.
    n_cells
        The least number of cells.

    Raises
    ------
    InputError
        Unless there are enough cells and a gene, and every value is finite, non-negative and at
        most 20, which no logarithm of a count exceeds (the first offender is named); or if all
        values are whole and one is above 1, as counts are.
    """
    x = _csr(x, "expression")
    _large_enough(x.shape, "expression", n_cells=n_cells)
    advice = "Pass normalised counts after log1p, not scaled ones."
    _require(np.isfinite(x.data), "expression must be finite", x, cells, genes, advice)
    _require(x.data >= 0, "expression must not be negative", x, cells, genes, advice)
    rule = f"log-normalised expression must be at most {_LARGEST_LOG:g}"
    advice = "This looks like raw counts: normalise each cell and take log1p first."
    _require(x.data <= _LARGEST_LOG, rule, x, cells, genes, advice)
    if x.data.max(initial=0) > 1 and (x.data == np.rint(x.data)).all():
        raise InputError(
            f"log-normalised expression must not be whole numbers alone; found {x.nnz} of them, "
            f"at most {x.data.max():g}. {advice}"
        )
    return _canonical(x).astype(np.float32, copy=False)


def structure(
    indptr: NDArray[Any], indices: NDArray[Any], n_values: int, shape: tuple[int, int]
) -> None:
    """Check the index arrays of a compressed sparse matrix before any value is looked at.

    Compiled sparse code trusts these arrays: with wrong ones it reads foreign memory.

    Parameters
    ----------
    indptr
        Start of each row, shape (n_rows + 1,).
    indices
        Column of each stored value.
    n_values
        Number of stored values.
    shape
        Rows and columns of a CSR matrix; columns and rows of a CSC matrix.

    Raises
    ------
    InputError
        Unless both arrays are whole numbers of the right length, `indptr` rises from 0 to
        `n_values`, and every index is inside the matrix.
    """
    n_rows, n_columns = shape
    if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        found = f"indptr of {indptr.dtype} and indices of {indices.dtype}"
        raise InputError(f"sparse indices must be whole numbers; found {found}. {_BROKEN}")
    if indptr.shape != (n_rows + 1,) or indices.shape != (n_values,):
        raise InputError(
            f"a sparse matrix of {n_rows} rows and {n_values} values must have {n_rows + 1} row "
            f"starts and {n_values} indices; found arrays of shape {indptr.shape} and "
            f"{indices.shape}. {_BROKEN}"
        )
    if indptr[0] != 0 or indptr[-1] != n_values or np.any(indptr[1:] < indptr[:-1]):
        raise InputError(
            f"sparse row starts must rise from 0 to {n_values}; found them going from {indptr[0]} "
            f"to {indptr[-1]}, falling {np.count_nonzero(indptr[1:] < indptr[:-1])} times in "
            f"{n_rows} steps. {_BROKEN}"
        )
    outside = (indices < 0) | (indices >= n_columns)
    if np.any(outside):
        raise InputError(
            f"sparse indices must be between 0 and {n_columns - 1}; found "
            f"{indices[np.argmax(outside)]} ({np.count_nonzero(outside)} of {n_values} stored "
            f"values). {_BROKEN}"
        )


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in a type scipy.sparse holds: byte order of the machine, no half floats."""
    kind = np.dtype(np.float32) if values.dtype == np.float16 else values.dtype.newbyteorder("=")
    return values.astype(kind, copy=False)


def labels(
    table: pd.Series, cells: Names, *, source: str = "the labels", partial: bool = False
) -> pd.Series:
    """Return the label of each cell, matched by name.

    Parameters
    ----------
    table
        Labels indexed by cell name, in any order; more cells than needed are welcome.
        A missing value is no label, and neither is "NA" or another word for one.
    cells
        Names of the cells that need a label.
    source
        Where the labels come from, for the message.
    partial
        Leave out cells without a label.

    Returns
    -------
    Labels as strings, indexed by `cells`, in their order.

    Raises
    ------
    InputError
        If a name has two labels, or a cell has none; with `partial`, if all have none.
    """
    table = table.dropna().astype(str)
    table = table[~table.isin(_NO_LABEL)]
    table = table[~_repeated(table, source)]
    wanted = pd.Index(cells)
    missing = ~wanted.isin(table.index)
    if missing.all():
        named = _quoted(table.index[:1]) or "no labels"
        raise InputError(
            f"labels must name the cells; none of the {len(wanted)} cells is in {source}. Cells "
            f"look like {_quoted(wanted[:1])}, {source} has {named}. Write them alike."
        )
    if missing.any() and not partial:
        _raise_unlabelled(wanted, wanted[missing], source)
    return table.reindex(wanted[~missing])


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of the allowed ones.

    Raises
    ------
    InputError
        Otherwise; the message lists them and guesses which one was meant.

    Examples
    --------
    >>> one_of("model", "vbae", ["dae", "bvae", "bvsc"])
    Traceback (most recent call last):
    scarce.errors.InputError: model must be one of 'dae', 'bvae', 'bvsc'; found 'vbae'.
    Did you mean 'bvae'?
    """
    allowed = list(allowed)
    if value in allowed:
        return value
    likely = get_close_matches(str(value), allowed, n=1)
    hint = f" Did you mean {likely[0]!r}?" if likely else ""
    raise InputError(f"{name} must be one of {_quoted(allowed)}; found {value!r}.{hint}")


def no_repeats(what: str, names: Iterable[str], *, advice: str = "Name each once.") -> None:
    """Check that names differ.

    Raises
    ------
    InputError
        Otherwise, with the first that comes again.
    """
    index = pd.Index(names)
    repeats = index[index.duplicated()]
    if len(repeats):
        raise InputError(f"{what} must differ; found {_quoted(repeats[:1])} again. {advice}")


def a_list(name: str, value: object) -> None:
    """Check that names come in a list or tuple: a text alone would be read letter by letter.

    Raises
    ------
    InputError
        If they do not.
    """
    if not isinstance(value, list | tuple):
        raise InputError(f"{name} must be a list of names; found {value!r}.")


def in_range(
    name: str,
    value: float,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Check a number against the bounds that are given; NaN and infinity are never inside.

    Raises
    ------
    InputError
        If `value` is no number, none of the integers where it must be `whole`, or outside.

    Examples
    --------
    >>> in_range("held_out", 1.5, least=0, below=1)
    Traceback (most recent call last):
    scarce.errors.InputError: held_out must be at least 0 and below 1; found 1.5.
    """
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    rule = " and ".join(
        f"{words} {bound:,}" if isinstance(bound, int) else f"{words} {bound:g}"
        for words, bound in bounds.items()
        if bound is not None
    )
    kinds = int | np.integer if whole else int | float | np.number
    if isinstance(value, bool) or not isinstance(value, kinds):
        number = "whole number" if whole else "number"
        raise InputError(f"{name} must be a {number}, {rule}; found {value!r}.")
    inside = (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )
    if not np.isfinite(value):
        raise InputError(f"{name} must be finite, {rule}; found {value}.")
    if not inside:
        raise InputError(f"{name} must be {rule}; found {value}.")


def _csr(x: Table, what: str) -> csr_matrix:
    """Bring `x` to CSR, its structure checked first; duplicates and stored zeros may remain."""
    is_sparse = bool(issparse(x))
    table: Any = x if is_sparse else native(np.asarray(x))
    if table.ndim != 2:
        raise InputError(f"{what} must be a table of cells x genes; found shape {table.shape}.")
    if table.dtype.kind not in "biuf":
        raise InputError(f"{what} must be real numbers; found values of type {table.dtype}.")
    if is_sparse and table.format in ("csr", "csc"):
        shape = table.shape if table.format == "csr" else table.shape[::-1]
        structure(table.indptr, table.indices, len(table.data), shape)
    return csr_matrix(table)


def _large_enough(shape: tuple[int, int], what: str, *, n_cells: int) -> None:
    if shape[0] < n_cells:
        plural = "s" if n_cells > 1 else ""
        raise InputError(f"{what} must have at least {n_cells} cell{plural}; found {shape[0]}.")
    if shape[1] < 1:
        raise InputError(f"{what} must have at least 1 gene; found none.")


def _one_name_each(shape: tuple[int, int], cells: Names, genes: Names) -> None:
    if shape != (len(cells), len(genes)):
        raise InputError(
            f"counts must have a name for each row and column; found {shape[0]} rows with "
            f"{len(cells)} cell names, {shape[1]} columns with {len(genes)} gene names."
        )


def _require(
    good: NDArray[np.bool_],
    rule: str,
    x: csr_matrix,
    cells: Names | None,
    genes: Names | None,
    advice: str,
) -> None:
    """Raise unless every stored value is good; name the first that is not."""
    n_bad = good.size - np.count_nonzero(good)
    if n_bad:
        first = int(np.argmin(good))
        row = int(np.searchsorted(x.indptr, first, side="right")) - 1
        column = int(x.indices[first])
        cell = f"row {row}" if cells is None else f"cell {_quoted([cells[row]])}"
        gene = f"column {column}" if genes is None else f"gene {_quoted([genes[column]])}"
        raise InputError(
            f"{rule}; found {x.data[first]:g} at {cell}, {gene} "
            f"({n_bad} of {good.size} stored values). {advice}"
        )


def _canonical(x: csr_matrix) -> csr_matrix:
    """Sort, sum duplicates and drop stored zeros, on a copy if there is anything to do."""
    if x.has_canonical_format and np.all(x.data):
        return x
    x = x.astype(np.float64)  # narrow integers could overflow in a sum
    x.sum_duplicates()
    x.eliminate_zeros()
    return x


def _repeated(table: pd.Series, source: str) -> NDArray[np.bool_]:
    """Mark repeats of a name with the same label; raise for different ones."""
    pairs = pd.DataFrame({"name": table.index, "label": table.to_numpy()})
    different = pairs.drop_duplicates().duplicated("name")
    if different.any():
        name = pairs["name"].iloc[int(different.index[different][0])]
        found = pairs["label"][pairs["name"] == name].unique()
        n_names = pairs["name"][different.index[different]].nunique()
        raise InputError(
            f"each cell must have one label; found {_quoted(found[:2])} for {_quoted([name])} in "
            f"{source} (names with several labels: {n_names})."
        )
    return pairs.duplicated("name").to_numpy()


def _raise_unlabelled(cells: pd.Index, missing: pd.Index, source: str) -> None:
    """Say which cells have no label, and whether their name was made unique on reading."""
    originals = missing.str.replace(r"-\d+$", "", regex=True)
    copies = originals[originals.isin(cells) & (originals != missing)]
    if len(copies):
        raise InputError(
            "cell names must be unique for labels to be matched by name; found "
            f"{_quoted(copies[:1])} more than once (repeats: {len(copies)})."
        )
    raise InputError(
        f"every cell must have a label; {len(missing)} of {len(cells)} cells have none in "
        f"{source}, the first is {_quoted(missing[:1])}. Add them to {source}, or "
        "take these cells out."
    )


def _quoted(names: Iterable[object]) -> str:
    """Names as a user would type them; unprintable characters escaped, long ones cut."""
    return ", ".join(repr(str(name)[:80]) for name in names)
