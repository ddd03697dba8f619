"""Which method is better, and how sure that is: from a table of scores, one row per trial.

Methods are compared in pairs on the same data set and seed. Seeds say how far luck of the
start decides a score on one data set; only data sets say whether that holds on another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "ALL",
    "COLUMNS",
    "COMPARED",
    "UNRANKED",
    "Comparison",
    "critical_difference",
    "differences",
    "estimates",
    "interval",
    "mean_ranks",
    "wins",
]

COLUMNS = ["dataset", "model", "preset", "seed", "space", "metric", "value", "label_source"]

COMPARED = (
    "nmi",
    "ari",
    "homogeneity",
    "completeness",
    "silhouette",
    "knn_balanced_accuracy",
    "knn_macro_f1",
)
"""Metrics that mean the same for every method, and of which more is better."""

UNRANKED = ("mean", "random")
"""Baselines that give cells no code of their own: shown, but no method is compared with them."""

ALL = "all"
"""Stands for all data sets together."""

_LEAST_DATASETS = 6
"""Below it, no Wilcoxon test of paired differences can reach p < .05."""

_PAIR = ["model", "preset"]
_OTHER = ["other_model", "other_preset"]
_VERDICTS = ("better", "worse", "tie", "undecided")


@dataclass(frozen=True)
class Comparison:
    """A benchmark and what follows from it: all that its report is rendered from."""

    results: pd.DataFrame
    """One row per trial, space and metric, with `COLUMNS`."""
    estimates: pd.DataFrame
    """From `estimates`."""
    differences: pd.DataFrame
    """From `differences`."""
    floor: float
    """Differences below it are ties."""
    titles: dict[str, str]
    """Model to its name for people."""
    datasets: tuple[dict[str, object], ...] = ()
    """Name, cells, genes, types, label source and whether that is circular, of each."""
    failures: tuple[dict[str, object], ...] = ()
    """Dataset, model, preset, seed and error of each trial that failed."""
    config: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def estimates(results: pd.DataFrame) -> pd.DataFrame:
    r"""Return the mean over seeds and its 95 % interval.

    :math:`\bar x \pm t_{.975, n - 1}\, s / \sqrt n`.

    Parameters
    ----------
    results
        With `COLUMNS`; missing values are left out.

    Returns
    -------
    One row per data set, model, preset, space and metric, with ``n_seeds``, ``mean``, ``sd``,
    ``low`` and ``high``; the last three are missing for a single seed. In order of appearance.
    """
    keys = ["dataset", *_PAIR, "space", "metric"]
    known = results.dropna(subset="value")
    rows = [
        dict(zip(keys, key, strict=True)) | interval(group.to_numpy(np.float64))
        for key, group in known.groupby(keys, sort=False)["value"]
    ]
    return pd.DataFrame(rows, columns=[*keys, "n_seeds", "mean", "sd", "low", "high"])


def differences(results: pd.DataFrame, *, floor: float) -> pd.DataFrame:
    """Compare every two methods, on each data set and on all of them.

    Parameters
    ----------
    results
        With `COLUMNS`.
    floor
        Differences below it are ties, whatever their interval.

    Returns
    -------
    One row per space, metric, pair and data set, and one for all data sets where there are
    two or more: ``n`` seeds or data sets, mean ``difference`` of the first method from the
    second, its 95 % interval ``low`` to ``high``, ``p_wilcoxon`` and ``p_holm`` where six data
    sets or more allow them, and the ``verdict`` on the first method.

    Notes
    -----
    The interval is Student's: over seeds on one data set, over the mean differences of data sets
    on all, where it narrows with more data sets and not with more seeds. (The bootstrap of a
    handful of data sets is far too narrow.) p is that of the signed-rank test of these means,
    Holm's correction over all pairs of one space and metric. Verdict: ``tie`` for a difference
    below the floor; ``undecided`` for a larger one whose interval holds 0 or that has none; else
    ``better`` or ``worse``.

    References
    ----------
    Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006.
    """
    scores = results[results["metric"].isin(COMPARED) & ~results["model"].isin(UNRANKED)]
    rows: list[dict[str, object]] = []
    for (space, metric), group in scores.groupby(["space", "metric"], sort=False):
        wide = group.pivot_table(
            index=["dataset", "seed"], columns=_PAIR, values="value", sort=False
        )
        family = []
        for first, second in combinations(wide.columns, 2):
            names = {"space": space, "metric": metric}
            names |= dict(zip([*_PAIR, *_OTHER], [*first, *second], strict=True))
            gaps = (wide[first] - wide[second]).dropna()
            new = [names | row for row in _compared(gaps, floor)]
            rows += new
            family += [row for row in new if row["dataset"] == ALL]
        _adjust(family)
    columns = ["space", "metric", *_PAIR, *_OTHER, "dataset", "n", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high", "p_wilcoxon", "p_holm", "verdict"])


def wins(differences: pd.DataFrame, space: str, metric: str) -> pd.DataFrame:
    """Count over all others how often each method is better, worse, tied and undecided.

    Over all data sets together where there are several, else on the one there is.
    """
    part = differences[(differences["space"] == space) & (differences["metric"] == metric)]
    pooled = part[part["dataset"] == ALL]
    part = pooled if len(pooled) else part
    turned = part.rename(
        columns={"other_model": "model", "other_preset": "preset"}
        | {"model": "other_model", "preset": "other_preset"}
    ).assign(verdict=part["verdict"].replace({"better": "worse", "worse": "better"}))
    both = pd.concat([part, turned])
    return (
        both.groupby(_PAIR, sort=False)["verdict"]
        .value_counts()
        .unstack(fill_value=0)
        .reindex(columns=list(_VERDICTS), fill_value=0)
    )


def mean_ranks(estimates: pd.DataFrame, space: str, metric: str) -> tuple[pd.Series, int]:
    """Return the mean rank of each method over data sets, 1 the best, and their number.

    Data sets on which a method has no score do not count.
    """
    part = estimates[(estimates["space"] == space) & (estimates["metric"] == metric)]
    wide = part.pivot_table(index="dataset", columns=_PAIR, values="mean", sort=False).dropna()
    return wide.rank(axis=1, ascending=False).mean().sort_values(kind="stable"), len(wide)


def critical_difference(n_methods: int, n_datasets: int) -> float:
    r"""Return how far two mean ranks must be apart, by Nemenyi's test at the 5 % level.

    :math:`q_{.05,k} \sqrt{k (k + 1) / (6 N)}` for k methods on N data sets, q the quantile of
    the studentised range divided by :math:`\sqrt 2`.

    Examples
    --------
    The table of the paper gives q = 2.728 for k = 5:

    >>> round(critical_difference(5, 30) / (5 * 6 / (6 * 30)) ** 0.5, 3)
    2.728
    """
    q = stats.studentized_range.ppf(0.95, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_datasets)))


def _compared(gaps: pd.Series, floor: float) -> Iterator[dict[str, object]]:
    """Yield a row for each data set, and one for all."""
    by_dataset = gaps.groupby(level="dataset", sort=False)
    for dataset, group in by_dataset:
        yield _row(dataset, group.to_numpy(np.float64), floor)
    means = by_dataset.mean().to_numpy(np.float64)
    if len(means) > 1:
        row = _row(ALL, means, floor)
        if len(means) >= _LEAST_DATASETS:
            row["p_wilcoxon"] = 1.0 if not means.any() else float(stats.wilcoxon(means).pvalue)
        yield row


def _row(dataset: object, gaps: NDArray[np.float64], floor: float) -> dict[str, object]:
    n, difference, _, low, high = interval(gaps).values()
    if abs(difference) < floor:
        verdict = "tie"
    elif low > 0 or high < 0:
        verdict = "better" if low > 0 else "worse"
    else:
        verdict = "undecided"
    return {
        "dataset": dataset,
        "n": int(n),
        "difference": difference,
        "low": low,
        "high": high,
        "verdict": verdict,
    }


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """Return ``n_seeds``, ``mean``, ``sd``, and ``low`` and ``high`` of Student's 95 % interval.

    Parameters
    ----------
    values
        Independent of one another, shape (n_seeds,). A single one has no deviation and no
        interval.
    """
    n, mean = len(values), float(values.mean())
    sd = float(values.std(ddof=1)) if n > 1 else np.nan
    half = float(stats.t.ppf(0.975, n - 1)) * sd / np.sqrt(n) if n > 1 else np.nan
    return {"n_seeds": n, "mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def _adjust(rows: list[dict[str, object]]) -> None:
    """Add Holm's p to every row that has one."""
    tested = [row for row in rows if "p_wilcoxon" in row]
    tested.sort(key=lambda row: float(str(row["p_wilcoxon"])))
    least = 0.0
    for rank, row in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * float(str(row["p_wilcoxon"]))))
        row["p_holm"] = least
