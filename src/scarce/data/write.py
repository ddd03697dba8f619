"""Write artefacts so that each is complete or absent, whatever happens in between.

A file is written under a temporary name in its folder, flushed to the disk and renamed; a
folder likewise. A reader, or a run killed at any moment, never sees half of one.
"""

import errno
import json as json_format
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scarce.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["atomic_path", "claim", "h5ad", "json", "new_directory", "table", "text"]

_MARKER = "summary.json"
"""What every finished run holds; only such a folder is ever replaced."""
_CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What systems put into every folder that is looked at."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def atomic_path(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` at the end.

    The temporary name ends like `path`, for writers that go by the suffix. After an error it
    is removed, and an older file at `path` is as it was.

    Raises
    ------
    InputError
        If the folder does not exist, may not be written to or has no space left.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    claim(path, temporary.touch)
    try:
        with _space_for(path):
            yield temporary
            _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def text(path: str | PathLike[str], content: str) -> None:
    """Write text as UTF-8, with line ends as they are."""
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")


def json(path: str | PathLike[str], content: object) -> None:
    """Write plain data, dataclasses, numpy arrays and numbers as JSON; NaN becomes null."""
    text(path, json_format.dumps(_plain(content), indent=2, ensure_ascii=False) + "\n")


def table(path: str | PathLike[str], frame: pd.DataFrame) -> None:
    """Write a table as comma-separated text, with its index unless that only counts rows.

    Text that a spreadsheet would take for a formula (starting with ``= + - @``) gets an
    apostrophe in front.
    """
    indexed = not isinstance(frame.index, pd.RangeIndex)
    frame = frame.rename(columns=_harmless, index=_harmless)
    frame = frame.apply(lambda column: column.map(_harmless) if _is_text(column) else column)
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=indexed, lineterminator="\n")


def h5ad(path: str | PathLike[str], adata: "AnnData") -> None:
    """Write an AnnData, compressed by gzip, whose checksum also finds flipped bits."""
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")


@contextmanager
def new_directory(
    path: str | PathLike[str], *, force: bool = False, replaced: Collection[str] = ()
) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` at the end.

    Parameters
    ----------
    path
        Folder to make; folders above it are made as needed.
    force
        Replace a folder that an earlier run made. The old one stays in place until the new
        one is complete, and after an error.
    replaced
        Names that the folder of a run may hold; one that holds anything else stays.

    Raises
    ------
    InputError
        Before anything is written: if `path` exists and `force` is not given, if it is no
        folder of an earlier run, or if its parent may not be written to. At the end: if
        another process has made it meanwhile; the new folder then has another name.
    """
    path = Path(path).expanduser().resolve()
    _require_replaceable(path, force, replaced)
    mark = secrets.token_hex(4)
    temporary = path.with_name(f".{path.name}.{mark}.new")
    old = path.with_name(f".{path.name}.{mark}.old")
    claim(path, lambda: temporary.mkdir(parents=True))
    try:
        with _space_for(path):
            yield temporary
            _flush_tree(temporary)
        if path.exists() and not force:
            kept = temporary.rename(path.with_name(f"{path.name}-{mark}"))
            raise InputError(
                f"--out must not exist; found that another run made {path} meanwhile. The results "
                f"of this one are in {kept}."
            )
        _swap(temporary, path, old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_replaceable(path: Path, force: bool, replaced: Collection[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"--out must be a directory; found a file, {path}.")
    if not force:
        raise InputError(
            f"--out must not exist yet; found {path}. Choose another directory or pass --force to "
            "replace it."
        )
    if path.is_mount():
        raise InputError(f"--out must be a folder that can be renamed; {path} is a mount point.")
    held = {found.name for found in path.iterdir()}
    others = sorted(held - {_MARKER, *replaced, *_CLUTTER})
    if held and _MARKER not in held:
        others.insert(0, f"no {_MARKER}")
    if others:
        raise InputError(
            "--force must only replace the directory of an earlier run and what that wrote; found "
            f"{others[0]} in {path}. Choose another directory, or empty this one yourself."
        )


def _swap(new: Path, path: Path, old: Path) -> None:
    """Put `new` at `path`; what was there goes to `old` for that moment, or back if it fails."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    _flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def claim(path: Path, make: Callable[[], None]) -> None:
    """Make a file or folder, or raise `InputError` where nothing may be written."""
    try:
        make()
    except OSError as error:
        raise InputError(
            f"{path} must be in a directory that may be written to; found: {error.strerror}. "
            "Choose another place."
        ) from error


@contextmanager
def _space_for(path: Path) -> Iterator[None]:
    """Turn a disk that fills up into one sentence; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise InputError(
                f"there must be space to write {path}; found none left. Free some, or choose "
                "another place."
            ) from error
        raise


def _flush(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


def _plain(value: object) -> object:
    """Turn nested data into what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column.dtype)


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
