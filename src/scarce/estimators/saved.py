"""The file that says what a saved model is."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from scarce.errors import InputError
from scarce.train import History

__all__ = ["FORMAT", "about", "history", "intact", "options", "tuples"]

FORMAT = 1
"""Version of the saved format; a reader accepts every version up to its own."""

_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
)
"""What reading files that are not as they were written ends in."""


def about(directory: Path, model: str | None = None) -> dict[str, Any]:
    """Return the content of ``model.json``.

    Raises
    ------
    InputError
        If there is none, of a newer format, or of another model than the one that is wanted.
    """
    path = directory / "model.json"
    if not path.is_file():
        raise InputError(f"a saved model must hold model.json; found none in {directory}.")
    with intact(directory):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, kind = int(found["format"]), found["model"]
    if version > FORMAT:
        raise InputError(
            f"the format must be at most {FORMAT}; {directory} has {version}. "
            "Install a newer scarce."
        )
    if model is not None and kind != model:
        raise InputError(
            f"the model must be of kind {model}; {directory} holds one of kind {kind}."
        )
    return found


@contextmanager
def intact(directory: Path) -> Iterator[None]:
    """Turn what goes wrong when damaged files are read into an `InputError`."""
    try:
        yield
    except _DAMAGE as error:
        raise InputError(
            f"a saved model must be as save wrote it; {directory}: {type(error).__name__} {error}. "
            "Fit and save it again."
        ) from error


def options(found: dict[str, Any], model: type) -> dict[str, Any]:
    """Return the constructor arguments, groups of them as the dataclasses they were."""
    groups: dict[str, Any] = {
        f.name: type(f.default) for f in fields(model) if is_dataclass(f.default)
    }
    given = tuples(found["options"])
    return {k: groups[k](**tuples(v)) if k in groups else v for k, v in given.items()}


def history(found: dict[str, Any]) -> History:
    """Return the course of training; a loss that was no number, which JSON lacks, is NaN again."""
    given = dict(found["history"])
    losses = {
        name: [math.nan if v is None else v for v in of] for name, of in given["losses"].items()
    }
    return History(**(given | {"losses": losses}))


def tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Lists, as JSON holds them, back to tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
