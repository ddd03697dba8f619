"""A benchmark: every trial of the grid, and what follows from them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scarce.compare import COLUMNS, Comparison, differences, estimates
from scarce.data import write
from scarce.environment import environment
from scarce.errors import InputError
from scarce.presets import TITLES
from scarce.report import comparison_figures, render_comparison
from scarce.revisit import write_figures
from scarce.study.engine import run_tasks
from scarce.study.grid import BenchmarkConfig, Task
from scarce.trial import Progress, silent

__all__ = ["benchmark", "claim_directory", "public"]

_PLAN = "plan.json"
"""What a study's directory is for; written before the first trial."""


def benchmark(
    config: BenchmarkConfig,
    out: str | Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare models and baselines on labelled data, with many seeds.

    Parameters
    ----------
    config
        What to compare, and on what.
    out
        Directory for ``results.csv``, ``comparison.csv``, ``report.html``, ``figures/`` and
        ``trials/``. If it holds the same benchmark, only what is missing is run.
    workers
        Processes on this machine.
    scheduler
        Address of a Dask scheduler, instead.
    progress
        Opens a progress bar over the trials.

    Raises
    ------
    InputError
        If options, data or labels are wrong, or `out` holds something else; raised before any
        trial is run.
    """
    tasks = config.tasks()
    out = Path(out).expanduser()
    claim_directory(out, "benchmark", public(config), tasks)
    found = run_tasks(
        tasks,
        (out / "trials").resolve(),
        n_workers=workers,
        scheduler=scheduler,
        title="benchmark",
        progress=progress,
    )
    comparison = _compare(config, tasks, found)
    _export(comparison, out)
    return comparison


def claim_directory(out: Path, kind: str, config: dict[str, object], tasks: Sequence[Task]) -> None:
    """Make the directory of a study, or check that it is that study's.

    Raises
    ------
    InputError
        If it holds another study, or anything else.
    """
    facts = {task.config.data.name: asdict(task.config.data) for task in tasks}
    plan = {"kind": kind, "config": config, "data": facts}
    plan = json.loads(json.dumps(plan, default=int))  # of NumPy's integers
    path = out / _PLAN
    # Before the plan is looked for, which a process started at the same moment may be writing.
    held = [found.name for found in out.iterdir()] if out.is_dir() else []
    if path.is_file():
        before = _read_plan(path)
        if before != plan:
            raise InputError(
                f"--out must be a new directory or that of the same {kind}; {out} holds another: "
                f"{_first_difference(before, plan)}. Choose another directory."
            )
        return
    if out.is_file() or any(not name.endswith(_PLAN) for name in held):
        raise InputError(
            f"--out must be a new directory or that of the same {kind}; found other files in "
            f"{out}. Choose another directory."
        )
    write.claim(out, lambda: out.mkdir(parents=True, exist_ok=True))
    write.json(path, plan)


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} must be as scarce wrote it; found: {error}.") from error


def public(config: Any) -> dict[str, object]:  # noqa: ANN401 - any frozen dataclass of options
    """Return the options that matter, without folders of the user's machine."""
    options = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "data_dir"}
    for name in ("data", "labels", "circular"):
        if name in options:
            options[name] = [Path(value).name for value in options[name]]
    return options


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before.get("kind") != now["kind"]:
        return f"it is a {before.get('kind')}"
    for name, value in now["config"].items():
        if before["config"].get(name) != value:
            return f"its {name} was {before['config'].get(name)!r}, and {value!r} is asked for"
    return "its data or their labels were others"


def _compare(
    config: BenchmarkConfig, tasks: Sequence[Task], found: Sequence[dict[str, Any]]
) -> Comparison:
    results = pd.DataFrame(
        [row for task, result in zip(tasks, found, strict=True) for row in _rows(task, result)],
        columns=COLUMNS,
    )
    failures = tuple(
        {**_identity(task), "key": task.config.key, "error": result["error"]}
        for task, result in zip(tasks, found, strict=True)
        if "error" in result
    )
    notes = (
        f"{task.config.data.name}: {note}"
        for task, result in zip(tasks, found, strict=True)
        for note in result.get("notes", ())
    )
    facts = {task.config.data.name: asdict(task.config.data) for task in tasks}
    return Comparison(
        results=results,
        estimates=estimates(results),
        differences=differences(results, floor=config.floor),
        floor=config.floor,
        titles=TITLES,
        datasets=tuple(facts.values()),
        failures=failures,
        config=public(config),
        environment=environment(),
        warnings=(*_warnings(config, facts, len(failures)), *dict.fromkeys(notes)),
    )


def _rows(task: Task, result: dict[str, Any]) -> list[dict[str, object]]:
    """One row per space and metric; for a failed trial one that says why."""
    same = {**_identity(task), "label_source": task.config.data.label_source}
    if "error" in result:
        error = " ".join(result["error"].split())
        return [same | {"space": "latent", "metric": f"error: {error}", "value": np.nan}]
    return [
        same | {"space": space, "metric": metric, "value": np.nan if value is None else value}
        for space, metric, value in result["values"]
    ]


def _identity(task: Task) -> dict[str, object]:
    config = task.config
    return {
        "dataset": config.data.name,
        "model": config.model,
        "preset": config.preset,
        "seed": config.seed,
    }


def _warnings(
    config: BenchmarkConfig, facts: dict[str, dict[str, Any]], n_failed: int
) -> list[str]:
    warnings = []
    circular = [name for name, fact in facts.items() if fact["circular"]]
    if circular:
        warnings.append(
            f"Labels of {', '.join(circular)} were derived from PCA: scores there favour PCA."
        )
    if len(facts) == 1:
        warnings.append("One data set shows nothing about another.")
    elif len(facts) < 6:
        warnings.append(
            f"With {len(facts)} data sets the intervals over data sets are rough, and no signed-"
            "rank test can be significant; six are the least."
        )
    if config.seeds < 5:
        warnings.append(f"{config.seeds} seed(s): intervals over seeds are wide or missing.")
    if n_failed:
        warnings.append(f"{n_failed} trial(s) failed and count in no mean; see Failures.")
    return warnings


def _export(comparison: Comparison, out: Path) -> None:
    """Write every artefact, each complete or as it was."""
    write.table(out / "results.csv", comparison.results)
    write.table(out / "comparison.csv", comparison.differences)
    figures = comparison_figures(comparison)
    (out / "figures").mkdir(exist_ok=True)
    write.text(out / "report.html", render_comparison(comparison, figures))
    write_figures(figures, out / "figures")
