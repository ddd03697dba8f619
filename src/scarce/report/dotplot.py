"""Marker genes of every group as dots: how many cells express them, and how strongly."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from scarce.report.canvas import FAINT, INK, blank, house_style, settle, shown
from scarce.summary import Dots

__all__ = ["SHADE", "dot_key", "dot_size", "draw_dots", "marker_dots"]

_LARGEST = 90.0
"""Area of the dot of a gene that all cells express, in square points."""
SHADE = "mean expression,\nshare of the largest"
"""What the colour of a dot means."""


@house_style()
def marker_dots(dots: Dots) -> Figure:
    """Draw the top marker genes of each group, a row for a group and a column for a gene."""
    figure = blank(*dot_size(dots))
    axes = figure.add_subplot()
    image = draw_dots(axes, dots)
    axes.set_title("Top marker genes")
    figure.colorbar(image, ax=axes, fraction=0.03, label=SHADE)
    figure.legend(handles=dot_key(), loc="outside lower center", ncols=3, labelcolor=INK)
    settle(figure)
    return figure


def dot_size(dots: Dots) -> tuple[float, float]:
    """Return width and height in inches of a figure in which dots and names have room."""
    n_groups, n_genes = dots.fraction.shape
    widest, tallest = (
        max(len(shown(name)) for name in names) for names in (dots.groups, dots.genes)
    )
    return 2.2 + 0.062 * widest + 0.2 * n_genes, 1.1 + 0.24 * n_groups + 0.062 * tallest


def draw_dots(axes: Axes, dots: Dots) -> PathCollection:
    """Draw a dot for every group and gene; return them, for a colour bar."""
    rows, columns = np.indices(dots.fraction.shape)
    _name_axes(axes, dots)
    return axes.scatter(
        columns.ravel(),
        rows.ravel(),
        s=_LARGEST * dots.fraction.ravel(),
        c=_relative(dots.mean).ravel(),
        cmap="Blues",
        vmin=0,
        vmax=1,
        edgecolors=FAINT,
        linewidths=0.4,
    )


def dot_key() -> list[Line2D]:
    """Return what a legend of dots shows: the size for three shares of the cells."""
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color=FAINT,
            markersize=np.sqrt(_LARGEST * share),
            markeredgewidth=0.4,
            label=label,
        )
        for share, label in ((0.25, "25 %"), (0.5, "50 %"), (1, "100 % of the cells"))
    ]


def _relative(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each gene by its largest mean over the groups."""
    relative: NDArray[np.float64] = mean / np.maximum(mean.max(axis=0), np.finfo(float).tiny)
    return relative


def _name_axes(axes: Axes, dots: Dots) -> None:
    axes.set_xticks(range(len(dots.genes)), [shown(gene) for gene in dots.genes], rotation=90)
    axes.set_yticks(range(len(dots.groups)), [shown(name) for name in dots.groups])
    axes.tick_params(length=0, labelcolor=INK)
    axes.set(xlim=(-0.8, len(dots.genes) - 0.2), ylim=(len(dots.groups) - 0.3, -0.7))
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
