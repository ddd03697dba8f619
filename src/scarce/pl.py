"""Figures of a run on axes of one's own, as scanpy draws its figures.

Those of cells take the AnnData that `scarce.pipeline.run` returns, or that ``embeddings.h5ad``
holds; those of models and genes the `RunSummary` that it returns, or that `scarce.record.load`
reads from the folder of a run. All return the axes; they are drawn by what draws the report.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from numpy.typing import NDArray

from scarce import check
from scarce.errors import InputError
from scarce.report.canvas import house_style
from scarce.report.charts import draw_loss, draw_points, loss_key
from scarce.report.confusion import draw_confusion, shares
from scarce.report.dotplot import SHADE, dot_key, dot_size, draw_dots
from scarce.report.maps import cluster_styles, draw_borders, frame_map, mark_centroids, scatter
from scarce.report.palette import styles
from scarce.report.tables import METRICS, SPACES, score_rows
from scarce.summary import RunSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion", "kmeans", "loss", "markers", "scores", "tsne"]


@house_style()
def tsne(adata: AnnData, model: str, *, color: str = "cell_type", ax: Axes | None = None) -> Axes:
    """Draw the 2-D map of a model.

    Parameters
    ----------
    adata
        Cells of a run.
    model
        ``pca`` or a model of the run, such as ``bvae``.
    color
        Column of ``obs``, or a gene: groups in the report's colours and shapes, numbers and
        log-normalised expression from pale to dark.
    ax
        Where to draw; on a new figure if None.

    Raises
    ------
    InputError
        If the run has no such model, or the cells no such column or gene.
    """
    points = _map_of(adata, model)
    ax = _axes(ax)
    frame_map(ax, points)
    values = _values(adata, color)
    if not pd.api.types.is_numeric_dtype(values.dtype):
        names = values.astype(str)
        look = styles(names.value_counts().index)
        scatter(ax, points, names.to_numpy(dtype=str), look)
        for points_of_type, name in zip(ax.collections[-len(look) :], look, strict=True):
            points_of_type.set_label(name)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        drawn = _graded(ax, points, values.to_numpy(dtype=np.float64))
        ax.get_figure(root=True).colorbar(drawn, ax=ax, label=color)  # type: ignore[union-attr]
    ax.set_title(f"{model}: {color}")
    return ax


@house_style()
def kmeans(adata: AnnData, model: str, *, ax: Axes | None = None) -> Axes:
    """Draw k-means clusters of the 2-D map, with borders and numbered centroids.

    A cluster wears the colour and shape of its most common type, as in the report.
    """
    points, clusters = _map_of(adata, model), _clusters(adata, model)
    labels = adata.obs["cell_type"].to_numpy(dtype=str)
    look = styles(adata.obs["cell_type"].value_counts().index)
    centroids = np.full((clusters.max() + 1, 2), np.nan)
    for cluster in np.unique(clusters):  # a part of the cells may lack one
        centroids[cluster] = points[clusters == cluster].mean(axis=0)
    ax = _axes(ax)
    frame_map(ax, points)
    scatter(ax, points, clusters, cluster_styles(clusters, labels, look, len(centroids)))
    draw_borders(ax, centroids)
    mark_centroids(ax, centroids)
    ax.set_title(f"{model}: k-means of the map")
    return ax


@house_style()
def confusion(adata: AnnData, model: str, *, ax: Axes | None = None) -> Axes:
    """Draw in which k-means clusters of the 2-D map the cells of each type lie."""
    types = [str(name) for name in adata.obs["cell_type"].value_counts().index]
    found = shares(adata.obs["cell_type"].to_numpy(dtype=str), _clusters(adata, model), types)
    ax = _axes(ax)
    draw_confusion(ax, found, types)
    ax.set_title(f"{model}: share of each type in each cluster, %")
    return ax


@house_style()
def scores(
    summary: RunSummary,
    *,
    space: str = "latent",
    metrics: Sequence[str] = ("nmi", "ari"),
    ax: Axes | None = None,
) -> Axes:
    """Draw scores of every model: means over seeds with Student's 95 % intervals.

    Parameters
    ----------
    summary
        What a run found. With a single seed the points have no intervals.
    space
        ``latent`` or ``tsne2d``: where k-means ran.
    metrics
        Of ``nmi``, ``ari``, ``homogeneity``, ``completeness`` and ``silhouette``.
    ax
        Where to draw; on a new figure if None.

    Raises
    ------
    InputError
        If there is no such space or metric, or if the run has no scores.
    """
    check.one_of("space", space, SPACES)
    for metric in metrics:
        check.one_of("metric", metric, METRICS)
    rows = [row for row in score_rows(summary) if row.space == space]
    if not rows:
        raise InputError("summary must hold scores; found none. Run at least one model.")
    ax = _axes(ax)
    draw_points(ax, rows, metrics)
    ax.legend(loc="best")
    n_seeds = max(row.n_seeds for row in rows)
    over = f"mean and 95 % interval over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    ax.set(xlabel=f"{over}; 1 is perfect")
    ax.set_title(f"k-means in the {SPACES[space]}")
    return ax


@house_style()
def loss(summary: RunSummary, model: str, *, ax: Axes | None = None) -> Axes:
    """Draw loss per cell of a model after each epoch, of cells trained on and held out.

    The first seed is drawn in full strength, the others faintly.

    Raises
    ------
    InputError
        If the run has not trained that model.
    """
    check.one_of("model", model, list(dict.fromkeys(r.model for r in summary.runs if r.history)))
    ax = _axes(ax)
    draw_loss(ax, [run for run in summary.runs if run.model == model])
    ax.legend(handles=loss_key())
    return ax


@house_style()
def markers(summary: RunSummary, *, ax: Axes | None = None) -> Axes:
    """Draw top marker genes of every type: how many of its cells express them, how strongly.

    Raises
    ------
    InputError
        If the run has kept no markers.
    """
    if summary.dots is None:
        raise InputError("summary must hold marker genes; found none. Run on labelled cells.")
    ax = _axes(ax, dot_size(summary.dots))
    drawn = draw_dots(ax, summary.dots)
    ax.get_figure(root=True).colorbar(drawn, ax=ax, label=SHADE)  # type: ignore[union-attr]
    ax.legend(handles=dot_key(), loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3)
    ax.set_title("Top marker genes")
    return ax


def _axes(ax: Axes | None, size: tuple[float, float] = (5.6, 4.8)) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    figure: Figure = plt.figure(figsize=size, layout="constrained")
    return figure.add_subplot()


def _map_of(adata: AnnData, model: str) -> NDArray[np.float64]:
    models = [key.removeprefix("X_tsne_") for key in adata.obsm if key.startswith("X_tsne_")]
    check.one_of("model", model, models)
    return np.asarray(adata.obsm[f"X_tsne_{model}"], dtype=np.float64)


def _clusters(adata: AnnData, model: str) -> NDArray[np.int64]:
    _map_of(adata, model)
    return np.asarray(adata.obs[f"kmeans_tsne2d_{model}"].astype(str), dtype=np.int64)


def _values(adata: AnnData, color: str) -> pd.Series:
    if color in adata.obs:
        return pd.Series(adata.obs[color])
    if color in adata.var_names:
        return pd.Series(adata.obs_vector(color))
    raise InputError(
        f"color must be a column of obs or a gene; found neither for {color!r}. "
        f"Columns: {', '.join(map(repr, adata.obs))}."
    )


def _graded(ax: Axes, points: NDArray[np.float64], values: NDArray[np.float64]) -> PathCollection:
    """Draw cells from pale to dark, the highest values on top."""
    order = np.argsort(values, kind="stable")
    size = float(np.clip(14_000 / len(points), 1.5, 16))
    return ax.scatter(
        points[order, 0],
        points[order, 1],
        s=size,
        c=values[order],
        cmap="Blues",
        linewidths=0.15,
        edgecolors="#6b737c",
        rasterized=len(points) > 5_000,
    )
