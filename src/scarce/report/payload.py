"""What the page's explorer reads: every number it can show, packed into one compressed text.

The text is base64 of raw deflate of: the length of a header (eight bytes, little endian), the
header (ASCII JSON, padded to a multiple of eight), and typed arrays, each at an offset that
is a multiple of eight. ``"dtype"``, ``"start"`` (bytes after the header) and ``"length"``
(entries) of every array stand in the header. A browser undoes this with ``DecompressionStream``.

The text fits into the room it is given, whatever the run: genes take a part of it, and of the
cells as many are packed as fit into the rest, every type by its share.
"""

import base64
import json
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from scarce.report.maps import drawn_cells
from scarce.report.palette import SHAPES, styles
from scarce.report.tables import first_runs
from scarce.sampling import keep_shares
from scarce.summary import Cells, Expression, RunSummary

__all__ = ["Payload", "payload"]

_ROOM = 20_000_000
"""Characters of the text at most, unless the page says otherwise."""
_ROOM_OF_GENES = 6_000_000
"""Bytes the counts of genes may take, compressed, and no more than half of the room."""
_PROBE = 5_000
"""Cells whose compressed size tells that of all."""
_STEP = 255
_DTYPES = {"u1": "Uint8", "u2": "Uint16", "u4": "Uint32", "f4": "Float32"}


@dataclass(frozen=True)
class Payload:
    """Cells as the page's script reads them."""

    text: str
    """Empty if no model has both maps, or if there is no room for a single cell."""
    n_cells: int
    """How many cells are in it."""


def payload(
    summary: RunSummary, *, room: int = _ROOM, room_of_genes: int = _ROOM_OF_GENES
) -> Payload:
    """Pack the cells of a run for the explorer.

    Parameters
    ----------
    summary
        What the run did and found.
    room
        Characters the text may have; cells are left out until it has no more, of every type
        by its share.
    room_of_genes
        Bytes that counts of genes may take; the last genes are left out until they fit.
    """
    drawn = drawn_cells(summary)
    n_bytes = max(room, 0) * 3 // 4  # of which base64 makes the text
    room_of_genes = min(room_of_genes, n_bytes // 2)
    n_cells = _most_cells(summary, drawn, n_bytes, room_of_genes)
    while n_cells:
        part = keep_shares(summary.cells.labels[drawn], n_cells)
        packed = _deflate(_pack(summary, drawn, part, room_of_genes))
        if len(packed) <= n_bytes - 2:
            return Payload(base64.b64encode(packed).decode("ascii"), n_cells)
        n_cells = min(n_cells - 1, int(0.98 * n_cells))
    return Payload("", 0)


def _most_cells(
    summary: RunSummary, drawn: NDArray[np.int64], n_bytes: int, room_of_genes: int
) -> int:
    """Return about how many cells fit with their genes; 0 where there is nothing to see.

    n cells take n a bytes, and their genes n b or `room_of_genes` if that is less.
    """
    if not _mapped(summary):
        return 0
    probe = keep_shares(summary.cells.labels[drawn], _PROBE)
    bare, whole = (len(_deflate(_pack(summary, drawn, probe, room))) for room in (0, room_of_genes))
    most = max(n_bytes / whole, (n_bytes - room_of_genes) / bare)
    return min(len(drawn), int(most * len(probe)))


def _mapped(summary: RunSummary) -> list[tuple[str, str]]:
    """Return name and title of every model that has both maps."""
    cells = summary.cells
    return [
        (model, run.title)
        for model, run in first_runs(summary).items()
        if model in cells.tsne2d and model in cells.tsne3d
    ]


def _pack(
    summary: RunSummary, drawn: NDArray[np.int64], part: NDArray[np.int64], room_of_genes: int
) -> bytes:
    """Return header and arrays of some of the drawn cells, not compressed."""
    cells, look, kept = summary.cells, styles(summary.labels.counts), drawn[part]
    arrays = _Arrays()
    rank = {label: i for i, label in enumerate(look)}
    types = np.array([rank[label] for label in cells.labels[kept].tolist()])
    header = {
        "n_cells": len(kept),
        "barcodes": cells.barcodes[kept].tolist(),
        "types": [
            {
                "name": label,
                "colour": style.colour,
                "shape": SHAPES.index(style.shape),
                "path": style.shape.path,
                "filled": style.shape.filled,
            }
            for label, style in look.items()
        ],
        "type_of": arrays.add(types, "u2"),
        "models": [_model(arrays, cells, kept, model, title) for model, title in _mapped(summary)],
        "quality": [
            {"name": name, "values": arrays.add(values[kept], "f4")}
            for name, values in cells.quality.items()
        ],
        "genes": _genes(arrays, cells.expression, part, room_of_genes),
        "arrays": arrays.places,
    }
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(arrays.parts)


class _Arrays:
    """Typed arrays one after the other, and where each lies."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.places: list[dict[str, object]] = []
        self.end = 0

    def add(self, values: NDArray[np.generic], dtype: str) -> int:
        """Append an array; return its number."""
        part = values.astype(f"<{dtype}").tobytes()
        self.places.append({"dtype": _DTYPES[dtype], "start": self.end, "length": values.size})
        part += b"\0" * (-len(part) % 8)
        self.parts.append(part)
        self.end += len(part)
        return len(self.places) - 1


def _model(
    arrays: _Arrays, cells: Cells, kept: NDArray[np.int64], model: str, title: str
) -> dict[str, object]:
    """Describe one model: maps, clusters, latents and inclusion probabilities."""
    found: dict[str, object] = {
        "title": title,
        "flat": _map(arrays, cells.tsne2d[model][kept]),
        "solid": _map(arrays, cells.tsne3d[model][kept]),
        "latents": _columns(arrays, cells.latents.get(model), kept),
        "inclusion": _columns(arrays, cells.inclusion.get(model), kept),
    }
    for name, clusters in (("kmeans", cells.kmeans), ("leiden", cells.leiden)):
        found[name] = arrays.add(clusters[model][kept], "u2") if model in clusters else None
    return found


def _map(arrays: _Arrays, points: NDArray[np.float64]) -> list[int]:
    """Store each axis as 16-bit steps of the longest one, whose middle is 32767."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    steps = np.round(32767 + 65534 * (points - (low + high) / 2) / extent)
    return [arrays.add(axis, "u2") for axis in steps.T]


def _columns(
    arrays: _Arrays, values: NDArray[np.float64] | None, kept: NDArray[np.int64]
) -> list[dict[str, object]]:
    """Store each column in 255 steps between its smallest and its largest value."""
    if values is None:
        return []
    found: list[dict[str, object]] = []
    for column in values[kept].T:
        low, high = float(column.min()), float(column.max())
        steps = np.round(255 * (column - low) / ((high - low) or 1.0))
        found.append({"values": arrays.add(steps, "u1"), "low": low, "high": high})
    return found


def _genes(
    arrays: _Arrays, kept: Expression | None, part: NDArray[np.int64], room: int
) -> dict[str, object]:
    """Store counts gene by gene: gaps between the cells that have it, and how many each has."""
    n_all = 0 if kept is None else len(kept.genes)
    if kept is None or room <= 0:
        return {"names": [], "n_all": n_all}
    counts = kept.counts
    if len(part) < counts.shape[0]:
        counts = csc_matrix(csr_matrix(counts)[part])
        counts.sort_indices()
    gaps = np.diff(counts.indices, prepend=0)
    starts = counts.indptr[:-1][np.diff(counts.indptr) > 0]
    gaps[starts] = counts.indices[starts]
    streams = [_stream(values, counts.indptr) for values in (gaps, counts.data)]
    n_genes = n_all
    while n_genes:
        parts = [values[: ends[n_genes]] for values, ends in streams]
        size = sum(len(_deflate(part.tobytes())) for part in parts)
        if size <= room:
            break
        n_genes = min(n_genes - 1, int(n_genes * room / size))
    (gap_bytes, gap_ends), (count_bytes, count_ends) = streams
    return {
        "names": kept.genes[:n_genes].tolist(),
        "n_all": n_all,
        "gaps": arrays.add(gap_bytes[: gap_ends[n_genes]], "u1"),
        "gap_ends": arrays.add(gap_ends[: n_genes + 1], "u4"),
        "counts": arrays.add(count_bytes[: count_ends[n_genes]], "u1"),
        "count_ends": arrays.add(count_ends[: n_genes + 1], "u4"),
    }


def _stream(
    values: NDArray[np.integer], indptr: NDArray[np.integer]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Write whole numbers as bytes, 255 meaning "255 and what follows"; and each gene's ends."""
    ends = np.cumsum(values // _STEP + 1)
    stream = np.full(int(ends[-1]) if len(ends) else 0, _STEP, dtype=np.uint8)
    stream[ends - 1] = values % _STEP
    return stream, np.concatenate([[0], ends])[indptr]


def _deflate(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(raw) + packer.flush()
