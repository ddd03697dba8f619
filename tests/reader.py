"""Someone who opens the report in a browser, for the tests of what the page does."""

import csv
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

SOFTWARE_GL = ["--no-sandbox", "--disable-gpu", "--use-angle=swiftshader"]
WITH_GL = [*SOFTWARE_GL, "--enable-unsafe-swiftshader"]
WITHOUT_GL = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]


@contextmanager
def reading(browser: "playwright.Browser", address: str) -> Iterator["Reader"]:
    """Open a page without a network, where its maps can be drawn."""
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 1100})
    reader = Reader(context.new_page(), address)
    if not reader.page.evaluate("!!document.createElement('canvas').getContext('webgl2')"):
        pytest.skip("this chromium has no WebGL 2, not even in software")
    reader.wait()
    yield reader
    context.close()


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

    def wait(self) -> None:
        self.page.wait_for_selector("#explorer[data-state]", timeout=60_000)
        self.settle()

    def settle(self) -> None:
        """Wait until both maps are on the screen."""
        self.page.evaluate(
            "() => new Promise((d) => requestAnimationFrame(() => setTimeout(d, 60)))"
        )

    def fresh(self) -> None:
        """Begin again: the first model, coloured by type, nothing selected."""
        self.page.keyboard.press("Escape")
        for identifier in ("clear", "reset"):
            self.page.evaluate(f"document.getElementById('{identifier}').click()")
        self.page.check("#move")
        self.page.select_option("#model", index=0)
        self.page.select_option("#colour", "types")
        self.page.mouse.move(2, 2)
        self.settle()

    def sees(self, selector: str) -> bool:
        return bool(self.page.locator(selector).first.is_visible())

    def pixels(self, identifier: str) -> NDArray[np.float64]:
        """Return the pixels of a map, shape (height, width, 3), without the names on it."""
        self.page.evaluate("document.querySelector('.names').style.visibility = 'hidden'")
        shot = self.page.locator(f"#{identifier} canvas").screenshot()
        self.page.evaluate("document.querySelector('.names').style.visibility = ''")
        return np.asarray(imread(io.BytesIO(shot)))[2:-2, 2:-2, :3]

    def size_said(self) -> str:
        return str(self.page.inner_text("#selection-size"))

    def encircle(self, identifier: str, *, low: float = 0.0, high: float = 1.0) -> None:
        """Draw a box around the part of a map between two heights, as shares of it."""
        self.page.locator(f"#{identifier}").scroll_into_view_if_needed()
        box = self.page.locator(f"#{identifier} canvas").bounding_box()
        assert box is not None
        left, right = box["x"] + 2, box["x"] + box["width"] - 2
        top, bottom = (box["y"] + 2 + (box["height"] - 4) * share for share in (low, high))
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
            self.page.mouse.move(x, y, steps=3)
        self.page.mouse.up()
        self.page.wait_for_timeout(200)
        self.settle()

    def place(self, points: NDArray[np.float64], cell: int) -> tuple[float, float]:
        """Return where on the screen a cell of the whole flat map is."""
        self.page.locator("#flat").scroll_into_view_if_needed()
        box = self.page.locator("#flat canvas").bounding_box()
        assert box is not None
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        x, y = (points[cell] - middle) * 0.94 * box["width"] / np.ptp(points, axis=0).max()
        return box["x"] + box["width"] / 2 + float(x), box["y"] + box["height"] / 2 - float(y)

    def table(self) -> list[dict[str, str]]:
        """Download the selected cells."""
        with self.page.expect_download() as caught:
            self.page.click("#csv")
        text = Path(caught.value.path()).read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(text)))


def share_of(colour: str, pixels: NDArray[np.float64]) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float((np.abs(pixels - wanted).max(axis=2) < 0.12).mean())


def saturated(pixels: NDArray[np.float64]) -> float:
    """Return the share of pixels with strong colour, which faded cells have not."""
    return float((np.ptp(pixels, axis=2) > 0.45).mean())
