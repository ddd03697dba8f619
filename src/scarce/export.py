"""Write what a run found: tables, maps, weights, figures and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
import tomli_w

from scarce import record
from scarce.annotate import Annotation
from scarce.config import RunConfig
from scarce.data import write
from scarce.errors import InputError
from scarce.pipeline import Result
from scarce.report import all_figures, render
from scarce.revisit import write_figures
from scarce.summary import Marker, Naming, RunSummary, Stability

__all__ = ["WRITTEN", "annotation_files", "export", "export_annotation"]

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

WRITTEN = (
    "cells.npz",
    "config.toml",
    "embeddings.h5ad",
    "figures",
    "markers.csv",
    "metrics.csv",
    "models",
    "programmes.csv",
    "programmes_enrichment.csv",
    "report.html",
    "summary.json",
)
"""All that the folder of a run may hold."""

_PROGRAMME_COLUMNS = [
    "model",
    "programme",
    "name",
    "direction",
    "rank",
    "gene",
    "effect",
    "se",
    "score",
    "sign",
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
    adata, summary, models, enrichment = result
    write.table(directory / "metrics.csv", metrics_table(summary))
    write.table(directory / "markers.csv", _table(Marker, summary.markers))
    write.table(directory / "programmes.csv", programmes_table(summary))
    if enrichment is not None:
        write.table(directory / "programmes_enrichment.csv", _numbered(enrichment))
    write.text(directory / "config.toml", to_toml(asdict(config)))
    figures = all_figures(summary)
    write.text(directory / "report.html", render(summary, figures))
    (directory / "figures").mkdir()
    write_figures(figures, directory / "figures")
    for name, model in models.items():
        model.save(directory / "models" / name)
    about = {"label_source": summary.labels.source, "config": to_toml(summary.config)}
    adata.uns["scarce"] = about
    write.h5ad(directory / "embeddings.h5ad", adata)
    record.save(summary, directory)


def export_annotation(found: Annotation, markers: Sequence[Marker], labels: Path) -> None:
    """Write the labels of cells, and beside them what speaks for the labels.

    Parameters
    ----------
    found
        Clusters and their names.
    markers
        Of each cluster.
    labels
        Table to write: barcode, cluster and cell type. Beside it, see `annotation_files`, go
        the marker genes, the evidence for each name and the resolutions that were tried.
    """
    _, marker_file, naming_file, resolution_file = annotation_files(labels)
    write.table(marker_file, _table(Marker, markers).rename(columns={"group": "cluster"}))
    write.table(naming_file, _table(Naming, found.naming))
    write.table(resolution_file, _table(Stability, found.stability))
    cells = pd.DataFrame({"cluster": found.clusters, "cell_type": found.cell_types})
    write.table(labels, cells.rename_axis("barcode").reset_index())


def annotation_files(labels: Path) -> tuple[Path, Path, Path, Path]:
    """Files that `export_annotation` writes, the labels themselves first."""
    if not labels.name:
        raise InputError(f"-o must name a file; found the folder {labels}.")
    beside = [labels.with_name(f"{name}.csv") for name in ("markers", "naming", "resolutions")]
    return labels, beside[0], beside[1], beside[2]


def _table(kind: type, rows: Sequence[Marker | Naming | Stability]) -> pd.DataFrame:
    """One row for each entry; the header alone where there are none."""
    columns = [field.name for field in fields(kind)]
    return pd.DataFrame([asdict(row) for row in rows], columns=columns)


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


def programmes_table(summary: RunSummary) -> pd.DataFrame:
    """One row per model, programme (from 1, as in the report), direction and rank of a gene."""
    rows = [
        {
            "model": found.model,
            "programme": found.latent + 1,
            "name": found.name if direction == "up" else found.opposite,
            "direction": direction,
            "rank": rank,
            **asdict(gene),
            "sign": found.sign,
        }
        for found in summary.programmes
        for direction, genes in (("up", found.up), ("down", found.down))
        for rank, gene in enumerate(genes, start=1)
    ]
    return pd.DataFrame(rows, columns=_PROGRAMME_COLUMNS)


def _numbered(enrichment: pd.DataFrame) -> pd.DataFrame:
    """Put model and programme first, counted from 1 as in the report."""
    table = enrichment.rename(columns={"latent": "programme"})
    table["programme"] += 1
    first = ["model", "programme"]
    return table[[*first, *table.columns.drop(first)]]


def to_toml(options: Mapping[str, object]) -> str:
    """The options that are set, as a TOML file for ``scarce run --config``."""
    return tomli_w.dumps({k: v for k, v in options.items() if v is not None})
