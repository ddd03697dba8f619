"""One colour and one marker shape per cell type, the same in every figure of a report.

The colour tells types apart for most readers; the shape does so without any colour.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["COLOURS", "SHAPES", "Shape", "Style", "styles"]

# The first eight are the set of Okabe & Ito (https://jfly.uni-koeln.de/color), reordered so that
# the two hardest to see on white come last. Each further one was taken farthest (OKLab distance,
# the smallest over normal vision and simulated protanopia, deuteranopia and tritanopia) from
# white and from all before it, among colours of moderate chroma and of lightness 0.32 to 0.80.
# Their order keeps colours far apart that share a shape (every fifth), and the first fourteen.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#F0E442",
    "#004BA5",
    "#5A2D4B",
    "#784B4B",
    "#A54B00",
    "#96D269",
    "#5A005A",
    "#5A1E00",
    "#78B478",
    "#693C78",
    "#002D78",
    "#5A785A",
    "#2D96F0",
    "#693C00",
    "#B4C3A5",
    "#4BD2E1",
    "#964B87",
)


@dataclass(frozen=True)
class Shape:
    """One marker in the languages it is drawn in; on the page's maps it is known by its place."""

    matplotlib: str
    path: str
    """Outline in a 16 by 16 box, as the ``d`` of an SVG path."""
    filled: bool = True


# The page's maps draw them in this order: see INSIDE in templates/map.js.
SHAPES = (
    Shape("o", "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11z"),
    Shape("s", "M3 3h10v10h-10z"),
    Shape("D", "M8 1.5l6.5 6.5l-6.5 6.5l-6.5-6.5z"),
    Shape("P", "M5.8 2h4.4v3.8h3.8v4.4h-3.8v3.8h-4.4v-3.8h-3.8v-4.4h3.8z"),
    Shape("o", "M8 3a5 5 0 1 1 0 10a5 5 0 1 1 0-10z", filled=False),
)


@dataclass(frozen=True)
class Style:
    """How the cells of one type are drawn."""

    colour: str
    shape: Shape


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Give each label its colour and shape, by position alone.

    Parameters
    ----------
    labels
        Distinct labels, most frequent first, as the keys of ``LabelSummary.counts``.

    Returns
    -------
    dict of str to Style
        In the order of `labels`.

    Notes
    -----
    Colours and shapes are cycled separately. Their numbers, 24 and 5, share no divisor, so the
    first 120 labels have distinct pairs.
    """
    return {
        label: Style(COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)])
        for i, label in enumerate(labels)
    }
