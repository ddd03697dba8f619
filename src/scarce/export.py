"""Write what a run found: tables, maps, weights, figures and the report."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import tomli_w

from scarce.config import RunConfig
from scarce.data import write
from scarce.pipeline import Result
from scarce.report import all_figures, render, to_png, to_svg
from scarce.summary import RunSummary

__all__ = ["export"]

_COLUMNS = [
    "model",
    "seed",
    "space",
    "n_clusters",
    "nmi",
    "ari",
    "homogeneity",
    "completeness",
    "silhouette",
    "label_source",
    "train_seconds",
    "epochs",
    "n_parameters",
]


def export(result: Result, config: RunConfig, directory: Path) -> None:
    """Write every artefact of a run.

    Parameters
    ----------
    result
        What the run returned.
    config
        Its options; written so that running them again gives the same numbers.
    directory
        Existing and empty.
    """
    adata, summary, models = result
    write.table(directory / "metrics.csv", metrics_table(summary))
    write.text(directory / "config.toml", to_toml(config))
    figures = all_figures(summary)
    write.text(directory / "report.html", render(summary, figures))
    (directory / "figures").mkdir()
    for name, figure in figures.items():
        with write.atomic_path(directory / "figures" / f"{name}.png") as path:
            path.write_bytes(to_png(figure, dpi=300))
        with write.atomic_path(directory / "figures" / f"{name}.svg") as path:
            path.write_bytes(to_svg(figure))
    for name, model in models.items():
        model.save(directory / "models" / name)
    facts = {name: value for name, value in asdict(summary).items() if name != "cells"}
    adata.uns["scarce"] = {"label_source": summary.labels.source, "config": to_toml(config)}
    write.h5ad(directory / "embeddings.h5ad", adata)
    write.json(directory / "summary.json", facts)


def metrics_table(summary: RunSummary) -> pd.DataFrame:
    """One row per model, seed and space."""
    runs = {(run.model, run.seed): run for run in summary.runs}
    rows = []
    for score in summary.scores:
        run = runs[score.model, score.seed]
        rows.append(
            {
                **asdict(score),
                "label_source": summary.labels.source,
                "train_seconds": round(run.seconds, 3),
                "epochs": run.epochs,
                "n_parameters": run.n_parameters,
            }
        )
    return pd.DataFrame(rows, columns=_COLUMNS)


def to_toml(config: RunConfig) -> str:
    """The options that are set, as a TOML file for ``scarce run --config``."""
    return tomli_w.dumps({k: v for k, v in asdict(config).items() if v is not None})
