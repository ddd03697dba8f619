"""Figures of a benchmark: differences with their intervals, ranks, and what a score costs."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from scarce.compare import ALL, UNRANKED, Comparison, critical_difference, mean_ranks
from scarce.report.canvas import FAINT, INK, blank, house_style, settle, shown
from scarce.report.palette import Style, styles
from scarce.report.tables import BASELINE, METRICS

__all__ = ["comparison_figures", "method_names"]

_FLOOR_TINT = "#eef1f4"
_MOST_PANELS = 4

Method = tuple[str, str]
"""Model and preset."""


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Draw a benchmark.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        ``forest_<metric>`` and ``ranks_<metric>`` for NMI and ARI, and ``tradeoff``.
    """
    if comparison.estimates.empty:
        return {}
    figures = {}
    for metric in ("nmi", "ari"):
        if any(_against_baseline(comparison, "latent", metric)):
            figures[f"forest_{metric}"] = forest(comparison, metric)
        ranks, n_datasets = mean_ranks(_with_code(comparison.estimates), "latent", metric)
        if n_datasets and len(ranks) > 1:
            figures[f"ranks_{metric}"] = rank_diagram(comparison, metric)
    figures["tradeoff"] = tradeoff(comparison)
    return figures


@house_style()
def forest(comparison: Comparison, metric: str) -> Figure:
    """Draw the difference of every method from PCA with its interval, by data set and overall."""
    spaces = {
        space: rows
        for space, title in _SPACES.items()
        if (rows := list(_against_baseline(comparison, space, metric)))
    }
    names = method_names(comparison)
    n_rows = len(next(iter(spaces.values())))
    figure = blank(2.6 + 2.7 * len(spaces), 1.2 + 0.19 * n_rows)
    panels = figure.subplots(1, len(spaces), sharey=True, squeeze=False)[0]
    for axes, (space, rows) in zip(panels, spaces.items(), strict=True):
        _draw_forest(axes, rows, names, comparison.floor)
        axes.set_title(_SPACES[space])
        axes.set_xlabel(f"{METRICS[metric]} − {METRICS[metric]} of PCA")
    figure.suptitle(
        f"{METRICS[metric]}: difference from PCA of the same size, with 95 % intervals",
        x=0.01,
        ha="left",
        size=9.5,
        weight="bold",
    )
    settle(figure)
    return figure


@house_style()
def rank_diagram(comparison: Comparison, metric: str) -> Figure:
    """Draw mean ranks over data sets; bars join methods that Nemenyi's test does not part."""
    ranks, n_datasets = mean_ranks(_with_code(comparison.estimates), "latent", metric)
    names = method_names(comparison)
    distance = critical_difference(len(ranks), n_datasets)
    bars = list(_cliques(ranks.to_numpy(), distance))
    figure = blank(7.2, 1.2 + 0.22 * len(ranks) + 0.1 * len(bars))
    axes = figure.subplots()
    height = -np.arange(len(ranks), dtype=np.float64)
    axes.plot(ranks, height, "o", color=INK, markersize=4)
    for y, (method, rank) in zip(height, ranks.items(), strict=True):
        axes.text(rank + 0.12, y, f"{names[_method(method)]}  {rank:.2f}", va="center")
    for lane, (start, end) in enumerate(bars):
        below = height[-1] - 0.7 - 0.4 * lane
        axes.plot([start, end], [below, below], color="#0072B2", linewidth=3)
    plural = "" if n_datasets == 1 else "s"
    axes.set_title(
        f"{METRICS[metric]} in the latent space: mean rank over {n_datasets} data set{plural}\n"
        f"critical difference {distance:.2f} (Nemenyi, 5 %)"
    )
    axes.set(xlim=(0.7, len(ranks) + 2.5), yticks=[], xlabel="mean rank, 1 is best")
    axes.set_xticks(range(1, len(ranks) + 1))
    axes.spines[["top", "right", "left"]].set_visible(False)
    settle(figure)
    return figure


@house_style()
def tradeoff(comparison: Comparison) -> Figure:
    """Draw what each method explains of unseen cells, and its ARI, against its time to fit."""
    datasets = list(dict.fromkeys(comparison.estimates["dataset"]))[:_MOST_PANELS]
    names = method_names(comparison)
    look = styles(names.values())
    figure = blank(2.4 + 2.5 * len(datasets), 5.2)
    panels = figure.subplots(2, len(datasets), squeeze=False, sharex="col")
    axis = {"r2": "explained variance,\nunseen cells", "ari": "ARI, latent space"}
    for row, (metric, title) in zip(panels, axis.items(), strict=True):
        row[0].set_ylabel(title)
        for axes, dataset in zip(row, datasets, strict=True):
            _draw_tradeoff(axes, comparison, dataset, metric, look)
    for axes, dataset in zip(panels[0], datasets, strict=True):
        axes.set_title(shown(dataset))
    for axes in panels[1]:
        axes.set_xlabel("seconds to fit")
    handles = [_marker(Line2D([], [], label=name), style) for name, style in look.items()]
    figure.legend(handles=handles, loc="outside right upper")
    settle(figure)
    return figure


_SPACES = {
    "latent": "k-means, latent space",
    "latent_leiden": "Leiden, latent space",
    "tsne2d": "k-means, 2-D map",
}


def method_names(comparison: Comparison) -> dict[Method, str]:
    """Name every method for people, with its preset where there are several."""
    methods = comparison.results[["model", "preset"]].drop_duplicates()
    many = methods["preset"].nunique() > 1
    return {
        (model, preset): comparison.titles.get(model, model) + (f" ({preset})" if many else "")
        for model, preset in methods.itertuples(index=False, name=None)
    }


def _with_code(estimates: pd.DataFrame) -> pd.DataFrame:
    return estimates[~estimates["model"].isin(UNRANKED)]


def _method(key: object) -> Method:
    model, preset = key if isinstance(key, tuple) else (key, "")
    return str(model), str(preset)


def _against_baseline(
    comparison: Comparison, space: str, metric: str
) -> Iterator[tuple[Method, str, float, float, float]]:
    """Yield method, data set, difference from PCA of its preset, and the interval's ends."""
    table = comparison.differences
    part = table[(table["space"] == space) & (table["metric"] == metric)]
    for row in part.to_dict("records"):
        first, second = (row["model"], row["preset"]), (row["other_model"], row["other_preset"])
        if first[1] != second[1]:
            continue
        values = row["difference"], row["low"], row["high"]
        if second[0] == BASELINE:
            yield first, row["dataset"], *values
        elif first[0] == BASELINE:
            yield second, row["dataset"], -values[0], -values[2], -values[1]


def _draw_forest(
    axes: Axes,
    rows: list[tuple[Method, str, float, float, float]],
    names: dict[Method, str],
    floor: float,
) -> None:
    axes.axvspan(-floor, floor, color=_FLOOR_TINT, zorder=0)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    ticks = []
    for i, (method, dataset, middle, low, high) in enumerate(rows):
        pooled = dataset == ALL
        known = [x for x in (low, high) if not np.isnan(x)]
        axes.plot(known, [-i] * len(known), color=INK, linewidth=2.2 if pooled else 1)
        axes.plot(middle, -i, "D" if pooled else "o", color=INK, markersize=5 if pooled else 3.5)
        is_first = i == 0 or rows[i - 1][0] != method
        where = "all data sets" if pooled else shown(dataset, 24)
        ticks.append(f"{names[method]}: {where}" if is_first else where)
    axes.set_yticks([-i for i in range(len(rows))], ticks, color=INK)
    axes.set_ylim(0.5 - len(rows), 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _cliques(ranks: NDArray[np.float64], distance: float) -> Iterator[tuple[float, float]]:
    """Yield first and last rank of each largest run of methods too close to part."""
    furthest = -1
    for first, rank in enumerate(ranks):
        last = int(np.flatnonzero(ranks - rank < distance).max())
        if last > first and last > furthest:
            yield float(rank), float(ranks[last])
            furthest = last


def _draw_tradeoff(
    axes: Axes, comparison: Comparison, dataset: str, metric: str, look: dict[str, Style]
) -> None:
    table = comparison.estimates
    here = table[(table["dataset"] == dataset) & (table["space"] == "latent")]
    if metric == "ari":
        here = here[here["model"] != "mean"]  # which has no code to cluster
    wide = here.pivot_table(index=["model", "preset"], columns="metric", values="mean", sort=False)
    if not {"seconds", metric} <= set(wide.columns):
        return
    names = method_names(comparison)
    for method, seconds, value in wide[["seconds", metric]].itertuples(name=None):
        style = look[names[_method(method)]]
        # Gene means and random codes take no time; a logarithmic axis has no zero.
        (point,) = axes.plot(max(seconds, 1e-3), value)
        _marker(point, style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _marker(point: Line2D, style: Style) -> Line2D:
    """Draw a point in its method's colour and shape."""
    point.set_linestyle("")
    point.set_marker(style.shape.matplotlib)
    point.set_markeredgecolor(style.colour)
    point.set_markerfacecolor(style.colour if style.shape.filled else "none")
    point.set_markersize(7)
    return point
