"""Labels of cells from a table with one line per barcode."""

import csv
import re
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from scarce import check
from scarce.data import table
from scarce.errors import InputError

__all__ = ["from_components", "likely_column", "read_labels"]

_PREFERRED = ("celltype", "label", "annotation", "^types?$", "cluster", "leiden", "louvain")
"""Patterns of the names of label columns, best first; case and punctuation do not matter."""

_NAMED_CLUSTERS = ["barcode", "cluster", "cell_type"]
"""Columns of what ``scarce annotate`` writes."""

_COMPONENTS = re.compile(
    r"leiden|louvain|seurat|graph.?cluster|phenograph|which names clusters", re.IGNORECASE
)

_ZIP = b"PK\x03\x04"
"""How a workbook of Excel begins, and any other zip archive."""

_LISTED = 8
"""Most columns that an error names."""


def read_labels(
    path: str | PathLike[str], cells: check.Names, *, partial: bool = False
) -> tuple[pd.Series, str]:
    """Read a label for each cell.

    Parameters
    ----------
    path
        Table (``.csv`` or ``.tsv``, with or without ``.gz``). The column that has most of
        `cells` holds the barcodes. The column called cell type, label, annotation, type,
        cluster, Leiden or Louvain, in this order, holds the labels; any other name is fine if
        there is one such column only.
    cells
        Barcodes of the cells that need a label: those left after quality control.
    partial
        Leave out cells without a label, unless all are.

    Returns
    -------
    Labels as strings, indexed by `cells` in their order, and a phrase that says where they stand.

    Raises
    ------
    InputError
        If the file is missing or no table, no column has barcodes or labels, a barcode has two
        labels, or a cell has none.
    """
    path = Path(path).expanduser()
    frame = _frame(path, cells)
    barcodes = _barcode_position(frame, cells)
    column = _label_position(frame, barcodes, path.name)
    names, found = frame.iloc[:, barcodes], frame.iloc[:, column]
    found = found.set_axis(pd.Index(names))
    title = str(frame.columns[column])
    labels = check.labels(found, cells, source=path.name, partial=partial)
    named = ", which names clusters" if [*frame.columns] == _NAMED_CLUSTERS else ""
    return labels.rename(title), f"column {title!r} of {path.name}{named}"


def from_components(source: str) -> bool:
    """Return whether the names in such a phrase say that a graph of components was clustered."""
    return bool(_COMPONENTS.search(source))


def likely_column(names: Sequence[str]) -> int | None:
    """Return the position of the column that by its name holds labels; None if none does."""
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in names]
    for pattern in _PREFERRED:
        matching = [i for i, name in enumerate(plain) if re.search(pattern, name)]
        if matching:  # the shortest name: "cell_type" before "cell_type_score"
            return min(matching, key=lambda i: len(plain[i]))
    return None


def _frame(path: Path, cells: check.Names) -> pd.DataFrame:
    """Read all fields as text; a first line that names a cell is data, not a header."""
    if not path.is_file():
        raise InputError(f"labels must be in an existing file; found none at {path}.")
    if path.read_bytes()[: len(_ZIP)] == _ZIP:
        raise InputError(
            f"labels must be in a table of text; found a workbook or an archive in {path.name}. "
            "Save the sheet as CSV."
        )
    try:
        header, *rows = table.lines(path)
        frame = pd.DataFrame(rows, columns=header, dtype=str)
    except (EOFError, OSError, ValueError, csv.Error, zlib.error) as error:
        raise InputError(
            f"{path.name} must be a table of barcodes and labels; found: {error}."
        ) from error
    if set(header) & set(cells):
        frame = pd.DataFrame([header, *rows], dtype=str)
        frame.columns = pd.Index([f"column {i + 1}" for i in range(len(header))])
    if frame.shape[1] < 2 or frame.empty:
        raise InputError(
            f"labels must be in a table with a column of barcodes and one of labels; found "
            f"{len(frame)} lines x {frame.shape[1]} columns in {path.name}."
        )
    return frame


def _barcode_position(frame: pd.DataFrame, cells: check.Names) -> int:
    """Return the position of the column that has most of the cells."""
    wanted = set(cells)
    matches = [len(wanted.intersection(column)) for _, column in frame.items()]
    return int(np.argmax(matches))


def _label_position(frame: pd.DataFrame, barcodes: int, source: str) -> int:
    others = [i for i in range(frame.shape[1]) if i != barcodes]
    if len(others) == 1:
        return others[0]
    best = likely_column([str(frame.columns[i]) for i in others])
    if best is not None:
        return others[best]
    listed = ", ".join(repr(str(frame.columns[i])) for i in others[:_LISTED])
    listed += f" and {len(others) - _LISTED:,} more" if len(others) > _LISTED else ""
    raise InputError(
        f"labels must be in a column that can be told from the others; found {listed} in {source}. "
        "Call it cell_type."
    )
