"""A run's summary on disk: ``summary.json`` for facts, ``cells.npz`` for arrays, read back whole.

The two files together are the `RunSummary`, so a report or a figure can be drawn again without
the data, the models or torch.
"""

import json
import types
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from scarce.data import write
from scarce.errors import InputError
from scarce.summary import Cells, Expression, RunSummary

__all__ = ["load", "save"]

_FACTS, _ARRAYS = "summary.json", "cells.npz"
_NO_CELLS = Cells(np.empty(0, np.str_), np.empty(0, np.str_), {}, {}, {}, {})


def save(summary: RunSummary, directory: Path) -> None:
    """Write a summary into a folder, so that `load` returns an equal one."""
    facts = asdict(replace(summary, cells=_NO_CELLS))
    del facts["cells"]
    with write.atomic_path(directory / _ARRAYS) as path:
        np.savez_compressed(path, **dict[str, Any](_arrays(summary.cells)))
    # Last, because a folder with this file counts as that of a finished run.
    write.json(directory / _FACTS, facts)


def load(directory: str | Path) -> RunSummary:
    """Read the summary that `save` wrote.

    Raises
    ------
    InputError
        If the folder does not hold both files, or one of them is not what `save` writes.
    """
    directory = Path(directory).expanduser()
    for name in (_FACTS, _ARRAYS):
        if not (directory / name).is_file():
            raise InputError(
                f"RUN_DIR must be the folder of a finished run; found no {name} in {directory}. "
                "Make one with scarce run --out."
            )
    try:
        facts = json.loads((directory / _FACTS).read_text(encoding="utf-8"))
        with np.load(directory / _ARRAYS, allow_pickle=False) as arrays:
            cells = _cells(dict(arrays))
        summary: RunSummary = _restore(RunSummary, facts | {"cells": cells})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, BadZipFile) as error:
        raise InputError(
            f"{_FACTS} and {_ARRAYS} must be as scarce run wrote them; {directory}: "
            f"{type(error).__name__} {error}. Run scarce run again."
        ) from error
    return summary


def _arrays(cells: Cells) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every array by a name that says where it belongs: ``tsne2d/pca``."""
    for item in fields(cells):
        value = getattr(cells, item.name)
        if isinstance(value, dict):
            yield from ((f"{item.name}/{key}", inner) for key, inner in value.items())
        elif isinstance(value, Expression):
            counts = value.counts
            yield f"{item.name}/genes", value.genes
            yield f"{item.name}/shape", np.array(counts.shape)
            for part in ("data", "indices", "indptr"):
                yield f"{item.name}/{part}", getattr(counts, part)
        elif value is not None:
            yield item.name, value


def _cells(arrays: dict[str, NDArray[Any]]) -> Cells:
    found: dict[str, Any] = {item: {} for item in ("tsne2d", "tsne3d", "kmeans", "centroids")}
    for name, array in arrays.items():
        item, _, key = name.partition("/")
        if key:
            found.setdefault(item, {})[key] = array
        else:
            found[item] = array
    if kept := found.get("expression"):
        parts = (kept["data"], kept["indices"], kept["indptr"])
        counts = csc_matrix(parts, shape=tuple(kept["shape"]))
        found["expression"] = Expression(kept["genes"], counts)
    return Cells(**found)


def _restore(kind: Any, value: Any) -> Any:  # noqa: ANN401
    """Give plain data from JSON the types that the summary's fields name."""
    arguments = get_args(kind)
    if value is None:
        return np.nan if kind is float else None
    if is_dataclass(kind):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        hints = get_type_hints(kind)
        return kind(**{name: _restore(hints[name], inner) for name, inner in value.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_restore(arguments[0], inner) for inner in value)
    if get_origin(kind) is dict:
        return {key: _restore(arguments[1], inner) for key, inner in value.items()}
    if get_origin(kind) is types.UnionType:
        return _restore(arguments[0], value)
    if get_origin(kind) is np.ndarray:
        return np.array(value, dtype=np.float64)
    return value
