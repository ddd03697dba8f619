"""What a file held and where it came from."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.sparse import csr_matrix

__all__ = ["Found", "describe", "sha256_of_counts", "sha256_of_files"]


@dataclass
class Found:
    """What a reader found in a file, before its names and values are checked."""

    x: csr_matrix
    """Values of shape (n_cells, n_genes), of the type they were stored in."""
    obs: pd.DataFrame
    """Cells, indexed by name."""
    var: pd.DataFrame
    """Genes, indexed by name; ``gene_ids`` and ``feature_types`` where the file has them."""
    format: str
    files: tuple[Path, ...]
    """Files that were read."""
    notes: list[str] = field(default_factory=list)
    """What was detected or assumed, one sentence each."""
    advice: str = "If the values are normalised, give the raw counts they were made from."
    """What to do if the values turn out to be no counts."""


def describe(
    name: str, form: str, sha256: str, notes: list[str], *, filtered: bool = False
) -> dict[str, dict[str, Any]]:
    """Return the value of ``uns["scarce"]``: the source of an AnnData.

    Parameters
    ----------
    name
        File, folder or data set name; never a path.
    form
        How it was read, such as ``"10x mtx folder"``.
    sha256
        Digest of its bytes.
    notes
        What was detected or assumed, one sentence each.
    filtered
        Quality control was done already and must not be done again.
    """
    return {
        "source": {
            "name": name,
            "format": form,
            "sha256": sha256,
            "notes": notes,
            "filtered": filtered,
        }
    }


def sha256_of_files(root: Path, files: tuple[Path, ...]) -> str:
    """Return the digest of a file's bytes, or of the names and bytes of the files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(files):
        if path != root:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sha256_of_counts(x: csr_matrix) -> str:
    """Return the digest of counts that were never in a file."""
    digest = hashlib.sha256(repr(x.shape).encode())
    for part, kind in ((x.indptr, "<i8"), (x.indices, "<i4"), (x.data, "<f4")):
        digest.update(part.astype(kind, copy=False).data)
    return digest.hexdigest()
