"""Search of hyper-parameters without labels: held-out ELBO, successive halving."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from scarce import check
from scarce.config import RunConfig
from scarce.data import write
from scarce.errors import InputError
from scarce.presets import Settings
from scarce.study.contest import claim_directory, public
from scarce.study.engine import run_tasks
from scarce.study.grid import BenchmarkConfig, Task
from scarce.study.labelled import Facts
from scarce.trial import Progress, silent

__all__ = ["TuneConfig", "tune"]

_OF_BOTH = ("batch_size", "beta", "latent", "lr")
TUNABLE = {"bvae": _OF_BOTH, "bvsc": ("alpha", *_OF_BOTH)}
"""Options of each model that can be varied; none changes over which cells and genes the ELBO is."""

_KEEP = 3
"""One in so many candidates goes on, with so many times the epochs."""


@dataclass(frozen=True)
class TuneConfig:
    """Every option of a search.

    Parameters
    ----------
    data
        One path or data set name, in a tuple.
    vary
        Option and its values, for each option to vary; all combinations are candidates.
    model
        ``bvae`` or ``bvsc``, which have an ELBO.
    preset
        What the other options are.
    seed, seeds
        First seed and how many; a candidate is judged by its mean over them.
    epochs
        Most passes over the cells in the last round; the preset's where not given.
    genes, layer, data_dir, unseen, threads
        See `BenchmarkConfig`.
    labels
        Column or file that says which cells to use, of two types at least; no choice depends on
        them.
    """

    data: tuple[str, ...]
    labels: tuple[str, ...]
    vary: tuple[tuple[str, tuple[float, ...]], ...]
    model: str = "bvae"
    preset: str = "default"
    seed: int = 0
    seeds: int = 2
    epochs: int | None = None
    genes: int | str | None = None
    layer: str | None = None
    data_dir: str | None = None
    unseen: float = 0.1
    threads: int = 1

    def check(self) -> None:
        """Raise `InputError` for the first option that is wrong."""
        check.a_list("data", self.data)
        check.a_list("labels", self.labels)
        if len(self.data) != 1 or len(self.labels) != 1:
            raise InputError(
                f"a search must have one data set and its --labels; found {len(self.data)} and "
                f"{len(self.labels)}."
            )
        check.one_of("model to tune by its ELBO", self.model, TUNABLE)
        if not self.vary:
            raise InputError("a search must vary an option; found none. Pass --vary latent=5,10.")
        check.no_repeats("options to vary", [name for name, _ in self.vary])
        for name, values in self.vary:
            check.one_of(f"option of {self.model} to vary", name, TUNABLE[self.model])
            if not values:
                raise InputError(f"an option to vary must have values; found none for {name}.")
        for candidate in self.candidates():
            self.settings(candidate, self.epochs)
        check.in_range("unseen", self.unseen, above=0, below=1)
        check.in_range("seeds", self.seeds, least=1, whole=True)
        check.in_range("seed", self.seed, least=0, most=2**32 - self.seeds, whole=True)

    def candidates(self) -> list[dict[str, float]]:
        """Return every combination of the varied options."""
        names = [name for name, _ in self.vary]
        return [
            dict(zip(names, values, strict=True)) for values in product(*(v for _, v in self.vary))
        ]

    def settings(self, candidate: dict[str, float], epochs: int | None) -> Settings:
        """Return the settings of a candidate in a round of so many epochs, or the preset's."""
        options: dict[str, Any] = {
            "preset": self.preset,
            "models": (self.model,),
            "genes": self.genes,
            "epochs": epochs,
        }
        return RunConfig.from_options(options | candidate).resolve().settings


def tune(
    config: TuneConfig,
    out: str | Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Search a small declared grid by held-out ELBO.

    Successive halving: every candidate gets a few epochs, the best third three times as many,
    and so on; the last round has the full number. Labels play no part.

    Parameters
    ----------
    config
        The candidates, and the data to judge them on.
    out
        Directory for ``tune.csv``, ``best.toml`` (for ``scarce run --config``) and
        ``trials/``. If it holds the same search, only what is missing is run.
    workers, scheduler, progress
        See `benchmark`.

    Returns
    -------
    One row per round and candidate: its options, ``epochs``, mean held-out ``elbo`` in nats
    per cell, its ``sd`` over seeds, and whether it was ``kept``.

    References
    ----------
    Jamieson & Talwalkar, "Non-stochastic best arm identification", AISTATS 2016.
    """
    config.check()
    blank = _blank(config)
    out = Path(out).expanduser()
    claim_directory(out, "search", public(config), [blank])
    candidates, rounds = config.candidates(), []
    budgets = _budgets(len(candidates), config.settings({}, config.epochs).training.epochs)
    for i, epochs in enumerate(budgets):
        tasks = _tasks(config, blank, candidates, epochs)
        found = run_tasks(
            tasks,
            (out / "trials").resolve(),
            n_workers=workers,
            scheduler=scheduler,
            title=f"round {i + 1} of {len(budgets)}, {epochs} epochs",
            progress=progress,
        )
        table = _judge(candidates, found, config.seeds)
        n_kept = max(1, len(candidates) // _KEEP) if i + 1 < len(budgets) else 1
        best = table["elbo"].nlargest(n_kept).index
        rounds.append(table.assign(kept=table.index.isin(best), epochs=epochs, round=i + 1))
        candidates = [candidates[k] for k in sorted(best)]
    table = pd.concat(rounds, ignore_index=True)
    first = ["round", "epochs"]
    table = table[first + [column for column in table if column not in first]]
    write.table(out / "tune.csv", table)
    write.text(out / "best.toml", _toml(config, blank.config.data, candidates))
    return table


def _budgets(n_candidates: int, epochs: int) -> list[int]:
    """Epochs of each round, the last the full number."""
    n_rounds = 1
    while n_candidates >= _KEEP**n_rounds and epochs >= _KEEP**n_rounds:
        n_rounds += 1
    return [max(1, epochs // _KEEP**i) for i in reversed(range(n_rounds))]


def _blank(config: TuneConfig) -> Task:
    """Return a trial on the data, to be filled in."""
    grid = BenchmarkConfig(
        data=config.data,
        labels=config.labels,
        models=(config.model,),
        presets=(config.preset,),
        seeds=1,
        genes=config.genes,
        layer=config.layer,
        data_dir=config.data_dir,
        unseen=config.unseen,
        threads=config.threads,
    )
    return grid.tasks()[-1]


def _tasks(
    config: TuneConfig, blank: Task, candidates: Sequence[dict[str, float]], epochs: int
) -> list[Task]:
    return [
        replace(
            blank,
            config=replace(
                blank.config,
                preset="custom",
                settings=config.settings(candidate, epochs),
                seed=seed,
            ),
        )
        for candidate in candidates
        for seed in range(config.seed, config.seed + config.seeds)
    ]


def _judge(
    candidates: Sequence[dict[str, float]], found: Sequence[dict[str, Any]], n_seeds: int
) -> pd.DataFrame:
    """Mean ELBO over seeds; a candidate of which a trial failed is never the best."""
    if all("error" in result for result in found):
        raise InputError(
            "a search must have a candidate that can be fitted; found none. The first failed by "
            f"{found[0]['error']}"
        )
    elbo = np.array([_elbo(result) for result in found]).reshape(-1, n_seeds)
    sd = elbo.std(1, ddof=1) if n_seeds > 1 else np.full(len(elbo), np.nan)
    return pd.DataFrame(list(candidates)).assign(elbo=elbo.mean(1), sd=sd)


def _elbo(result: dict[str, Any]) -> float:
    values = [value for _, metric, value in result.get("values", []) if metric == "elbo"]
    return -np.inf if not values or values[0] is None else float(values[0])


def _toml(config: TuneConfig, facts: Facts, candidates: Sequence[dict[str, float]]) -> str:
    """The best candidate as the options of a run, which takes labels of all cells only."""
    options: dict[str, object] = {
        "data": config.data[0],
        "labels": config.labels[0] if facts.n_cells == facts.n_cells_read else None,
        "layer": config.layer,
        "preset": config.preset,
        "models": [config.model],
        "epochs": config.epochs,
        "genes": config.genes,
        "qc": False,
        **candidates[0],
    }
    return tomli_w.dumps({k: v for k, v in options.items() if v is not None})
