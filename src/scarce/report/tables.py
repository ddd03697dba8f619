"""The numbers of a summary in the rows that figures and page show: means over seeds."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scarce.compare import interval
from scarce.summary import ModelRun, RunSummary, Score

__all__ = [
    "BASELINE",
    "METRICS",
    "SPACES",
    "ScoreRow",
    "TrainingRow",
    "are_active",
    "best",
    "effective_beta",
    "first_runs",
    "number",
    "score_rows",
    "training_rows",
]

BASELINE = "pca"
_ACTIVE = 0.01
"""Variance over cells above which a latent is active: Burda, Grosse & Salakhutdinov (2016)."""
METRICS = {
    "nmi": "NMI",
    "ari": "ARI",
    "homogeneity": "Homogeneity",
    "completeness": "Completeness",
    "silhouette": "Silhouette",
}
SPACES = {"latent": "latent space", "tsne2d": "2-D t-SNE map"}


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one model in one space."""

    model: str
    title: str
    space: str
    n_clusters: str
    n_seeds: int
    mean: dict[str, float]
    """Metric to its mean over seeds."""
    sd: dict[str, float]
    """Metric to its sample standard deviation over seeds; not a number with a single seed."""
    interval: dict[str, tuple[float, float]]
    """Metric to the ends of Student's 95 % interval over seeds; not numbers with a single seed."""


@dataclass(frozen=True)
class TrainingRow:
    """What the fits of one model cost."""

    model: str
    title: str
    seconds: float
    """Mean over seeds."""
    peak_mb: float
    """Largest over seeds, 10^6 bytes; not a number where it was not measured."""
    epochs: str
    n_parameters: int
    path: str
    active: str
    """How many latents of the first fit vary over cells, of how many; empty where not known."""
    beta: float
    """Weight of the KL divergence beside a log likelihood, see `effective_beta`."""
    held_out: float
    """Lowest held-out loss per cell, mean over seeds; not a number where none was measured."""


def first_runs(summary: RunSummary) -> dict[str, ModelRun]:
    """Return the first run of each model, in the order in which the models were run."""
    first: dict[str, ModelRun] = {}
    for run in summary.runs:
        first.setdefault(run.model, run)
    return first


def score_rows(summary: RunSummary) -> list[ScoreRow]:
    """Return one row per space and model: the latent space first, models in the order run."""
    titles = {model: run.title for model, run in first_runs(summary).items()}
    found = {
        (space, model): [s for s in summary.scores if s.space == space and s.model == model]
        for space in SPACES
        for model in titles
    }
    return [_score_row(titles[model], scores) for (_, model), scores in found.items() if scores]


def best(rows: list[ScoreRow]) -> frozenset[tuple[str, str, str]]:
    """Return (space, model, metric) of the highest mean in each space, ties at 3 decimals kept."""
    winners = set()
    for space in {row.space for row in rows}:
        group = [row for row in rows if row.space == space]
        for metric in METRICS:
            rounded = [round(row.mean[metric], 3) for row in group]
            top = max((v for v in rounded if not np.isnan(v)), default=np.nan)
            winners |= {
                (space, row.model, metric)
                for row, v in zip(group, rounded, strict=True)
                if v == top
            }
    return frozenset(winners)


def training_rows(summary: RunSummary) -> list[TrainingRow]:
    """Return one row per model, in the order in which the models were run."""
    return [
        _training_row(
            [run for run in summary.runs if run.model == model], summary.cells.latents.get(model)
        )
        for model in first_runs(summary)
    ]


def effective_beta(settings: dict[str, object]) -> float:
    """Return the weight of the KL divergence in units of the evidence lower bound, which has 1.

    Parameters
    ----------
    settings
        Of one fit, as in `ModelRun.settings`.

    Returns
    -------
    float
        Not a number for a model without a KL divergence.

    Notes
    -----
    Beside a log likelihood it is ``beta``. The squared error is twice the negative log
    likelihood of Gaussian noise of variance 1, up to a constant, so that there it is ``beta / 2``.
    """
    network, beta = settings.get("network"), settings.get("beta")
    if not isinstance(beta, int | float):
        return np.nan
    squared = isinstance(network, dict) and network.get("likelihood") == "squared_error"
    return beta / 2 if squared else float(beta)


def are_active(z: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the latents of a code (n_cells, n_latent) that are active, shape (n_latent,)."""
    return np.asarray(z.var(axis=0) > _ACTIVE)


def number(value: float) -> str:
    """Write a number to three decimals, zero without a sign, and a missing one as a dash."""
    return "–" if np.isnan(value) else f"{value:z.3f}".replace("-", "−")


def _score_row(title: str, scores: list[Score]) -> ScoreRow:
    found = {m: interval(np.array([getattr(s, m) for s in scores], np.float64)) for m in METRICS}
    return ScoreRow(
        model=scores[0].model,
        title=title,
        space=scores[0].space,
        n_clusters=_extent(s.n_clusters for s in scores),
        n_seeds=len(scores),
        mean={m: of["mean"] for m, of in found.items()},
        sd={m: of["sd"] for m, of in found.items()},
        interval={m: (of["low"], of["high"]) for m, of in found.items()},
    )


def _training_row(runs: list[ModelRun], z: NDArray[np.float64] | None) -> TrainingRow:
    lowest = [np.min(run.history["held_out"]) for run in runs if run.history.get("held_out")]
    return TrainingRow(
        model=runs[0].model,
        title=runs[0].title,
        seconds=float(np.mean([run.seconds for run in runs])),
        peak_mb=max(run.peak_mb for run in runs),
        epochs=_extent(run.epochs for run in runs),
        n_parameters=runs[0].n_parameters,
        path=runs[0].path,
        active="" if z is None else f"{are_active(z).sum()} of {z.shape[1]}",
        beta=effective_beta(runs[0].settings),
        held_out=float(np.mean(lowest)) if lowest else np.nan,
    )


def _extent(values: Iterable[int]) -> str:
    """Write whole numbers as their range, such as ``"9–11"``, or the one value they share."""
    distinct = sorted(set(values))
    low, high = distinct[0], distinct[-1]
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
