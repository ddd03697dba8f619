"""Take the README's pictures of a report: ``python docs/pictures/take.py demo-run/report.html``.

`make pictures` runs the example and then this. The report is opened in the Chromium on the path,
drawn without a graphics card, so that another machine takes nearly the same picture.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
WIDTH, MARGIN = 1440, 12
MODEL, GROUP = "β-VAE", "CD19+ B"
SOFTWARE_GL = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def main(report: Path) -> None:
    """Write ``explorer-light.png`` and ``explorer-dark.png`` beside this file."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE_GL)
        for scheme in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": WIDTH, "height": 1300}, color_scheme=scheme, offline=True
            )
            page.goto(report.resolve().as_uri())
            show_selection(page)
            shown = {"x": 0, "y": 0, "width": WIDTH, "height": bottom(page) + MARGIN}
            (HERE / f"explorer-{scheme}.png").write_bytes(small(page.screenshot(clip=shown)))
        browser.close()


def show_selection(page: Page) -> None:
    """Select one type on the maps of one model, and scroll to them."""
    page.wait_for_selector("#explorer[data-state=live]")
    page.select_option("#model", label=MODEL)
    page.locator("#legend button", has_text=GROUP).click()
    page.wait_for_selector("#top-genes tr")
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.locator("#explorer").evaluate("section => section.scrollIntoView()")
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(2, 2)
    # Two frames: the first draws the maps, the second shows them.
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def bottom(page: Page) -> float:
    """Return how far down the window the last of what the picture shows reaches."""
    return float(page.locator("#csv").evaluate("button => button.getBoundingClientRect().bottom"))


def small(png: bytes) -> bytes:
    """Return a screenshot packed as tightly as PNG allows."""
    found = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(found, "png", optimize=True)
    return found.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
