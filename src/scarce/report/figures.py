"""Every figure of a run, by the stem of the file it is kept in."""

from collections.abc import Callable, Collection
from functools import partial

from matplotlib.figure import Figure

from scarce.report.charts import loss_curves, score_map
from scarce.report.confusion import confusion_map
from scarce.report.dotplot import marker_dots
from scarce.report.maps import kmeans_map, map_2d, map_3d
from scarce.report.tables import first_runs
from scarce.summary import RunSummary

__all__ = ["all_figures", "figure_names"]


def figure_names(summary: RunSummary) -> list[str]:
    """Return the stem of every figure the summary has data for, in the order of the report."""
    return list(_figures(summary))


def all_figures(summary: RunSummary, only: Collection[str] | None = None) -> dict[str, Figure]:
    """Draw every figure the summary has data for.

    Parameters
    ----------
    summary
        What the run did and found.
    only
        Stems of the figures wanted; all of them if None.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        File stem to figure: ``map_<model>``, ``kmeans_<model>``, ``confusion_<model>``,
        ``map3d_<model>``, then ``markers``, ``scores`` and ``loss``.
    """
    return {
        name: draw() for name, draw in _figures(summary).items() if only is None or name in only
    }


def _figures(summary: RunSummary) -> dict[str, Callable[[], Figure]]:
    """Return how to draw each figure."""
    cells = summary.cells
    found: dict[str, Callable[[], Figure]] = {}
    for model in first_runs(summary):
        if model in cells.tsne2d:
            found[f"map_{model}"] = partial(map_2d, summary, model)
        if model in cells.kmeans and model in cells.tsne2d:
            found[f"kmeans_{model}"] = partial(kmeans_map, summary, model)
            found[f"confusion_{model}"] = partial(confusion_map, summary, model)
        if model in cells.tsne3d:
            found[f"map3d_{model}"] = partial(map_3d, summary, model)
    if summary.dots is not None:
        found["markers"] = partial(marker_dots, summary.dots)
    if summary.scores:
        found["scores"] = partial(score_map, summary)
    if any(run.history for run in summary.runs):
        found["loss"] = partial(loss_curves, summary)
    return found
