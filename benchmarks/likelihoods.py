"""Held-out likelihood of every model with every likelihood, on the same cells and genes.

    python -m benchmarks.likelihoods --data path/to/pbmc3k --seeds 3

Fits on nine cells in ten and prints IWAE_64 of the others, in nats per cell, as mean and range
over seeds: the higher, the better. The upper rows are densities of log-normalised expression, the
lower ones probabilities of counts; a row of one kind cannot be compared with one of the other.
"""

import argparse
import sys
from dataclasses import replace

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix

from scarce.data import load
from scarce.held_out import bounds
from scarce.likelihoods import LIKELIHOODS
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes
from scarce.presets import PRESETS, build
from scarce.sampling import seen_cells

UNSEEN = 0.1


def main() -> None:
    """Print a line for each fit to the standard error, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pbmc3k", help="10x folder of PBMC3k")
    parser.add_argument("--likelihoods", default=",".join(LIKELIHOODS))
    parser.add_argument("--models", default="bvae,bvsc,lvsc")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    adata, _ = quality_control(load(options.data), Thresholds())
    normalise(adata)
    variable_genes(adata, options.genes)
    cells = adata[:, adata.var["highly_variable"].to_numpy()].copy()
    models, likelihoods = options.models.split(","), options.likelihoods.split(",")
    has = {m: build(m, PRESETS["default"], seed=0).likelihoods for m in models}
    found: dict[tuple[str, str], list[float]] = {
        (likelihood, m): [] for likelihood in likelihoods for m in models if likelihood in has[m]
    }
    for seed in range(options.seeds):
        for (likelihood, model), values in found.items():
            values.append(_iwae(cells, model, likelihood, seed))
            print(likelihood, model, seed, f"{values[-1]:.2f}", file=sys.stderr, flush=True)
    print(f"| likelihood of | `--likelihood` | {' | '.join(models)} |")
    print("|---|---|" + "---|" * len(models))
    for likelihood in likelihoods:
        kind = "counts" if LIKELIHOODS[likelihood].counts else "expression"
        texts = [_text(found.get((likelihood, model), [])) for model in models]
        print(f"| {kind} | `{likelihood}` | {' | '.join(texts)} |")


def _iwae(cells: AnnData, model: str, likelihood: str, seed: int) -> float:
    settings = PRESETS["default"]
    settings = replace(settings, network=replace(settings.network, likelihood=likelihood))
    rows = seen_cells(cells.n_obs, UNSEEN, seed)
    estimator = build(model, settings, seed=seed).fit(cells[rows])
    read = cells.layers["counts"] if LIKELIHOODS[likelihood].counts else cells.X
    return bounds(estimator.module_, csr_matrix(read)[~rows], seed=seed)["iwae"]


def _text(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
