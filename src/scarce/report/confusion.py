"""Clusters against types: which types a clustering merges, and which it splits."""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scarce.report.canvas import INK, blank, house_style, ink_on, settle, shown
from scarce.report.tables import first_runs
from scarce.summary import RunSummary

__all__ = ["Merge", "confusion_map", "draw_confusion", "merges", "shares"]

_HALF = 0.5
_MOST_WRITTEN = 20
_LETTER = 0.09
"""Width in inches of a letter of a title."""


@dataclass(frozen=True)
class Merge:
    """Types whose cells mostly fell into one same cluster."""

    cluster: int
    types: tuple[str, ...]
    """The largest first."""


def shares(
    labels: NDArray[np.str_], clusters: NDArray[np.int64], types: list[str]
) -> NDArray[np.float64]:
    """Return the share of each type's cells in each cluster, (n_types, n_clusters)."""
    place = {label: i for i, label in enumerate(types)}
    counts = np.zeros((len(types), int(clusters.max()) + 1))
    np.add.at(counts, (np.array([place[label] for label in labels.tolist()]), clusters), 1)
    found: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return found


def merges(summary: RunSummary, model: str) -> list[Merge]:
    """Return the clusters of the 2-D map that hold several types.

    A cluster holds its most common type, and every type that has more than half of its cells
    there.
    """
    types = list(summary.labels.counts)
    found = shares(summary.cells.labels, summary.cells.kmeans[model], types)
    counts = found * np.array(list(summary.labels.counts.values()))[:, None]
    merged = []
    for cluster, column in enumerate(found.T):
        inside = counts[:, cluster]
        held = (column > _HALF) | (np.arange(len(types)) == inside.argmax())
        order = np.argsort(-inside, kind="stable")
        if held.sum() > 1:
            merged.append(Merge(cluster, tuple(types[i] for i in order if held[i])))
    return merged


@house_style()
def confusion_map(summary: RunSummary, model: str) -> Figure:
    """Draw where the cells of each type went: a row for a type, a column for a cluster."""
    types = list(summary.labels.counts)
    found = shares(summary.cells.labels, summary.cells.kmeans[model], types)
    widest = max(len(shown(name)) for name in types)
    width = 2.2 + 0.062 * widest + 0.36 * found.shape[1]
    title = f"{shown(first_runs(summary)[model].title)}: types in k-means clusters of the map"
    lines = textwrap.wrap(title, int(width / _LETTER))
    figure = blank(width, 1.1 + 0.16 * len(lines) + 0.26 * len(types))
    axes = figure.add_subplot()
    draw_confusion(axes, found, types)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", size=9.5, weight="bold")
    figure.colorbar(axes.images[0], ax=axes, fraction=0.04, label="share of the type")
    settle(figure)
    return figure


def draw_confusion(axes: Axes, found: NDArray[np.float64], types: list[str]) -> None:
    """Draw shares as a heat map, clusters ordered so that each stands under its types."""
    order = np.lexsort((-found.max(axis=0), found.argmax(axis=0)))
    axes.imshow(found[:, order], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(order)), [str(cluster) for cluster in order], color=INK)
    axes.set_yticks(range(len(types)), [shown(name) for name in types], color=INK)
    axes.set(xlabel="cluster")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if max(found.shape) > _MOST_WRITTEN:
        return
    for (i, j), share in np.ndenumerate(found[:, order]):
        if share >= 0.005:
            words, ink = f"{100 * share:.0f}", ink_on(share)
            axes.text(j, i, words, ha="center", va="center", color=ink, size=7)
