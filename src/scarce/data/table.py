"""Counts as text: one line per cell or one line per gene, comma, semicolon, tab or space."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce.data.source import Found
from scarce.errors import InputError

__all__ = ["lines", "read_table"]

_BARCODE = re.compile(r"(?:^|[^A-Za-z])[ACGTN]{8,}(?:$|[^A-Za-z])")
_CELL = re.compile(r"^cell[ _.-]?\d+$", re.IGNORECASE)
_GENE = re.compile(r"^(?:ENS[A-Z]*G\d{6,}(?:\.\d+)?|gene[ _.-]?\d+)$", re.IGNORECASE)
# Mitochondrial, ribosomal, housekeeping and blood marker genes, human or mouse.
_KNOWN_GENE = re.compile(
    r"^(?:MT-\w+|RP[LS]\d+\w*|ACTB|GAPDH|B2M|MALAT1|EEF1A1|TPT1|FTL1?|FTH1|TMSB4X|HSP90AB1|VIM|"
    r"CD3[DE]|CD4|CD8A|CD14|CD79A|MS4A[17]|LYZ|NKG7|GNLY|PPBP|FCGR3A|FCER1A|IL7R|CCR7|S100A[489])$",
    re.IGNORECASE,
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MOST = 0.5
"""Share of names that must look alike to say what they name."""
_ENOUGH_KNOWN = 2
"""Known gene names that say the axis is genes; a cell is never named like one."""

_SPREAD = 1.5
_MANY = 50
"""Totals of genes spread over orders of magnitude, totals of cells much less: on PBMC3k, PBMC4k,
C. elegans neurons, a cell-line mixture and the 765 genes of PBMC68k the standard deviation of
log(1 + total) is 2.2 to 13 times larger for genes. Fewer than `_MANY` names say nothing."""


def read_table(path: Path) -> Found:
    """Read a table of counts, and find out whether its rows are cells or genes.

    The first line and the first column hold names. In this order decide: names that look like
    barcodes, gene identifiers or well-known genes; then the totals, which vary far more between
    genes than between cells; then the custom of cells in rows. A note says what decided.
    """
    rows, columns, x = _parse(path)
    cells_in_rows, note = _orientation(rows, columns, x)
    cells, genes = (rows, columns) if cells_in_rows else (columns, rows)
    return Found(
        x=x if cells_in_rows else x.T.tocsr(),
        obs=pd.DataFrame(index=pd.Index(cells)),
        var=pd.DataFrame(index=pd.Index(genes)),
        format="table with cells in " + ("rows" if cells_in_rows else "columns"),
        files=(path,),
        notes=[note],
    )


def lines(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a table, its header first.

    The separator is the comma, tab or semicolon that occurs most often in each of the first two
    lines, then in one of them, or else a space. A header that is one field short, as R writes it,
    gets an empty first field.
    """
    with _text(path) as text:
        start = [next(text, ""), next(text, "")]
        found = {mark: sorted(line.count(mark) for line in start) for mark in ",\t;"}
        delimiter = max(found, key=found.__getitem__) if any(map(any, found.values())) else " "
        table = filter(None, csv.reader(chain(start, text), delimiter=delimiter))
        header, first = next(table, []), next(table, [])
        yield ["", *header] if len(header) == len(first) - 1 else header
        yield from filter(None, [first])
        yield from table


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Open a text file by what it holds: gzipped or not, UTF-8 or the UTF-16 of spreadsheets."""
    with ExitStack() as opened:
        stream: Any = opened.enter_context(path.open("rb"))
        if stream.peek(2).startswith(b"\x1f\x8b"):
            stream = opened.enter_context(gzip.open(stream))
        encoding = "utf-16" if stream.peek(2)[:2] in _UTF16 else "utf-8-sig"
        yield opened.enter_context(io.TextIOWrapper(stream, encoding, newline=""))


def _parse(path: Path) -> tuple[list[str], list[str], csr_matrix]:
    """Return row names, column names and the values; memory follows the nonzeros."""
    table = lines(path)
    header = next(table)
    if len(header) < 2:
        raise InputError(
            f"a table of counts must have a first line of names and a first column of names; "
            f"found {len(header)} columns in {path.name}."
        )
    rows: list[str] = []
    values: list[NDArray[np.float64]] = [np.empty(0)]
    columns: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
    starts = [0]
    for fields in table:
        rows.append(fields[0])
        positions, numbers = _numbers(fields, header, path.name)
        values.append(np.array(numbers))
        columns.append(np.array(positions, np.int32) - 1)
        starts.append(starts[-1] + len(positions))
    if not rows:
        raise InputError(
            f"a table of counts must have a line for each cell or gene; found only the first line "
            f"in {path.name}."
        )
    _require_names(rows, header, path.name)
    arrays = np.concatenate(values), np.concatenate(columns), np.array(starts)
    return rows, header[1:], csr_matrix(arrays, shape=(len(rows), len(header) - 1))


def _numbers(fields: list[str], header: list[str], name: str) -> tuple[list[int], list[float]]:
    """Return where a line is not "0" and the numbers there, or say which field is no number.

    Most fields are "0": leaving them as text makes reading three times as fast.
    """
    if len(fields) != len(header):
        raise InputError(
            f"every line of {name} must have {len(header)} fields, as its first has; found "
            f"{len(fields)} in the line of {fields[0]!r}."
        )
    positions = [i for i, field in enumerate(fields) if i and field != "0"]
    try:
        return positions, [float(fields[i]) for i in positions]
    except ValueError:
        wrong = next(i for i in positions if not _is_number(fields[i]))
        raise InputError(
            f"a table of counts must hold numbers only; found {fields[wrong]!r} in column "
            f"{header[wrong]!r} of {fields[0]!r}. Leave out columns that are no counts."
        ) from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _require_names(rows: list[str], header: list[str], name: str) -> None:
    """Raise if the first line or the first column must be counts rather than names."""
    advice = "Write the table with a first line and a first column of names."
    repeated = len(set(header[1:])) < len(header) - 1 and all(map(_is_number, header[1:]))
    if repeated or all(map(_is_number, header)):
        raise InputError(f"the first line of {name} must hold names; found numbers. {advice}")
    if len(set(rows)) < len(rows) and all(map(_is_number, rows)):
        raise InputError(
            f"the first column of {name} must hold names; found numbers that repeat. {advice}"
        )


def _orientation(rows: list[str], columns: list[str], x: csr_matrix) -> tuple[bool, str]:
    """Return whether cells are in rows, and the sentence that says why."""
    by_name = _names_cells(rows) - _names_cells(columns)
    if by_name:
        return by_name > 0, f"Cells are in {'rows' if by_name > 0 else 'columns'}, by their names."
    spread = [np.log1p(x.sum(axis)).std() for axis in (1, 0)]
    if min(x.shape) >= _MANY and max(spread) > _SPREAD * min(spread):
        in_rows = bool(spread[0] < spread[1])
        place = "rows" if in_rows else "columns"
        return in_rows, f"Cells are taken to be in {place}: totals vary less there than for genes."
    return True, (
        "Neither names nor totals tell cells from genes: cells are taken to be in rows. "
        "If they are in columns, transpose the table."
    )


def _names_cells(names: Sequence[str]) -> int:
    """Return 1 if names look like those of cells, -1 if like those of genes, 0 if neither."""
    like_cells = sum(bool(_BARCODE.search(name) or _CELL.match(name)) for name in names)
    like_genes = sum(bool(_GENE.match(name)) for name in names)
    known = sum(bool(_KNOWN_GENE.match(name)) for name in names)
    if like_genes > _MOST * len(names) or known >= _ENOUGH_KNOWN:
        return -1
    return int(like_cells > _MOST * len(names))
