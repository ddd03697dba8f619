"""The file that says what a saved model is."""

import json
from pathlib import Path
from typing import Any

from scarce.errors import InputError

__all__ = ["FORMAT", "about", "about_any", "tuples"]

FORMAT = 1
"""Version of the saved format; a reader accepts every version up to its own."""


def about_any(directory: Path) -> dict[str, Any]:
    """Return the content of ``model.json``, of whatever model.

    Raises
    ------
    InputError
        If there is none.
    """
    path = directory / "model.json"
    if not path.is_file():
        raise InputError(f"a saved model must hold model.json; found none in {directory}.")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def about(directory: Path, model: str) -> dict[str, Any]:
    """Return the content of ``model.json`` after checking that it is the right one."""
    found = about_any(directory)
    if found["model"] != model:
        raise InputError(f"the model must be a {model}; {directory} holds a {found['model']}.")
    if found["format"] > FORMAT:
        raise InputError(
            f"the format must be at most {FORMAT}; {directory} has {found['format']}. "
            "Install a newer scarce."
        )
    return found


def tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Lists, as JSON holds them, back to tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
