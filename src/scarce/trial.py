"""One model with one seed: fit it, map its code, cluster both and score the clusters."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce import cluster, layout, metrics
from scarce.estimators import Estimator
from scarce.preprocess import pca
from scarce.presets import TITLES, Settings, build
from scarce.summary import ModelRun, Score

__all__ = ["Progress", "Trial", "silent", "trial"]

Points: TypeAlias = NDArray[np.floating]
"""One row per cell."""

Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of so many steps; what it yields is told the step reached."""


@contextmanager
def silent(task: str, n_steps: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001
    """Show no progress."""
    yield lambda step: None


@dataclass(frozen=True)
class Trial:
    """What came out of one fit."""

    run: ModelRun
    estimator: Estimator | None
    """The fitted model; None for PCA."""
    spaces: dict[str, Points]
    """``latent``, shape (n_cells, n_latent), and ``tsne2d``, shape (n_cells, 2)."""
    clusters: dict[str, cluster.Clusters]
    """k-means in each of these spaces."""
    scores: tuple[Score, ...]
    """One for each of these spaces."""
    neighbourhood: layout.Neighbourhood
    """Of the latent space, from which a 3-D map can be drawn as well."""


def trial(
    cells: AnnData,
    labels: NDArray[np.str_],
    *,
    model: str,
    settings: Settings,
    seed: int,
    progress: Progress = silent,
) -> Trial:
    """Fit, map, cluster and score.

    Parameters
    ----------
    cells
        Log-normalised expression of the modelled genes, n_cells x n_genes.
    labels
        Reference type of each cell, shape (n_cells,). Their number is the k of k-means;
        the model never sees them.
    model
        ``pca`` or one of `scarce.presets.MODELS`.
    settings
        Of the model.
    seed
        Of every step.
    progress
        Opens a progress bar for each long step.
    """
    if model == "pca":
        estimator, z, run = None, *_principal_components(cells, settings.n_latent, seed)
    else:
        estimator = build(model, settings, seed=seed)
        title = f"{TITLES[model]}: training, seed {seed}"
        with progress(title, estimator.training.epochs) as on_epoch:
            z = estimator.fit(cells, on_epoch=on_epoch).transform(cells)
        run = _account(model, estimator)
    near = layout.neighbourhood(z, seed=seed)
    with progress(f"{TITLES[model]}: 2-D map, seed {seed}", 1):
        spaces: dict[str, Points] = {"latent": z, "tsne2d": layout.tsne(near, 2, seed=seed)}
    n_types = len(np.unique(labels))
    clusters = {name: cluster.kmeans(points, n_types, seed=seed) for name, points in spaces.items()}
    scores = tuple(
        Score(
            model=model,
            seed=seed,
            space=name,
            n_clusters=len(clusters[name].centroids),
            silhouette=metrics.silhouette(points, labels, seed=seed),
            **metrics.agreement(labels, clusters[name].labels),
        )
        for name, points in spaces.items()
    )
    return Trial(run, estimator, spaces, clusters, scores, near)


def _principal_components(cells: AnnData, n_latent: int, seed: int) -> tuple[Points, ModelRun]:
    start = time.perf_counter()
    z = pca(csr_matrix(cells.X), n_latent, seed=seed)
    seconds = time.perf_counter() - start
    n_parameters = (z.shape[1] + 1) * cells.n_vars
    settings: dict[str, object] = {"n_latent": z.shape[1]}
    return z, ModelRun("pca", TITLES["pca"], seed, seconds, 0, n_parameters, "", settings)


def _account(model: str, estimator: Estimator) -> ModelRun:
    history = estimator.history_
    return ModelRun(
        model=model,
        title=TITLES[model],
        seed=estimator.seed,
        seconds=history.seconds,
        epochs=history.epochs,
        n_parameters=estimator.n_parameters_,
        path=estimator.path_,
        settings=estimator.options,
        numerics=asdict(estimator.numerics_),
        history={name: tuple(losses) for name, losses in history.losses.items()},
    )
