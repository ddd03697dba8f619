"""The page works in a browser without a network, without WebGL and without scripts."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from scarce.report import render
from scarce.report.palette import COLOURS
from summaries import make_summary

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

SOFTWARE_GL = ["--no-sandbox", "--disable-gpu", "--use-angle=swiftshader"]
WITH_GL = [*SOFTWARE_GL, "--enable-unsafe-swiftshader"]
WITHOUT_GL = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]

LINK = "<a href='https://example.org'>T</a> & <b>co</b>"
TYPES = ("B cell", "NK cell", LINK)


class Reader:
    """Someone who opens the page, and everything that happened meanwhile."""

    def __init__(self, page: "playwright.Page", address: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._heard)
        page.goto(address)

    def _heard(self, message: "playwright.ConsoleMessage") -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def wait_for_plot(self) -> None:
        self.page.wait_for_selector("#plot canvas")
        self.page.wait_for_function("document.querySelector('#plot .legendtoggle') !== null")
        self.page.wait_for_timeout(500)

    def sees(self, selector: str) -> bool:
        return bool(self.page.locator(selector).first.is_visible())

    def picture(self) -> NDArray[np.float64]:
        """Return the pixels of the 3-D plot left of its legend, shape (height, width, 3)."""
        pixels = imread(io.BytesIO(self.page.locator("#plot").screenshot()))
        return np.asarray(pixels)[:, : int(0.7 * pixels.shape[1]), :3]

    def eye(self) -> dict[str, float]:
        camera = "document.getElementById('plot').layout.scene.camera.eye"
        return dict(self.page.evaluate(camera))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    summary = make_summary(
        n_cells=90, types=TYPES, barcode=LINK, titles={"pca": "PCA", "bvae": "β-VAE"}
    )
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
def reader(browser: "playwright.Browser", address: str) -> Iterator[Reader]:
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    opened = Reader(context.new_page(), address)
    if not opened.page.evaluate("!!document.createElement('canvas').getContext('webgl')"):
        pytest.skip("this chromium has no WebGL, not even in software")
    opened.wait_for_plot()
    yield opened
    context.close()


def share_of(colour: str, pixels: NDArray[np.float64]) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float((np.abs(pixels - wanted).max(axis=2) < 0.12).mean())


def test_page_opens_without_an_error_or_a_request(reader: Reader) -> None:
    assert reader.errors == []
    assert reader.requests
    assert all(url.startswith(("file:", "data:", "blob:")) for url in reader.requests)


def test_plot_is_drawn_in_the_colours_of_the_figures(reader: Reader) -> None:
    pixels = reader.picture()
    assert reader.sees("#plot")
    assert not reader.sees(".stills")
    assert all(share_of(colour, pixels) > 1e-3 for colour in COLOURS[: len(TYPES)])


def test_choosing_a_model_changes_the_plot_and_keeps_the_viewpoint(reader: Reader) -> None:
    reader.page.select_option("#model", label="PCA")
    reader.page.focus("#plot")
    reader.page.keyboard.press("ArrowLeft")
    reader.page.wait_for_timeout(500)
    before, eye = reader.picture(), reader.eye()
    reader.page.select_option("#model", label="β-VAE")
    reader.page.wait_for_timeout(500)
    assert (reader.picture() != before).any(axis=2).mean() > 1e-3
    assert reader.eye() == eye
    assert reader.page.get_attribute("#plot", "aria-label") == "3-D t-SNE map, β-VAE"
    assert reader.errors == []


def test_arrow_keys_turn_the_plot_around_its_centre(reader: Reader) -> None:
    before, start = reader.picture(), reader.eye()
    reader.page.focus("#plot")
    reader.page.keyboard.press("ArrowLeft")
    reader.page.keyboard.press("ArrowUp")
    reader.page.wait_for_timeout(500)
    turned = reader.eye()
    assert (reader.picture() != before).any(axis=2).mean() > 1e-3
    assert turned["z"] > start["z"]
    assert np.linalg.norm([*turned.values()]) == pytest.approx(np.linalg.norm([*start.values()]))


def test_names_are_words_in_the_plot_and_never_links(reader: Reader) -> None:
    plot = reader.page.locator("#plot")
    assert plot.locator("a[href]").count() == 0
    assert LINK in plot.locator(".legendtext").all_text_contents()
    text = reader.page.evaluate("document.getElementById('plot').data[0].text[0]")
    assert "<a" not in text
    assert text.startswith("&lt;a")


def test_plot_offers_no_upload(reader: Reader) -> None:
    buttons = reader.page.locator("#plot .modebar-btn")
    titles = buttons.evaluate_all("all => all.map(b => b.dataset.title ?? b.ariaLabel ?? '')")
    assert len(titles) == 6
    assert not any("share" in title.lower() or "cloud" in title.lower() for title in titles)


def test_plot_can_be_saved_as_a_picture(reader: Reader) -> None:
    made = reader.page.evaluate("Plotly.toImage('plot', {format: 'png', width: 300, height: 200})")
    assert made.startswith("data:image/png;base64,")
    assert reader.errors == []


def test_print_shows_still_pictures_instead(reader: Reader) -> None:
    reader.page.emulate_media(media="print")
    seen = [reader.sees(selector) for selector in (".stills img", "#plot")]
    reader.page.emulate_media(media="screen")
    assert seen == [True, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [800, 1440])
def test_page_fits_its_window(reader: Reader, width: int, scheme: str) -> None:
    reader.page.emulate_media(color_scheme=scheme)
    reader.page.set_viewport_size({"width": width, "height": 900})
    reader.page.wait_for_timeout(500)
    assert reader.page.evaluate("document.documentElement.scrollWidth") == width
    background = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_without_scripts_still_pictures_are_shown(
    browser: "playwright.Browser", address: str
) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    reader = Reader(context.new_page(), address)
    assert reader.sees(".stills img")
    assert reader.sees("noscript p")
    assert not reader.sees("#plot")
    context.close()


def test_without_webgl_still_pictures_are_shown_and_explained(
    driver: "playwright.Playwright", address: str
) -> None:
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=WITHOUT_GL)
    reader = Reader(browser.new_page(), address)
    assert reader.sees(".stills img")
    assert reader.sees("#no-webgl")
    assert not reader.sees("#plot")
    assert reader.errors == []
    browser.close()
