"""The benchmark table of the documentation: every model, both presets, five data sets, ten seeds.

    python -m benchmarks.table --data ../shared/data --out benchmark-run

Runs `scarce.benchmark` (what is done already is not run again) and writes the table of each data
set between its two markers in docs/benchmark.md. The folder given holds ``pbmc3k/``, its labels
``pbmc3k_seurat_labels.csv``, and ``labelled/<name>.h5ad`` with a column ``label``.
"""

import argparse
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from scarce.cli import bar
from scarce.compare import Comparison
from scarce.data import write
from scarce.presets import ENSEMBLE, MODELS, PRESETS
from scarce.report import method_names
from scarce.study import BenchmarkConfig, benchmark

LABELLED = ("worm_neuron", "mixology_3cl", "pbmc4k")
CIRCULAR = ("pbmc3k", "pbmc4k")
"""Seurat's clusters and Cell Ranger's: both of a graph of principal components."""

LABELS = {
    "pbmc68k_reduced": "by correlation with sorted reference populations",
    "mixology_3cl": "cell lines, by genotype",
    "worm_neuron": "clusters of a t-SNE map, named by their genes",
    "pbmc3k": "clusters of principal components (Seurat)",
    "pbmc4k": "clusters of principal components (Cell Ranger)",
}
"""Where they come from, as their authors say."""

COLUMNS = {
    ("latent", "nmi"): "NMI, k-means",
    ("latent", "ari"): "ARI, k-means",
    ("latent_leiden", "ari"): "ARI, Leiden",
    ("tsne2d", "ari"): "ARI, k-means on the map",
    ("latent", "knn_macro_f1"): "kNN macro-F1",
    ("latent", "r2"): "explained, unseen cells, own genes",
    ("latent", "seconds"): "seconds",
}


def main() -> None:
    """Run what is missing and write the table."""
    options = _options()
    peers = ["scvi"] if find_spec("scvi") else []
    models = options.models or (*MODELS, "lvsc", ENSEMBLE, *peers)
    files = {name: str(options.data / "labelled" / f"{name}.h5ad") for name in LABELLED}
    data = {"pbmc68k_reduced": "pbmc68k_reduced", **files, "pbmc3k": "pbmc3k"}
    seurat = str(options.data / "pbmc3k_seurat_labels.csv")
    labels = {"pbmc68k_reduced": "bulk_labels", "pbmc3k": seurat}
    names = options.only or list(data)
    config = BenchmarkConfig(
        data=tuple(data[name] for name in names),
        labels=tuple(labels.get(name, "label") for name in names),
        models=tuple(models),
        presets=tuple(options.presets),
        seeds=options.seeds,
        epochs=options.epochs,
        data_dir=str(options.data),
        circular=tuple(data[name] for name in names if name in CIRCULAR),
    )
    comparison = benchmark(config, options.out, workers=options.workers, progress=bar)
    page = options.page.read_text(encoding="utf-8")
    for data in comparison.datasets:
        page = _replaced(page, data["name"], "\n".join(_table(comparison, data)))
    write.text(options.page, page)
    print("\n".join(_means(comparison)))
    print(f"Wrote the tables into {options.page}; the whole comparison is in {options.out}.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("benchmark-run"), metavar="DIR")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmark.md"), metavar="FILE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, help="fewer than the presets', for a trial")
    parser.add_argument(
        "--presets",
        nargs="+",
        choices=list(PRESETS),
        default=["default", "paper"],
        help="the first is also that of models of no part in the report, and of scVI's size",
    )
    parser.add_argument("--models", nargs="+", help="fewer than all, for less time")
    parser.add_argument("--only", nargs="+", choices=["pbmc68k_reduced", *LABELLED, "pbmc3k"])
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


def _replaced(page: str, name: str, table: str) -> str:
    """Return the page with another table of that data set."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, rest = page.split(start)
    return f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"


def _table(comparison: Comparison, data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of one data set."""
    seeds = comparison.results["seed"].nunique()
    epochs = comparison.config["epochs"]
    short = "" if epochs is None else f" **A trial run of {epochs} epochs.**"
    size = f"{data['n_cells']:,} cells, {data['n_genes']:,} genes, {data['n_types']} types"
    source = f"{LABELS[data['name']]}, {data['label_source']}"
    yield f"**{data['name']}**: {size}; labels: {source}; {seeds} seeds.{short}\n"
    yield f"| | {' | '.join(COLUMNS.values())} |"
    yield f"|---|{'---|' * len(COLUMNS)}"
    cells = comparison.estimates.set_index(["dataset", "model", "preset", "space", "metric"])
    for method, name in method_names(comparison).items():
        keys = [(data["name"], *method, *column) for column in COLUMNS]
        yield f"| {name} | {' | '.join(_cell(cells, key) for key in keys)} |"


def _means(comparison: Comparison) -> Iterator[str]:
    """Yield NMI / ARI of each method in each space: means over what is not circular, if any is."""
    names = [data["name"] for data in comparison.datasets if not data["circular"]]
    if not names:
        return
    table = comparison.estimates
    table = table[table["dataset"].isin(names) & table["metric"].isin(["nmi", "ari"])]
    better = table[table["model"].isin(["pca", "pca_scaled"])]
    better = better.groupby(["dataset", "preset", "space", "metric"], as_index=False)["mean"].max()
    table = pd.concat([table, better.assign(model="better PCA on each")])
    yield f"Means over {', '.join(map(str, names))}, NMI / ARI:"
    means = table.groupby(["space", "preset", "model", "metric"], sort=False)["mean"].mean()
    for key, row in means.unstack().iterrows():
        yield f"{' '.join(map(str, key))}: {row['nmi']:.3f} / {row['ari']:.3f}"


def _cell(cells: pd.DataFrame, key: tuple[object, ...]) -> str:
    if key not in cells.index:
        return "–"
    row = cells.loc[key]
    if key[-1] == "seconds":
        return f"{row['mean']:.2g}" if row["mean"] < 10 else f"{row['mean']:.0f}"
    half = "" if pd.isna(row["high"]) else f" ± {row['high'] - row['mean']:.3f}"
    return f"{row['mean']:.3f}{half}".replace("-", "−")


if __name__ == "__main__":
    main()
