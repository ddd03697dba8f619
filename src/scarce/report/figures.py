"""Every figure of a run, by the stem of the file it is kept in."""

from matplotlib.figure import Figure

from scarce.report.charts import loss_curves, score_map
from scarce.report.dotplot import marker_dots
from scarce.report.maps import kmeans_map, map_2d, map_3d
from scarce.report.tables import first_runs
from scarce.summary import RunSummary

__all__ = ["all_figures"]


def all_figures(summary: RunSummary) -> dict[str, Figure]:
    """Draw every figure the summary has data for.

    Parameters
    ----------
    summary
        What the run did and found.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        File stem to figure: ``map_<model>``, ``kmeans_<model>``, ``map3d_<model>``, then
        ``markers``, ``scores`` and ``loss``.
    """
    cells, figures = summary.cells, {}
    for model in first_runs(summary):
        if model in cells.tsne2d:
            figures[f"map_{model}"] = map_2d(summary, model)
        if model in cells.kmeans and model in cells.tsne2d:
            figures[f"kmeans_{model}"] = kmeans_map(summary, model)
        if model in cells.tsne3d:
            figures[f"map3d_{model}"] = map_3d(summary, model)
    if summary.dots is not None:
        figures["markers"] = marker_dots(summary.dots)
    if summary.scores:
        figures["scores"] = score_map(summary)
    if any(run.history for run in summary.runs):
        figures["loss"] = loss_curves(summary)
    return figures
