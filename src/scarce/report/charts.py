"""Charts of numbers: scores of every model, loss while training."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from scarce.report.canvas import INK, blank, house_style, ink_on, settle, shown
from scarce.report.palette import COLOURS
from scarce.report.tables import (
    BASELINE,
    METRICS,
    SPACES,
    ScoreRow,
    best,
    first_runs,
    number,
    score_rows,
)
from scarce.summary import ModelRun, RunSummary

__all__ = ["draw_loss", "draw_points", "loss_curves", "loss_key", "score_map"]

_TRAIN, _HELD_OUT = "#0072B2", "#D55E00"
_POINTS = dict(zip(METRICS, zip(COLOURS, "osD^v", strict=False), strict=True))
"""Colour and marker of each metric where several share a panel."""


@house_style()
def score_map(summary: RunSummary) -> Figure:
    """Draw the mean of every score over seeds; a frame marks the best of each space."""
    rows = score_rows(summary)
    groups = {space: [row for row in rows if row.space == space] for space in SPACES}
    groups = {space: group for space, group in groups.items() if group}
    figure = blank(7.2, 1.5 + 0.34 * len(rows) + 0.3 * len(groups))
    panels = figure.subplots(
        len(groups), 1, squeeze=False, height_ratios=[len(g) for g in groups.values()]
    )[:, 0]
    for axes, (space, group) in zip(panels, groups.items(), strict=True):
        axes.set_title(f"k-means in the {SPACES[space]}")
        image = _draw_scores(axes, group)
    figure.colorbar(image, ax=list(panels), fraction=0.03, label="score")
    n_seeds = max(row.n_seeds for row in rows)
    many = n_seeds > 1
    figure.suptitle(
        f"Agreement with the labels, {f'mean of {n_seeds} seeds' if many else 'one seed'}\n"
        + _wrapped(f"Source of the labels: {summary.labels.source}", 95),
        x=0.01,
        ha="left",
        size=9,
    )
    settle(figure)
    return figure


@house_style()
def loss_curves(summary: RunSummary) -> Figure:
    """Draw loss per cell after each epoch, on the cells trained on and on those held out."""
    trained = [model for model, run in first_runs(summary).items() if run.history]
    n_columns = min(3, len(trained))
    n_rows = -(-len(trained) // n_columns)
    figure = blank(0.6 + 3.0 * n_columns, 0.5 + 2.5 * n_rows)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in panels[len(trained) :]:
        axes.remove()
    for axes, model in zip(panels, trained, strict=False):
        draw_loss(axes, [run for run in summary.runs if run.model == model])
    figure.legend(handles=loss_key(), loc="outside upper right", ncols=2)
    settle(figure)
    return figure


def loss_key() -> list[Line2D]:
    """Return what a legend of loss curves shows."""
    return [
        Line2D([], [], color=_TRAIN, label="trained on"),
        Line2D([], [], color=_HELD_OUT, linestyle="--", label="held out"),
    ]


def draw_points(axes: Axes, rows: list[ScoreRow], metrics: Sequence[str]) -> None:
    """Draw means over seeds as points and their intervals as lines, a row for each model."""
    lanes = np.linspace(-0.13, 0.13, len(metrics)) * (len(metrics) > 1)
    for metric, lane in zip(metrics, lanes, strict=True):
        colour, shape = _POINTS[metric]
        height = np.arange(len(rows)) + lane
        for y, row in zip(height, rows, strict=True):
            axes.plot(row.interval[metric], (y, y), color=colour, linewidth=1.4)
        means = [row.mean[metric] for row in rows]
        axes.plot(means, height, shape, color=colour, markersize=5, label=METRICS[metric])
    axes.set_yticks(range(len(rows)), [_row_name(row) for row in rows], color=INK)
    axes.set(ylim=(len(rows) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_scores(axes: Axes, rows: list[ScoreRow]) -> AxesImage:
    """Draw the scores of one space as coloured cells with their numbers."""
    values = np.array([[row.mean[metric] for metric in METRICS] for row in rows])
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(METRICS)), list(METRICS.values()), color=INK)
    axes.set_yticks(range(len(rows)), [_row_name(row) for row in rows], color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    winners = best(rows)
    for i, row in enumerate(rows):
        for j, metric in enumerate(METRICS):
            value = row.mean[metric]
            ink = ink_on(value)
            axes.text(j, i, number(value), ha="center", va="center", color=ink)
            if (row.space, row.model, metric) in winners:
                frame = Rectangle((j - 0.47, i - 0.42), 0.94, 0.84, fill=False, ec=ink, lw=1.4)
                axes.add_patch(frame)
    return image


def _row_name(row: ScoreRow) -> str:
    return shown(row.title) + (" (baseline)" if row.model == BASELINE else "")


def draw_loss(axes: Axes, runs: list[ModelRun]) -> None:
    """Draw the first seed in full strength, the others behind it."""
    for order, run in reversed(list(enumerate(runs))):
        strength = 1.0 if order == 0 else 0.3
        for key, colour, line in (("train", _TRAIN, "-"), ("held_out", _HELD_OUT, "--")):
            curve = run.history.get(key, ())
            epochs = range(1, len(curve) + 1)
            axes.plot(epochs, curve, line, color=colour, alpha=strength, linewidth=1.4)
    axes.set_title(shown(runs[0].title))
    axes.set(xlabel="epoch", ylabel="loss per cell")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(words: str, width: int) -> str:
    return "\n".join(textwrap.wrap(words, width))
