"""Everything a study measures in one trial."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from scarce import cluster, metrics
from scarce.held_out import explained_by_neighbours
from scarce.memory import peak_memory
from scarce.sampling import seen_cells
from scarce.study.grid import Task
from scarce.study.labelled import load_labelled, modelled_cells
from scarce.trial import Trial, trial

__all__ = ["COSTS", "measure"]

COSTS = ("seconds", "peak_rss_mb")
"""Measures that differ between runs of the same trial; no other does."""

_VARIABLE = 2000
"""Genes that scaled PCA sees, and that neighbours are compared by."""


def measure(task: Task) -> dict[str, object]:
    """Run a trial; return ``values``, rows of space, metric and value, ``notes`` and its wall time.

    Scores of clusters and neighbours stand under the space they were found in, what is
    measured once for a fit under ``latent``.

    Raises
    ------
    RuntimeError
        If the data are no longer those the trial was planned on.
    """
    start = time.perf_counter()
    config = task.config
    with _threads(config.threads), peak_memory() as peak:
        labelled = load_labelled(task.source)
        if labelled.facts != config.data:
            raise RuntimeError(f"the file of {config.data.name} changed while the study ran")
        cells, note = modelled_cells(task.source, _genes(task), config.settings.batch)
        done = trial(
            cells,
            labelled.labels,
            model=config.model,
            settings=config.settings,
            seed=config.seed,
            unseen=config.unseen,
            n_jobs=config.threads,
        )
        values = [*_scores(done, labelled.labels, config.seed), *_of_the_fit(done)]
    if config.settings.batch is not None:
        batch = cells.obs[config.settings.batch].astype(str)
        for space, points in done.spaces.items():
            values.append((space, "batch_mixing", metrics.batch_mixing(points, batch)))
    if not seen_cells(cells.n_obs, config.unseen, config.seed).all():
        values.append(("latent", "knn_r2", _explained_by_neighbours(done, task)))
    values.append(("latent", "peak_rss_mb", peak.megabytes))
    seconds = time.perf_counter() - start
    return {"values": values, "notes": [note] if note else [], "wall_seconds": seconds}


def _genes(task: Task) -> int | None:
    """How many variable genes a model sees; PCA all, scaled PCA never all."""
    wanted = task.config.settings.genes
    if task.config.model == "pca":
        return None
    return _VARIABLE if task.config.model == "pca_scaled" and wanted is None else wanted


def _explained_by_neighbours(done: Trial, task: Task) -> float:
    """Of the same genes for every method, whatever it was fitted on."""
    cells, _ = modelled_cells(task.source, _VARIABLE, task.config.settings.batch)
    seen = seen_cells(cells.n_obs, task.config.unseen, task.config.seed)
    return explained_by_neighbours(csr_matrix(cells.X), done.spaces["latent"], seen)


def _scores(done: Trial, labels: NDArray[np.str_], seed: int) -> Iterator[tuple[str, str, float]]:
    """Yield every score that depends on labels."""
    for score in done.scores:
        for name, value in asdict(score).items():
            if name not in ("model", "seed", "space"):
                yield score.space, name, float(value)
    found = cluster.leiden(done.spaces["latent"], len(np.unique(labels)), seed=seed)
    yield "latent_leiden", "n_clusters", float(len(found.centroids))
    for name, value in metrics.agreement(labels, found.labels).items():
        yield "latent_leiden", name, value
    for space, points in done.spaces.items():
        for name, value in metrics.neighbour_agreement(points, labels).items():
            yield space, name, value


def _of_the_fit(done: Trial) -> Iterator[tuple[str, str, float]]:
    """Yield what needs no labels."""
    facts = {
        **done.held_out,
        "active_units": metrics.active_units(done.spaces["latent"]),
        "seconds": done.run.seconds,
        "n_parameters": done.run.n_parameters,
        "epochs": done.run.epochs,
    }
    for name, value in facts.items():
        yield "latent", name, float(value)


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Give every library the trial's number of threads, on whatever machine it runs."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(n_threads)
    numba.set_num_threads(min(n_threads, before[1]))
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])
