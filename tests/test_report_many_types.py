"""The page in a browser with more types than can be named: what a hand does to a selection."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from page import sketch
from reader import CHROMIUM, WITH_GL, Reader, playwright, reading
from scarce.summary import RunSummary
from summaries import make_summary

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

N_TYPES = 45


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    types = tuple(f"type {i}" for i in range(N_TYPES))
    titles = {"bvae": "β-VAE", "bvsc": "β-VSC"}
    return make_summary(n_cells=300, types=types, barcode="a long name " * 9, titles=titles)


@pytest.fixture(scope="module")
def opened(summary: RunSummary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    path = Path(tmp_path_factory.mktemp("page")) / "report.html"
    path.write_text(sketch(summary), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=WITH_GL)
        with reading(browser, path.as_uri()) as reader:
            yield reader
        browser.close()


@pytest.fixture
def reader(opened: Reader) -> Reader:
    opened.fresh()
    return opened


def test_names_cannot_be_asked_for_where_there_are_too_many(reader: Reader) -> None:
    assert reader.page.is_disabled("#names")
    assert reader.page.locator(".name").count() == 0


def test_types_beyond_the_first_twelve_are_summed(reader: Reader, summary: RunSummary) -> None:
    reader.page.check("#lasso")
    reader.encircle("flat")
    *first, last = reader.page.inner_text("#type-mix").split("\n")
    assert len(first) == 12
    rest = sum(sorted(summary.labels.counts.values())[:-12])
    assert last.split("\t") == [
        f"{N_TYPES - 12} other types",
        str(rest),
        f"{rest / 3:.0f} %",
        "100 %",
    ]


def test_a_cluster_is_mostly_a_type_only_with_more_than_half(
    reader: Reader, summary: RunSummary
) -> None:
    reader.page.select_option("#colour", "kmeans")
    said = reader.page.locator("#legend button").evaluate_all(
        "all => all.map(b => ['span', 'i'].map(tag => b.querySelector(tag)?.textContent))"
    )
    assert len({words.split()[0] for _, words in said if words}) == 2
    clusters = summary.cells.kmeans["bvae"]
    for cluster, words in said:
        types = Counter(summary.cells.labels[clusters == int(cluster)].tolist())
        if types:
            (_, most), n = types.most_common(1)[0], types.total()
            assert words.startswith("mostly") == (2 * most > n)
            assert words.startswith("mostly") or words.endswith(f", {100 * most / n:.0f} %")


def test_only_a_single_press_on_a_cell_changes_what_is_selected(
    reader: Reader, summary: RunSummary
) -> None:
    points = summary.cells.tsne2d["bvae"]
    spot = reader.place(points, int(np.argmax(points[:, 1])))
    reader.page.check("#lasso")
    reader.encircle("flat", high=0.5)
    encircled = reader.size_said()
    assert encircled.endswith("encircled")
    box = reader.page.locator("#flat canvas").bounding_box()
    assert box is not None
    reader.page.mouse.click(box["x"] + 3, box["y"] + 3)
    assert reader.size_said() == encircled
    reader.page.wait_for_timeout(600)  # or the next press would be the second of two
    reader.page.mouse.dblclick(*spot)
    assert reader.size_said() == encircled
    reader.page.wait_for_timeout(600)
    reader.page.mouse.click(*spot)
    assert "Cell type: type" in reader.size_said()


def test_what_is_said_of_a_cell_stays_on_its_map(reader: Reader, summary: RunSummary) -> None:
    points = summary.cells.tsne2d["bvae"]
    reader.page.mouse.move(*reader.place(points, int(np.argmin(points[:, 1]))))
    tip, flat = (reader.page.locator(name).bounding_box() for name in ("#tip", "#flat"))
    assert tip is not None
    assert flat is not None
    assert flat["y"] <= tip["y"]
    assert tip["y"] + tip["height"] <= flat["y"] + flat["height"]


def test_folded_cards_and_wide_tables_are_printed(reader: Reader) -> None:
    assert not reader.sees("details .programme")
    reader.page.emulate_media(media="print")
    reader.page.set_viewport_size({"width": 680, "height": 1000})  # A4 within its margins
    printed = reader.sees("details .programme")
    wide = reader.page.locator("table").evaluate_all(
        "all => all.map(t => t.getBoundingClientRect().right)"
    )
    reader.page.emulate_media(media="screen")
    reader.page.set_viewport_size({"width": 1300, "height": 1100})
    assert printed
    assert max(wide) <= 680
