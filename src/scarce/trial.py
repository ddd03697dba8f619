"""One model with one seed: fit it, map its code, cluster both and score the clusters."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce import cluster, held_out, layout, metrics
from scarce.contenders import contend
from scarce.estimators import Ensemble, Estimator
from scarce.likelihoods import LIKELIHOODS
from scarce.memory import peak_memory
from scarce.presets import ALL_MODELS, ENSEMBLE, TITLES, Settings, build, build_ensemble
from scarce.sampling import seen_cells
from scarce.sparse.stats import TARGET_SUM, mean_and_variance
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
    model: Estimator | Ensemble | None
    """The fitted model; None for what is not one of ours."""
    spaces: dict[str, Points]
    """``latent``, shape (n_cells, n_latent), and ``tsne2d``, shape (n_cells, 2)."""
    clusters: dict[str, cluster.Clusters]
    """k-means in each of these spaces."""
    scores: tuple[Score, ...]
    """One for each of these spaces."""
    neighbourhood: layout.Neighbourhood
    """Of the latent space, from which a 3-D map can be drawn as well."""
    held_out: dict[str, float] = field(default_factory=dict)
    """On the cells kept from the fit, where they are defined: ``r2``, see
    `held_out.explained_variance`; ``elbo`` and ``iwae``, see `held_out.bounds`."""

    @property
    def estimator(self) -> Estimator | None:
        """The fitted model if it is a single one, whose latents can be told apart."""
        return self.model if isinstance(self.model, Estimator) else None


def trial(
    cells: AnnData,
    labels: NDArray[np.str_],
    *,
    model: str,
    settings: Settings,
    seed: int,
    unseen: float = 0.0,
    n_jobs: int | None = None,
    progress: Progress = silent,
) -> Trial:
    """Fit, map, cluster and score.

    Parameters
    ----------
    cells
        Log-normalised expression of the modelled genes, n_cells x n_genes, and their
        ``layers["counts"]`` for a likelihood of counts.
    labels
        Reference type of each cell, shape (n_cells,). Their number is the k of k-means;
        the model never sees them.
    model
        One of `scarce.presets.TITLES`.
    settings
        Of the model.
    seed
        Of every step.
    unseen
        Share of cells kept from the fit, drawn by the seed alone: the same for every model.
        They are coded, mapped and clustered with the others.
    n_jobs
        Threads of the maps; as many as torch has unless given.
    progress
        Opens a progress bar for each long step.
    """
    rows = seen_cells(cells.n_obs, unseen, seed)
    z, run, held, fitted = _fit(_Task(cells, rows, model, settings, seed, progress))
    near = layout.neighbourhood(z, seed=seed, n_jobs=n_jobs or torch.get_num_threads())
    with progress(f"{TITLES[model]}: 2-D map, seed {seed}", 1):
        spaces: dict[str, Points] = {
            "latent": z,
            "tsne2d": layout.tsne(near, 2, seed=seed),
        }
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
    return Trial(run, fitted, spaces, clusters, scores, near, held)


@dataclass(frozen=True)
class _Task:
    """What to fit, on which cells; see `trial`."""

    cells: AnnData
    rows: NDArray[np.bool_]
    """Cells to fit on, shape (n_cells,)."""
    model: str
    settings: Settings
    seed: int
    progress: Progress

    @property
    def seen(self) -> AnnData:
        return self.cells if self.rows.all() else self.cells[self.rows]

    @property
    def unseen(self) -> AnnData:
        return self.cells[~self.rows]

    @property
    def title(self) -> str:
        return f"{TITLES[self.model]}: training, seed {self.seed}"


class _Fitted(NamedTuple):
    """One fit, and what it says of all cells."""

    z: Points
    run: ModelRun
    held_out: dict[str, float]
    model: Estimator | Ensemble | None = None


def _fit(task: _Task) -> _Fitted:
    if task.model in ALL_MODELS:
        return _fit_model(task)
    return _fit_ensemble(task) if task.model == ENSEMBLE else _fit_other(task)


def _fit_model(task: _Task) -> _Fitted:
    estimator = build(task.model, task.settings, seed=task.seed)
    start = time.perf_counter()
    with task.progress(task.title, estimator.training.epochs) as on_epoch, peak_memory() as peak:
        z = estimator.fit(task.seen, on_epoch=on_epoch).transform(task.cells)
    seconds = time.perf_counter() - start
    held = {}
    if not task.rows.all():
        held = _explained_by(estimator, task) | _bounds(estimator, task)
    return _Fitted(z, _account(task.model, estimator, seconds, peak.megabytes), held, estimator)


def _fit_ensemble(task: _Task) -> _Fitted:
    ensemble = build_ensemble(task.settings, seed=task.seed)
    start = time.perf_counter()
    with task.progress(task.title, ensemble.n_members) as on_fit, peak_memory() as peak:
        z = ensemble.fit(task.seen, on_fit=on_fit).transform(task.cells)
    seconds = time.perf_counter() - start
    run = replace(
        _account(task.model, ensemble.members_[0], seconds, peak.megabytes),
        seed=task.seed,
        epochs=max(member.history_.epochs for member in ensemble.members_),
        n_parameters=ensemble.n_parameters_,
        settings={"n_members": ensemble.n_members, **ensemble.estimator.options},
        history={},
        notes=tuple(
            f"fit {k}: {note}"
            for k, member in enumerate(ensemble.members_, start=1)
            for note in member.history_.notes
        ),
    )
    held = {} if task.rows.all() else _explained_by(ensemble, task)
    return _Fitted(z, run, held, ensemble)


def _fit_other(task: _Task) -> _Fitted:
    settings = task.settings
    with peak_memory() as peak:
        done = contend(
            task.model, task.cells, task.rows, settings.n_latent, task.seed, settings.batch
        )
    run = ModelRun(
        model=task.model,
        title=TITLES[task.model],
        seed=task.seed,
        seconds=done.seconds,
        epochs=done.epochs,
        n_parameters=done.n_parameters,
        path="",
        settings={"n_latent": done.z.shape[1]},
        peak_mb=peak.megabytes,
    )
    reconstruct = done.reconstruct
    if task.rows.all() or reconstruct is None:
        return _Fitted(done.z, run, {})
    x = csr_matrix(task.unseen.X)
    return _Fitted(done.z, run, _explained(task, lambda block: reconstruct(x[block])))


def _explained_by(model: Estimator | Ensemble, task: _Task) -> dict[str, float]:
    unseen = task.unseen
    if not _of_counts(model.estimator if isinstance(model, Ensemble) else model):
        return _explained(task, lambda block: model.reconstruct(unseen[block]))
    # Expression is scaled by the counts of all genes, counts are shared out among these.
    seen = csr_matrix(task.cells.X)[task.rows].data.astype(np.float64)
    share = float(np.expm1(seen).sum()) / (TARGET_SUM * task.rows.sum())
    return _explained(
        task, lambda block: np.log1p(share * np.expm1(model.reconstruct(unseen[block])))
    )


def _bounds(estimator: Estimator, task: _Task) -> dict[str, float]:
    if estimator.scaled:  # a density of z-scores is none of expression
        return {}
    unseen = task.unseen
    read = csr_matrix(unseen.layers["counts"] if _of_counts(estimator) else unseen.X)
    known = estimator.covariates_.columns(unseen.obs)
    return held_out.bounds(estimator.module_, read, known, seed=task.seed)


def _of_counts(estimator: Estimator) -> bool:
    return LIKELIHOODS[estimator.network.likelihood].counts


def _explained(task: _Task, reconstruct: Callable[[slice], Points]) -> dict[str, float]:
    x = csr_matrix(task.cells.X)
    mean, _ = mean_and_variance(x[task.rows])
    return {"r2": held_out.explained_variance(x[~task.rows], mean, reconstruct)}


def _account(model: str, estimator: Estimator, seconds: float, peak_mb: float) -> ModelRun:
    history = estimator.history_
    return ModelRun(
        model=model,
        title=TITLES[model],
        seed=estimator.seed,
        seconds=seconds,
        epochs=history.epochs,
        n_parameters=estimator.n_parameters_,
        path=estimator.path_,
        settings=estimator.options,
        numerics=asdict(estimator.numerics_),
        history={name: tuple(losses) for name, losses in history.losses.items()},
        peak_mb=peak_mb,
        notes=tuple(history.notes),
    )
