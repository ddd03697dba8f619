"""Maps of cells: by type, by k-means, in two dimensions and in three."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray

from scarce.report.canvas import FAINT, INK, PAPER, blank, house_style, settle, shown
from scarce.report.palette import Style, styles
from scarce.report.tables import first_runs
from scarce.summary import RunSummary

__all__ = [
    "MOST_NAMES",
    "cluster_styles",
    "draw_borders",
    "drawn_cells",
    "frame_map",
    "kmeans_map",
    "map_2d",
    "map_3d",
    "mark_centroids",
    "scatter",
]

MOST_NAMES = 15
"""Types that are named on the map itself; more would cover it."""
_MOST_VECTORS = 5_000  # beyond this an SVG keeps its text but carries its points as an image


def drawn_cells(summary: RunSummary) -> NDArray[np.int64]:
    """Return the sorted indices of the cells to draw."""
    drawn = summary.cells.drawn
    return np.arange(len(summary.cells.labels)) if drawn is None else drawn


@house_style()
def map_2d(summary: RunSummary, model: str) -> Figure:
    """Draw the 2-D map of one model by cell type, each name near the median of its cells."""
    look = styles(summary.labels.counts)
    points = summary.cells.tsne2d[model]
    figure = blank(5.6 + _legend_width(look), 0.6 + 5.2 * _steepness(points))
    axes = figure.add_subplot()
    frame_map(axes, points)
    axes.set_title(_map_title(summary, model, "t-SNE map of"))
    kept = drawn_cells(summary)
    scatter(axes, points[kept], summary.cells.labels[kept], look)
    _legend(figure, summary, look)
    settle(figure)
    _name_types(axes, points, summary.cells.labels, look)
    return figure


@house_style()
def kmeans_map(summary: RunSummary, model: str) -> Figure:
    """Draw cell types beside k-means of the same 2-D map, centroids marked and numbered.

    A cluster wears the colour and shape of its most common type, paler for each further
    cluster of that type; lines are the borders between clusters.
    """
    cells, look = summary.cells, styles(summary.labels.counts)
    points, centroids = cells.tsne2d[model], cells.centroids[model]
    figure = blank(9.6, 0.6 + 4.6 * _steepness(points))
    typed, found = figure.subplots(1, 2)
    typed.set_title(_map_title(summary, model, "types of"))
    found.set_title(f"k-means of the same map, {len(centroids)} clusters")
    for axes in (typed, found):
        frame_map(axes, points)
    kept = drawn_cells(summary)
    scatter(typed, points[kept], cells.labels[kept], look)
    worn = cluster_styles(cells.kmeans[model], cells.labels, look, len(centroids))
    scatter(found, points[kept], cells.kmeans[model][kept], worn)
    draw_borders(found, centroids)
    mark_centroids(found, centroids)
    settle(figure)
    _name_types(typed, points, cells.labels, look)
    return figure


@house_style()
def map_3d(summary: RunSummary, model: str) -> Figure:
    """Draw the 3-D map of one model by cell type, from two sides a quarter turn apart."""
    look, kept = styles(summary.labels.counts), drawn_cells(summary)
    figure = blank(8.4 + _legend_width(look), 4.4)
    for position, azimuth in ((1, -60), (2, 30)):
        axes: Axes3D = figure.add_subplot(1, 2, position, projection="3d")
        axes.view_init(elev=18, azim=azimuth)
        axes.set_box_aspect((1, 1, 1), zoom=1.15)
        axes.set(xticklabels=[], yticklabels=[], zticklabels=[])
        axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", zlabel="t-SNE 3")
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.labelpad = -12
        scatter(axes, summary.cells.tsne3d[model][kept], summary.cells.labels[kept], look)
    figure.suptitle(
        _map_title(summary, model, "3-D t-SNE map of"),
        x=0.01,
        ha="left",
        size=9.5,
        weight="bold",
    )
    _legend(figure, summary, look)
    settle(figure)
    return figure


def _map_title(summary: RunSummary, model: str, what: str) -> str:
    run, n_cells = first_runs(summary)[model], len(summary.cells.labels)
    n_drawn = len(drawn_cells(summary))
    some = f"{n_drawn:,} of {n_cells:,} cells" if n_drawn < n_cells else f"{n_cells:,} cells"
    return f"{shown(run.title)}: {what} {some}, seed {run.seed}"


def _steepness(points: NDArray[np.float64]) -> float:
    """Return height over width of a map, within what fits a page."""
    width, height = np.ptp(points, axis=0)
    return float(np.clip(height / width, 0.75, 1.2)) if width else 1.0


def frame_map(axes: Axes, points: NDArray[np.float64]) -> None:
    """Fix the window to all cells with a margin, so that panels of one map line up."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.04 * float((high - low).max()) or 1.0
    axes.set(
        xlim=(low[0] - margin, high[0] + margin),
        ylim=(low[1] - margin, high[1] + margin),
        xlabel="t-SNE 1",
        ylabel="t-SNE 2",
        xticks=[],
        yticks=[],
        aspect="equal",
    )


def scatter(
    axes: Axes,
    points: NDArray[np.float64],
    groups: NDArray[np.int64] | NDArray[np.str_],
    look: Mapping[int, Style] | Mapping[str, Style],
) -> None:
    """Draw the cells of each group in its style; later groups lie on top."""
    size = float(np.clip(14_000 / len(points), 1.5, 16))
    outline = 0.15 if size > 5 else 0
    for key, style in look.items():
        axes.scatter(  # type: ignore[misc]  # two coordinates or three, which no stub foresees
            *points[groups == key].T,
            s=size,
            facecolors=style.colour if style.shape.filled else "none",
            edgecolors=INK if style.shape.filled else style.colour,
            marker=style.shape.matplotlib,
            linewidths=outline if style.shape.filled else 0.3 * np.sqrt(size),
            alpha=0.9,
            rasterized=len(points) > _MOST_VECTORS,
        )


def _name_types(
    axes: Axes,
    points: NDArray[np.float64],
    labels: NDArray[np.str_],
    look: dict[str, Style],
) -> None:
    """Write each type at the median of its cells, in a white halo, then move names apart.

    Of more than `MOST_NAMES` types none is named.
    """
    if len(look) > MOST_NAMES:
        return
    texts = []
    for label in look:
        x, y = np.median(points[labels == label], axis=0)
        texts.append(_write(axes, x, y, shown(label)))
    _move_apart(axes, texts)
    for text in texts:
        _put_halo_behind(axes, text)


def _write(axes: Axes, x: float, y: float, words: str, side: str = "center") -> Text:
    text = axes.text(x, y, words, ha=side, va="center", size=8, weight="bold", zorder=5)
    text.set_in_layout(False)
    return text


def _put_halo_behind(axes: Axes, text: Text) -> None:
    """Write the same words in white below; by itself an outline would turn text into shapes."""
    side = text.get_horizontalalignment()
    halo = _write(axes, *text.get_position(), text.get_text(), side)
    halo.set(zorder=4.9, path_effects=[withStroke(linewidth=2.6, foreground=PAPER)], color=PAPER)


def _move_apart(axes: Axes, texts: list[Text]) -> None:
    """Push names into the frame, then up and down until none overlap, or for 60 rounds."""
    boxes, frame = [text.get_window_extent() for text in texts], axes.get_window_extent()
    left, right = np.array([b.x0 for b in boxes]), np.array([b.x1 for b in boxes])
    inward = np.maximum(frame.x0 + 3 - left, 0) - np.maximum(right - frame.x1 + 3, 0)
    left, right = left + inward, right + inward
    centre = np.array([(b.y0 + b.y1) / 2 for b in boxes])
    height = np.array([b.height + 2 for b in boxes])
    for _ in range(60):
        moved = False
        for i, j in combinations(range(len(boxes)), 2):
            deep = (height[i] + height[j]) / 2 - abs(centre[i] - centre[j])
            if deep > 0.5 and min(right[i], right[j]) > max(left[i], left[j]):
                up, down = (i, j) if centre[i] >= centre[j] else (j, i)
                centre[up] += deep / 2
                centre[down] -= deep / 2
                moved = True
        if not moved:
            break
    to_data = axes.transData.inverted()
    for text, x0, x1, y in zip(texts, left, right, centre, strict=True):
        place = to_data.transform(((x0 + x1) / 2, y))
        text.set_position((float(place[0]), float(place[1])))


def _legend_columns(look: dict[str, Style]) -> int:
    return -(-len(look) // 24)


def _legend_width(look: dict[str, Style]) -> float:
    """Inches the legend needs beside the map."""
    longest = max((len(shown(label)) for label in look), default=0)
    return _legend_columns(look) * (0.7 + 0.062 * longest)


def _legend(figure: Figure, summary: RunSummary, look: dict[str, Style]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=s.colour,
            marker=s.shape.matplotlib,
            linestyle="",
            markersize=5.5,
            markeredgewidth=1,
            fillstyle="full" if s.shape.filled else "none",
        )
        for s in look.values()
    ]
    names = [f"{shown(label)} ({n:,})" for label, n in summary.labels.counts.items()]
    figure.legend(handles, names, loc="outside right center", ncols=_legend_columns(look))


def cluster_styles(
    clusters: NDArray[np.int64],
    labels: NDArray[np.str_],
    look: dict[str, Style],
    n_clusters: int,
) -> dict[int, Style]:
    """Give each cluster the style of its most common type, paler for each further one."""
    names, worn, seen = list(look), {}, dict.fromkeys(look, 0)
    for cluster in range(n_clusters):
        members = labels[clusters == cluster]
        commonest = max(names, key=lambda name: int((members == name).sum()))
        worn[cluster] = Style(
            _paler(look[commonest].colour, 0.45 * min(seen[commonest], 1.6)),
            look[commonest].shape,
        )
        seen[commonest] += 1
    return worn


def _paler(colour: str, share: float) -> str:
    """Mix a colour with that share of white."""
    red, green, blue = (c + share * (1 - c) for c in to_rgb(colour))
    return to_hex((red, green, blue))


def draw_borders(axes: Axes, centroids: NDArray[np.float64]) -> None:
    """Draw the lines on which two centroids are equally near; of clusters without cells none."""
    centroids = centroids[np.isfinite(centroids).all(axis=1)]
    if len(centroids) < 2:
        return
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(left, right, 256), np.linspace(bottom, top, 256))
    squared = (x - centroids[:, 0, None, None]) ** 2 + (y - centroids[:, 1, None, None]) ** 2
    for cluster in range(len(centroids)):
        others = np.delete(squared, cluster, axis=0).min(axis=0)
        axes.contour(
            x, y, others - squared[cluster], levels=[0], colors=[FAINT], linewidths=0.6, zorder=3
        )


def mark_centroids(axes: Axes, centroids: NDArray[np.float64]) -> None:
    """Draw a numbered cross at each centroid."""
    axes.scatter(
        centroids[:, 0], centroids[:, 1], 70, marker="X", color=INK, edgecolors=PAPER, zorder=4
    )
    for cluster in np.flatnonzero(np.isfinite(centroids).all(axis=1)):
        x, y = centroids[cluster]
        _put_halo_behind(axes, _write(axes, x, y, f"   {cluster}", "left"))
