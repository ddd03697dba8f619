"""What the explorer reads is what the summary holds, as an unpacker written apart finds it."""

import base64
import dataclasses
import json
import re
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scarce.report import render
from scarce.report.payload import Payload, _stream, payload
from scarce.summary import RunSummary
from summaries import TITLES, make_summary, many_cells


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
    return Packed(payload(summary).text)


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
    whole = Packed(payload(summary).text)
    room = 2_000
    some = Packed(payload(summary, room_of_genes=room).text)
    names = some.header["genes"]["names"]
    assert 0 < len(names) < len(kept.genes)
    assert names == kept.genes[: len(names)].tolist()
    assert some.header["genes"]["n_all"] == len(whole.header["genes"]["names"])
    np.testing.assert_array_equal(some.counts(700), kept.counts[:, : len(names)].toarray())
    none = Packed(payload(summary, room_of_genes=0).text)
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
    packed = Packed(payload(dataclasses.replace(summary, cells=cells)).text)
    assert packed.header["n_cells"] == 3
    assert packed.header["barcodes"] == summary.cells.barcodes[drawn].tolist()
    np.testing.assert_array_equal(packed.counts(3), kept.counts.toarray()[drawn])


def test_without_maps_nothing_is_packed(summary: RunSummary) -> None:
    cells = dataclasses.replace(summary.cells, tsne3d={})
    assert payload(dataclasses.replace(summary, cells=cells)) == Payload("", 0)


def crowd(n_cells: int, n_latent: int) -> RunSummary:
    """Return a summary with codes as wide as that, in which nothing repeats itself."""
    summary = many_cells(n_cells, 30)
    generator = np.random.default_rng(0)
    codes = {"bvae": generator.normal(size=(n_cells, n_latent))}
    cells = dataclasses.replace(summary.cells, latents=codes, inclusion=codes)
    return dataclasses.replace(summary, cells=cells)


@pytest.mark.parametrize("room", [60_000, 150_000, 400_000])
def test_as_many_cells_are_packed_as_there_is_room_for(room: int) -> None:
    summary = crowd(12_000, 24)
    cells, kept = summary.cells, summary.cells.expression
    assert kept is not None
    found = payload(summary, room=room)
    packed = Packed(found.text)
    assert 0.8 * room < len(found.text) <= room
    assert 0 < found.n_cells == packed.header["n_cells"] < 12_000
    place = {barcode: i for i, barcode in enumerate(cells.barcodes.tolist())}
    part = np.array([place[barcode] for barcode in packed.header["barcodes"]])
    types = [packed.header["types"][i]["name"] for i in packed.array(packed.header["type_of"])]
    assert types == cells.labels[part].tolist()
    for label, size in summary.labels.counts.items():
        assert abs(types.count(label) - size * len(part) / 12_000) < 1
    genes = len(packed.header["genes"]["names"])
    assert genes > 0
    np.testing.assert_array_equal(packed.counts(len(part)), kept.counts[:, :genes].toarray()[part])


def test_without_room_there_is_no_cell(summary: RunSummary) -> None:
    for room in (-5, 0, 400):
        assert payload(summary, room=room) == Payload("", 0)


@pytest.mark.slow
def test_the_page_of_very_many_cells_with_wide_codes_is_small_enough() -> None:
    page = render(crowd(150_000, 128), figures={})
    assert 20e6 < len(page.encode()) <= 25e6


def test_a_page_says_that_it_leaves_cells_out_and_is_no_larger_than_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = crowd(12_000, 24)
    most = len(render(summary, figures={}).encode()) - 200_000
    # The function of that name hides the module.
    monkeypatch.setattr(sys.modules["scarce.report.render"], "_MOST_BYTES", most)
    page = render(summary, figures={})
    assert most - 100_000 < len(page.encode()) <= most
    n_cells = payload(summary, room=most).n_cells
    (said,) = re.findall(r"in space, ([\d,]+) of the 12,000 cells, every type by its share", page)
    assert 0 < int(said.replace(",", "")) <= n_cells
    assert f"12,000 of 12,000 cells, {said} of them in the explorer" in page
    assert "More cells would make this file larger" in page
