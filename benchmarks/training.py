"""Training the report's three models to the end, ours against a plain dense PyTorch loop.

    python -m benchmarks.training --data path/to/pbmc3k --seeds 3

Both start from the same weights and read the same cells 200 times in random orders; each dense
run follows ours of the same model and seed. Prints seconds and the mean training loss per cell
of the last five epochs.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix

from benchmarks.reference import DenseCells, adam, paper_model, plain, step
from scarce import check
from scarce.data import load
from scarce.numerics import tuned
from scarce.preprocess import Thresholds, normalise, quality_control
from scarce.presets import MODELS, PRESETS
from scarce.sparse.batches import Batches
from scarce.train import fit_module

PAPER = PRESETS["paper"].training
LAST = 5
"""Epochs whose losses are averaged: one epoch's is noisy."""


def main() -> None:
    """Print a row for each model and seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pbmc3k", help="10x folder of PBMC3k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", default=",".join(MODELS))
    options = parser.parse_args()
    adata, _ = quality_control(load(options.data), Thresholds())
    normalise(adata)
    x = check.log_normalised(adata.X)
    rows = []
    for model in options.models.split(","):
        for seed in range(options.seeds):
            ours_s, ours = _ours(model, x, seed)
            dense_s, dense = _dense(model, x, seed)
            rows.append((model, seed, ours_s, dense_s, dense_s / ours_s, ours, dense))
            print(
                "{} seed {}: {:.1f} s, dense {:.1f} s, ratio {:.2f}; loss {:.2f}, {:.2f}".format(
                    *rows[-1]
                ),
                flush=True,
            )
    columns = ["model", "seed", "ours_s", "dense_s", "ratio", "ours_loss", "dense_loss"]
    means = pd.DataFrame(rows, columns=columns).drop(columns="seed").groupby("model").mean()
    means["loss_difference_%"] = 100 * (means.ours_loss / means.dense_loss - 1)
    print(means.round(3).to_string())


def _ours(model: str, x: csr_matrix, seed: int) -> tuple[float, float]:
    module = paper_model(model, x.shape[1], seed)
    with tuned(6.0 * PAPER.batch_size * x.shape[1] * 128):
        history = fit_module(
            module, Batches(x, batch_size=PAPER.batch_size), None, PAPER, seed=seed
        )
    return history.seconds, float(np.mean(history.losses["train"][-LAST:]))


def _dense(model: str, x: csr_matrix, seed: int) -> tuple[float, float]:
    module = plain(paper_model(model, x.shape[1], seed)).train()
    optimiser, generator = adam(module), torch.Generator().manual_seed(seed)
    cells = DenseCells(x, PAPER.batch_size)
    n_steps, losses = PAPER.epochs * cells.n_batches, []
    start = time.perf_counter()
    for _ in range(PAPER.epochs):
        for batch in cells.epoch():
            progress = len(losses) / n_steps
            losses.append(step(module, optimiser, batch, generator, progress))
    seconds = time.perf_counter() - start
    return seconds, float(torch.stack(losses[-LAST * cells.n_batches :]).mean())


if __name__ == "__main__":
    main()
