"""The page works in a browser: linked maps, selections, and still pictures where it cannot."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reader import (
    CHROMIUM,
    WITH_GL,
    WITHOUT_GL,
    Reader,
    playwright,
    reading,
    saturated,
    share_of,
)
from scarce.report import render
from scarce.report.palette import COLOURS
from scarce.summary import RunSummary
from summaries import make_summary, many_cells

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

HOSTILE = "<a href='https://example.org'>T</a> & <b>co</b>"
FORMULA = '=HYPERLINK("https://example.org","x")'
TYPES = ("B cell", "NK cell", HOSTILE, FORMULA)

# Draws at once, waits for the pixels, and says how many milliseconds both maps took.
TIMED = """async (act) => {
  const drawn = () => {
    for (const canvas of document.querySelectorAll('.map canvas')) {
      const gl = canvas.getContext('webgl2');
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    }
  };
  const start = performance.now();
  const target = document.getElementById(act.id);
  if (act.value === undefined) target.querySelector(act.inside).click();
  else {
    target.value = act.value;
    target.dispatchEvent(new Event(act.event, { bubbles: true }));
  }
  await new Promise((done) => requestAnimationFrame(() => { drawn(); done(); }));
  return performance.now() - start;
}"""


# Words of Latin letters that run from right to left.
REVERSED = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  const box = (node, at) => {
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    return range.getBoundingClientRect();
  };
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (const word of node.data.matchAll(/[A-Za-z]{3,}/g)) {
      const [first, last] = [0, word[0].length - 1].map((i) => box(node, word.index + i));
      if (first.top === last.top && first.left > last.left) found.push(word[0]);
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary(
        n_cells=120,
        types=TYPES,
        barcode=HOSTILE,
        titles={"pca": "PCA", "bvae": "β-VAE", "bvsc": "β-VSC"},
    )


@pytest.fixture(scope="module")
def address(summary: RunSummary, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = Path(tmp_path_factory.mktemp("page")) / "report.html"
    path.write_text(render(summary), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def driver() -> Iterator["playwright.Playwright"]:
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(driver: "playwright.Playwright") -> Iterator["playwright.Browser"]:
    launched = driver.chromium.launch(executable_path=CHROMIUM, args=WITH_GL)
    yield launched
    launched.close()


@pytest.fixture(scope="module")
def opened(browser: "playwright.Browser", address: str) -> Iterator[Reader]:
    with reading(browser, address) as reader:
        yield reader


@pytest.fixture
def reader(opened: Reader) -> Reader:
    opened.fresh()
    return opened


def test_page_opens_without_an_error_or_a_request(reader: Reader) -> None:
    assert reader.errors == []
    assert reader.requests
    assert all(url.startswith(("file:", "data:", "blob:")) for url in reader.requests)


@pytest.mark.parametrize("identifier", ["flat", "solid"])
def test_maps_are_drawn_in_the_colours_of_the_figures(reader: Reader, identifier: str) -> None:
    pixels = reader.pixels(identifier)
    assert not reader.sees(".stills")
    assert all(share_of(colour, pixels) > 5e-4 for colour in COLOURS[:3])


def test_choosing_a_model_changes_the_maps_and_keeps_the_viewpoint_in_space(
    reader: Reader,
) -> None:
    reader.page.focus("#solid")
    reader.page.keyboard.press("ArrowLeft")
    reader.settle()
    turned = reader.pixels("solid")
    before = reader.pixels("flat")
    reader.page.select_option("#model", label="β-VAE")
    reader.settle()
    assert (reader.pixels("flat") != before).any(axis=2).mean() > 1e-3
    assert "2-D map of β-VAE" in str(reader.page.get_attribute("#flat", "aria-label"))
    reader.page.select_option("#model", label="PCA")
    reader.settle()
    np.testing.assert_array_equal(reader.pixels("solid"), turned)


def test_arrow_keys_turn_the_map_in_space_and_move_the_flat_one(reader: Reader) -> None:
    for identifier in ("flat", "solid"):
        before = reader.pixels(identifier)
        reader.page.focus(f"#{identifier}")
        reader.page.keyboard.press("ArrowLeft")
        reader.settle()
        assert (reader.pixels(identifier) != before).any(axis=2).mean() > 1e-3
        reader.page.keyboard.press("0")
        reader.settle()
        np.testing.assert_array_equal(reader.pixels(identifier), before)


def test_every_cell_in_space_is_in_sight_however_the_map_is_turned(
    browser: "playwright.Browser", tmp_path: Path
) -> None:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)] * 3, float)
    summary = make_summary(n_cells=24, types=("one", "two"), titles={"bvae": "β-VAE"})
    cells = dataclasses.replace(summary.cells, tsne3d={"bvae": corners})
    path = tmp_path / "report.html"
    bare = dataclasses.replace(summary, cells=cells, scores=())
    path.write_text(render(bare, figures={}), "utf-8")
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    reader = Reader(page, path.as_uri())
    reader.wait()
    for key in ("0", *["ArrowLeft"] * 4, *["ArrowDown"] * 4):
        page.focus("#solid")
        page.keyboard.press(key)
        reader.settle()
        pixels = reader.pixels("solid")
        assert (pixels < 0.9).any()
        rim = [pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]]
        assert all((side > 0.99).all() for side in rim)
    page.close()


def test_zoom_is_kept_when_the_colour_changes(reader: Reader) -> None:
    reader.page.focus("#flat")
    for _ in range(4):
        reader.page.keyboard.press("+")
    reader.settle()
    zoomed = reader.pixels("flat")
    reader.page.select_option("#colour", "kmeans")
    reader.page.select_option("#colour", "types")
    reader.settle()
    np.testing.assert_array_equal(reader.pixels("flat"), zoomed)


@pytest.mark.parametrize(
    "key", ["kmeans", "leiden", "quality counts", "quality mitochondrial %", "latent 2"]
)
def test_every_kind_of_colour_is_drawn_on_both_maps(reader: Reader, key: str) -> None:
    before = [reader.pixels(identifier) for identifier in ("flat", "solid")]
    reader.page.select_option("#colour", key)
    reader.settle()
    for old, identifier in zip(before, ("flat", "solid"), strict=True):
        changed = (reader.pixels(identifier) != old).any(axis=2).mean()
        # Where clusters are the types, they look the same.
        assert changed > 1e-3 or key in {"kmeans", "leiden"}
    assert reader.errors == []


def test_inclusion_probabilities_are_offered_where_there_are_any(reader: Reader) -> None:
    offered = {}
    for title in ("β-VAE", "β-VSC"):
        reader.page.select_option("#model", label=title)
        offered[title] = reader.page.locator("#colour option[value^=inclusion]").count()
    assert offered == {"β-VAE": 0, "β-VSC": 4}
    reader.page.select_option("#colour", "inclusion 1")
    assert [reader.page.inner_text(f"#ramp-{end}") for end in ("low", "high")] == ["0", "1"]


def test_a_gene_is_found_by_its_beginning_and_coloured_by(
    reader: Reader, summary: RunSummary
) -> None:
    reader.page.fill("#gene", "nk")
    offered = reader.page.locator("#genes option")
    assert offered.evaluate_all("all => all.map(o => o.value)")[0] == "NK cell gene"
    reader.page.press("#gene", "Enter")
    assert reader.page.input_value("#gene") == "NK cell gene"
    assert "NK cell gene" in reader.page.inner_text("#ramp-title")
    kept = summary.cells.expression
    assert kept is not None
    column = kept.counts[:, 1].toarray().ravel()
    highest = np.log1p(1e4 * column / summary.cells.quality["counts"]).max()
    assert float(reader.page.inner_text("#ramp-high")) == pytest.approx(highest, abs=5e-3)


def test_an_unknown_gene_is_named(reader: Reader) -> None:
    reader.page.fill("#gene", "NOSUCH")
    reader.page.press("#gene", "Enter")
    assert "No gene called NOSUCH among the 14" in reader.page.inner_text("#explorer-status")


def test_a_press_in_the_key_lights_up_one_type_on_both_maps(reader: Reader) -> None:
    strong = [saturated(reader.pixels(identifier)) for identifier in ("flat", "solid")]
    reader.page.locator("#legend button").nth(1).click()
    reader.settle()
    for identifier, before in zip(("flat", "solid"), strong, strict=True):
        pixels = reader.pixels(identifier)
        assert saturated(pixels) < 0.8 * before
        assert share_of(COLOURS[1], pixels) > 5e-4
        assert share_of(COLOURS[0], pixels) < 1e-4
    assert reader.page.locator("#legend button").nth(1).get_attribute("aria-pressed") == "true"
    reader.page.locator("#legend button").nth(1).click()
    reader.settle()
    assert saturated(reader.pixels("flat")) == pytest.approx(strong[0], abs=1e-6)


def test_keys_alone_select_a_type_and_clear_it(reader: Reader) -> None:
    reader.page.focus("#legend button")
    reader.page.keyboard.press("Space")
    assert reader.size_said().endswith("Cell type: B cell")
    reader.page.keyboard.press("Escape")
    assert reader.size_said() == ""


def test_cells_encircled_on_one_map_are_counted_lit_and_downloaded(
    reader: Reader, summary: RunSummary
) -> None:
    cells = summary.cells
    points = cells.tsne2d["pca"]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    height = points[:, 1]
    wanted = height > middle[1]
    clear = np.abs(height - middle[1]) > 0.02 * np.ptp(points, axis=0).max()
    before = saturated(reader.pixels("solid"))
    reader.page.check("#lasso")
    reader.encircle("flat", high=0.5)
    table = reader.table()
    found = np.isin(cells.barcodes, [row["barcode"].removeprefix("'") for row in table])
    np.testing.assert_array_equal(found[clear], wanted[clear])
    assert reader.size_said().startswith(f"{len(table)} of 120 cells")
    assert saturated(reader.pixels("solid")) < before
    types = dict(zip(cells.barcodes.tolist(), cells.labels.tolist(), strict=True))
    totals = dict(zip(cells.barcodes.tolist(), cells.quality["counts"].tolist(), strict=True))
    clusters = dict(zip(cells.barcodes.tolist(), cells.kmeans["pca"].tolist(), strict=True))
    for row in table:
        name = row["barcode"]
        assert row["cell_type"].removeprefix("'") == types[name]
        assert float(row["counts"]) == totals[name]
        assert int(row["k-means, PCA"]) == clusters[name]
    reader.page.select_option("#colour", "latent 1")
    codes = dict(zip(cells.barcodes.tolist(), cells.latents["pca"][:, 0].tolist(), strict=True))
    told = {row["barcode"]: float(row["Latent 1"]) for row in reader.table()}
    assert min(told.values()) < 0
    assert told == pytest.approx({name: codes[name] for name in told}, abs=0.01)


def test_cells_encircled_in_space_are_lit_on_the_flat_map(reader: Reader) -> None:
    before = saturated(reader.pixels("flat"))
    reader.page.check("#lasso")
    reader.encircle("solid", high=0.5)
    n_cells = int(reader.size_said().split()[0])
    assert 0 < n_cells < 120
    assert saturated(reader.pixels("flat")) < before


def test_a_selection_has_its_mix_of_types_and_its_genes(
    reader: Reader, summary: RunSummary
) -> None:
    reader.page.locator("#legend button").nth(1).click()
    reader.page.wait_for_selector("#top-genes tr")
    size = summary.labels.counts["NK cell"]
    assert reader.page.inner_text("#type-mix").split("\t") == [
        "NK cell",
        str(size),
        "100 %",
        "100 %",
    ]
    first = reader.page.locator("#top-genes tr").first.inner_text().split("\t")
    kept = summary.cells.expression
    assert kept is not None
    column = kept.counts[:, 1].toarray().ravel()
    inside = summary.cells.labels == "NK cell"
    per_cell = 1e4 * column / summary.cells.quality["counts"]
    logs = np.log1p(per_cell)
    means = [per_cell[part].mean() + 1 for part in (inside, ~inside)]
    errors = [logs[part].var(ddof=1) / part.sum() for part in (inside, ~inside)]
    t = (logs[inside].mean() - logs[~inside].mean()) / np.sqrt(sum(errors))
    assert first[0] == "NK cell gene"
    assert float(first[3]) == pytest.approx(np.log2(means[0] / means[1]), abs=6e-3)
    assert float(first[4]) == pytest.approx(t, abs=6e-2)
    reader.page.locator("#top-genes button").first.click()
    assert reader.page.input_value("#gene") == "NK cell gene"


def test_formulas_are_made_harmless_in_the_table(reader: Reader) -> None:
    reader.page.locator("#legend button").nth(3).click()
    table = reader.table()
    assert table
    assert {row["cell_type"] for row in table} == {f"'{FORMULA}"}


def test_pointing_at_a_cell_names_it_and_rings_it_on_both_maps(
    reader: Reader, summary: RunSummary
) -> None:
    points = summary.cells.tsne2d["pca"]
    cell = int(np.argmax(points[:, 0]))
    reader.page.mouse.move(*reader.place(points, cell))
    hidden = reader.page.locator(".ring").evaluate_all("all => all.map(ring => ring.hidden)")
    assert hidden == [False, False]
    lines = reader.page.locator("#tip > *").all_text_contents()
    assert lines[:2] == [summary.cells.barcodes[cell], summary.cells.labels[cell]]
    assert f"counts: {summary.cells.quality['counts'][cell]:,.0f}" in lines


def test_names_are_words_on_the_page_and_never_links(reader: Reader) -> None:
    assert reader.page.locator("#explorer a[href]").count() == 0
    assert HOSTILE in reader.page.locator("#legend span").all_text_contents()
    assert reader.page.locator("#explorer b").all_text_contents().count("co") == 0


def test_names_do_not_turn_the_words_around_them(
    browser: "playwright.Browser", tmp_path: Path
) -> None:
    types = ("\u202etxt.live", "\u2069\u202esllec B", "\u05d0\u05d1\u05d2 7", "\u0627\u0644 8")
    summary = make_summary(
        n_cells=60, types=types, barcode=types[0], name=types[1], titles={"bvae": "β-VAE"}
    )
    bare = dataclasses.replace(summary, scores=())
    path = tmp_path / "report.html"
    path.write_text(render(bare, figures={}), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    reader = Reader(page, path.as_uri())
    reader.wait()
    for i in range(4):
        page.locator("#legend button").nth(i).click()
        if i == 1:
            page.wait_for_selector("#top-genes tr")
            assert page.evaluate(REVERSED) == []
    found = reader.table()
    assert {row["cell_type"] for row in found} == set(types)
    page.fill("#gene", f"{types[0]} gene")
    assert page.inner_text("#ramp-title").endswith("gene\u2069, log-normalised expression")
    page.locator("#flat canvas").hover()
    assert page.evaluate(REVERSED) == []
    page.close()


def test_print_shows_still_pictures_instead(reader: Reader) -> None:
    reader.page.emulate_media(media="print")
    seen = [reader.sees(selector) for selector in (".stills img", "#flat")]
    reader.page.emulate_media(media="screen")
    assert seen == [True, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [800, 1440])
def test_page_fits_its_window(reader: Reader, width: int, scheme: str) -> None:
    reader.page.emulate_media(color_scheme=scheme)
    reader.page.set_viewport_size({"width": width, "height": 900})
    reader.settle()
    assert reader.page.evaluate("document.documentElement.scrollWidth") == width
    background = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    pixels = reader.pixels("solid")
    assert share_of("#ffffff", pixels) > 0.5  # figures are ink on paper in either scheme
    assert share_of(COLOURS[0], pixels) > 5e-4
    reader.page.emulate_media(color_scheme="light")
    reader.page.set_viewport_size({"width": 1300, "height": 1100})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_seriously_bars_anyone(reader: Reader, scheme: str) -> None:
    axe = Path(os.environ.get("AXE", "node_modules/axe-core/axe.min.js"))
    if not axe.is_file():
        pytest.skip(f"no axe-core at {axe}: npm install axe-core, or set AXE to its axe.min.js")
    reader.page.emulate_media(color_scheme=scheme)
    reader.page.locator("#legend button").first.click()
    reader.page.wait_for_selector("#top-genes tr")
    # Through the debugger, because the policy of the page rightly forbids any other script.
    reader.page.evaluate(axe.read_text(encoding="utf-8"))
    found = reader.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    reader.page.emulate_media(color_scheme="light")
    serious = [
        (rule["id"], [node["html"][:200] for node in rule["nodes"]][:3])
        for rule in found["violations"]
        if rule["impact"] in {"serious", "critical"}
    ]
    assert serious == []


def test_without_scripts_still_pictures_are_shown(
    browser: "playwright.Browser", address: str
) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    reader = Reader(context.new_page(), address)
    assert reader.sees(".stills img")
    assert reader.sees("noscript p")
    assert not reader.sees("#flat")
    context.close()


def test_without_webgl_still_pictures_are_shown_and_explained(
    driver: "playwright.Playwright", address: str
) -> None:
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=WITHOUT_GL)
    reader = Reader(browser.new_page(), address)
    reader.page.wait_for_selector("#explorer[data-state=still]")
    assert reader.sees(".stills img")
    assert reader.sees("#no-webgl")
    assert not reader.sees("#flat")
    assert reader.errors == []
    browser.close()


@pytest.mark.parametrize(
    ("n_cells", "limit"),
    [(3_000, 200), pytest.param(100_000, 1_000, marks=pytest.mark.slow)],
)
def test_recolouring_and_selecting_take_no_longer_than_promised(
    browser: "playwright.Browser", tmp_path: Path, n_cells: int, limit: float
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(many_cells(n_cells, 200), figures={}), encoding="utf-8")
    assert path.stat().st_size < 25e6
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    reader = Reader(page, path.as_uri())
    reader.wait()
    acts = {
        "cluster": {"id": "colour", "value": "kmeans", "event": "change"},
        "latent": {"id": "colour", "value": "latent 1", "event": "change"},
        "gene": {"id": "gene", "value": "GENE7", "event": "input"},
        "type": {"id": "colour", "value": "types", "event": "change"},
        "press": {"id": "legend", "inside": "button"},
    }
    took = {}
    for name, act in acts.items():
        # The best of three: other work on the machine can only lengthen one.
        took[name] = min(page.evaluate(TIMED, act) for _ in range(3))
        page.wait_for_timeout(300)
    page.close()
    assert reader.errors == []
    assert max(took.values()) < limit, took
