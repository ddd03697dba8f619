"""Sets of genes from GMT files: one set per line, name, description and genes apart by tabs."""

from os import PathLike
from pathlib import Path
from typing import TypeAlias

from scarce.errors import InputError

__all__ = ["read_gmt"]

GeneSets: TypeAlias = dict[str, tuple[str, ...]]
"""Name of a set to its genes."""


def read_gmt(path: str | PathLike[str], *, flag: str = "--gmt") -> GeneSets:
    """Read gene sets.

    Parameters
    ----------
    path
        GMT file, UTF-8.
    flag
        What the file was given by, for messages.

    Raises
    ------
    InputError
        If the file is missing or no text, a line has no gene, or a name comes twice.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{flag} must be a GMT file of gene sets; {path}: {error}.") from error
    sets: GeneSets = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *fields = (field.strip() for field in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in fields[1:] if gene))
        if not name or not genes:
            raise InputError(
                "every line of a GMT file must hold a name, a description and genes, apart by "
                f"tabs; found {line[:60]!r} in line {number} of {path.name}. Correct that line."
            )
        if name in sets:
            raise InputError(
                f"each gene set must have a name of its own; found {name[:60]!r} again in line "
                f"{number} of {path.name}. Rename one of the two."
            )
        sets[name] = genes
    if not sets:
        raise InputError(
            f"{flag} must name at least one gene set; found none in {path.name}. Write lines "
            "such as: name, tab, description, tab, genes apart by tabs."
        )
    return sets
