"""What every figure is drawn on: one look, names made fit to draw, equal bytes when saved.

Nothing here or above it uses pyplot, its windows or the reader's own matplotlib settings.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

__all__ = [
    "FAINT",
    "INK",
    "PAPER",
    "blank",
    "house_style",
    "ink_on",
    "settle",
    "shown",
    "to_png",
    "to_svg",
    "to_webp",
]

INK, FAINT, PAPER = "#1b1f24", "#6b737c", "#ffffff"

_STYLE = {
    "axes.edgecolor": "#c3c8ce",
    "axes.labelcolor": FAINT,
    "axes.labelsize": 8,
    "axes.linewidth": 0.8,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "font.size": 8,
    "grid.color": "#e1e5e9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "scarce",
    "text.color": INK,
    # A dollar sign in a cell type is a dollar sign, not the start of a formula.
    "text.parse_math": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with the settings above and no others."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # Names in scripts the bundled font lacks are boxes in a PNG; the page spells them out.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def blank(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches, with a canvas that can measure text."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out for good: constrained layout shifts a little every time."""
    for _ in range(2):
        ConstrainedLayoutEngine().execute(figure)
    for axes in figure.axes:
        axes.apply_aspect()
    # Named "none", an engine would stay in its place, for which every saving draws twice.
    figure.set_layout_engine(None)


@house_style()
def to_png(figure: Figure, *, dpi: int = 300) -> bytes:
    """Return the figure as PNG, with no date and no program name, so that equal is equal."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=PAPER, metadata={"Software": None})
    return buffer.getvalue()


@house_style()
def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG whose text stays text: searchable, and editable when published."""
    buffer = io.BytesIO()
    undated = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", dpi=300, facecolor=PAPER, metadata=undated)
    return buffer.getvalue()


@house_style()
def to_webp(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return the figure as lossless WebP: the pixels of the PNG in half its bytes."""
    buffer = io.BytesIO()
    # Less effort than Pillow's: half the time, and 0.6 % more bytes.
    lossless = {"lossless": True, "quality": 50, "method": 1}
    figure.savefig(buffer, format="webp", dpi=dpi, facecolor=PAPER, pil_kwargs=lossless)
    return buffer.getvalue()


def ink_on(share: float) -> str:
    """Return the ink that can be read on that share, 0 to 1, of the colours "Blues"."""
    return PAPER if share > 0.68 else INK


def shown(name: str, width: int = 36) -> str:
    """Make a name fit to draw: printable, on one line, and no longer than `width` signs.

    It is cut before its end, in which names that begin alike often differ.
    """
    clean = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)
    n_first = 3 * width // 4
    cut = f"{clean[:n_first]}…{clean[n_first + 1 - width :]}"
    return clean if len(clean) <= width else cut
