"""What the explorer reads is what the summary holds, as an unpacker written apart finds it."""

import base64
import dataclasses
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scarce.report.payload import _stream, payload
from scarce.summary import RunSummary
from summaries import TITLES, make_summary


class Packed:
    """The text as the page's script would read it."""

    def __init__(self, text: str) -> None:
        raw = zlib.decompress(base64.b64decode(text), wbits=-15)
        (self.size,) = struct.unpack_from("<I", raw)
        self.header = json.loads(raw[8 : 8 + self.size])
        self.raw = raw

    def array(self, number: int) -> NDArray[np.generic]:
        place = self.header["arrays"][number]
        start = 8 + self.size + place["start"]
        assert start % 8 == 0
        dtype = np.dtype(place["dtype"].lower())
        return np.frombuffer(self.raw, dtype, place["length"], start)

    def column(self, column: dict[str, float]) -> NDArray[np.float64]:
        share = self.array(int(column["values"])).astype(float) / 255
        return column["low"] + share * (column["high"] - column["low"])

    def counts(self, n_cells: int) -> NDArray[np.int64]:
        genes = self.header["genes"]
        dense = np.zeros((n_cells, len(genes["names"])), np.int64)
        for gene in range(dense.shape[1]):
            gaps, counts = (
                self.numbers(genes[name], genes[ends], gene)
                for name, ends in (("gaps", "gap_ends"), ("counts", "count_ends"))
            )
            dense[np.cumsum(gaps, dtype=np.int64), gene] = counts
        return dense

    def numbers(self, stream: int, ends: int, gene: int) -> list[int]:
        low, high = self.array(ends)[gene : gene + 2]
        return decode(self.array(stream)[low:high])


def decode(stream: NDArray[np.generic]) -> list[int]:
    found, total = [], 0
    for byte in stream.tolist():
        total += byte
        if byte < 255:
            found.append(total)
            total = 0
    return found


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary()


@pytest.fixture(scope="module")
def packed(summary: RunSummary) -> Packed:
    return Packed(payload(summary))


def test_cells_keep_their_names_and_types(summary: RunSummary, packed: Packed) -> None:
    header, cells = packed.header, summary.cells
    assert header["barcodes"] == cells.barcodes.tolist()
    types = [header["types"][i]["name"] for i in packed.array(header["type_of"]).tolist()]
    assert types == cells.labels.tolist()
    assert [model["title"] for model in header["models"]] == list(TITLES.values())


def test_maps_keep_their_shape_to_a_sixty_thousandth(summary: RunSummary, packed: Packed) -> None:
    for model, found in zip(TITLES, packed.header["models"], strict=True):
        for key, points in (
            ("flat", summary.cells.tsne2d[model]),
            ("solid", summary.cells.tsne3d[model]),
        ):
            axes = np.transpose([packed.array(axis).astype(float) for axis in found[key]])
            extent = np.ptp(points, axis=0).max()
            moved = points - (points.min(axis=0) + points.max(axis=0)) / 2
            np.testing.assert_allclose((axes - 32767) / 65534, moved / extent, atol=1e-5)


def test_clusters_latents_and_quality_are_those_of_the_run(
    summary: RunSummary, packed: Packed
) -> None:
    cells = summary.cells
    for model, found in zip(TITLES, packed.header["models"], strict=True):
        np.testing.assert_array_equal(packed.array(found["kmeans"]), cells.kmeans[model])
        np.testing.assert_array_equal(packed.array(found["leiden"]), cells.leiden[model])
        for key, values in (("latents", cells.latents), ("inclusion", cells.inclusion)):
            assert len(found[key]) == (values[model].shape[1] if model in values else 0)
            for k, column in enumerate(found[key]):
                exact = values[model][:, k]
                step = np.ptp(exact) / 255
                np.testing.assert_allclose(packed.column(column), exact, atol=0.51 * step)
    for found in packed.header["quality"]:
        exact = cells.quality[found["name"]].astype(np.float32)
        np.testing.assert_array_equal(packed.array(found["values"]), exact)


def test_counts_of_genes_are_exact(summary: RunSummary, packed: Packed) -> None:
    kept = summary.cells.expression
    assert kept is not None
    assert packed.header["genes"]["names"] == kept.genes.tolist()
    np.testing.assert_array_equal(packed.counts(700), kept.counts.toarray())


def test_genes_are_left_out_from_the_end_until_the_rest_fits(summary: RunSummary) -> None:
    kept = summary.cells.expression
    assert kept is not None
    whole = Packed(payload(summary))
    room = 2_000
    some = Packed(payload(summary, room=room))
    names = some.header["genes"]["names"]
    assert 0 < len(names) < len(kept.genes)
    assert names == kept.genes[: len(names)].tolist()
    assert some.header["genes"]["n_all"] == len(whole.header["genes"]["names"])
    np.testing.assert_array_equal(some.counts(700), kept.counts[:, : len(names)].toarray())
    none = Packed(payload(summary, room=0))
    assert none.header["genes"]["names"] == []


@given(st.lists(st.integers(0, 2_000)))
def test_whole_numbers_of_any_size_survive_as_bytes(values: list[int]) -> None:
    stream, ends = _stream(np.array(values, dtype=np.int64), np.array([0, len(values)]))
    assert decode(stream) == values
    assert ends.tolist() == [0, len(stream)]


def test_only_cells_that_are_drawn_are_packed(summary: RunSummary) -> None:
    drawn = np.array([1, 5, 600])
    kept = summary.cells.expression
    assert kept is not None
    cells = dataclasses.replace(
        summary.cells,
        drawn=drawn,
        expression=dataclasses.replace(kept, counts=kept.counts[drawn]),
    )
    packed = Packed(payload(dataclasses.replace(summary, cells=cells)))
    assert (packed.header["n_cells"], packed.header["n_all"]) == (3, 700)
    assert packed.header["barcodes"] == summary.cells.barcodes[drawn].tolist()
    np.testing.assert_array_equal(packed.counts(3), kept.counts.toarray()[drawn])


def test_without_maps_nothing_is_packed(summary: RunSummary) -> None:
    cells = dataclasses.replace(summary.cells, tsne3d={})
    assert payload(dataclasses.replace(summary, cells=cells)) == ""
