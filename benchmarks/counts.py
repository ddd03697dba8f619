"""An epoch of counts: our beta-VAE and scvi-tools' SCVI, each with SCVI's defaults.

    python -m benchmarks.counts --data path/to/pbmc3k

Both have one hidden layer of 128 units each side, 10 latents, zero-inflated negative binomial
counts with a dispersion per gene, log1p inputs, batches of 128 and Adam. Needs scvi-tools (extra
'bench'). Each row is a process of its own, in which a step of ours, batch assembly included,
follows each of SCVI's; an epoch is the median step times the steps. Ours is also timed with the
two other likelihoods of counts, in turn with itself.
"""

import argparse
import multiprocessing as mp
import statistics
import tempfile
from pathlib import Path

import torch
from scipy.sparse import csr_matrix, load_npz, save_npz

from benchmarks.in_turn import WIDTH, Step, against_scvi, our_step, seconds
from scarce.data import load
from scarce.models.beta_vae import BetaVAENet
from scarce.models.parts import Body, Network
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes

BATCH, LATENT, RATE = 128, 10, 1e-3
SKIPPED = 5
"""First steps, in which memory is claimed and code compiled."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pbmc3k", help="10x folder of PBMC3k")
    parser.add_argument("--pairs", type=int, default=60, help="pairs of steps a row")
    options = parser.parse_args()
    adata, _ = quality_control(load(options.data), Thresholds())
    normalise(adata)
    variable_genes(adata, 2000)
    counts = csr_matrix(adata.layers["counts"])
    print("| genes | poisson | nb | zinb | SCVI | SCVI / zinb | threads |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for x in (counts, counts[:, adata.var["highly_variable"].to_numpy()]):
            path = Path(folder) / f"{x.shape[1]}.npz"
            save_npz(path, x, compressed=False)
            with mp.get_context("spawn").Pool(1) as process:
                print(process.apply(_row, (path, options.pairs)), flush=True)


def _row(path: Path, pairs: int) -> str:
    x = load_npz(path)
    n_steps = -(-x.shape[0] // BATCH)
    ours = {name: _ours(x, name) for name in ("poisson", "nb", "zinb")}
    times: dict[str, list[float]] = {name: [] for name in ours}
    for _ in range(SKIPPED + pairs // 2):
        for name, take in ours.items():
            times[name].append(seconds(take))
    against = against_scvi(ours["zinb"], x, BATCH, pairs, skipped=SKIPPED)
    epochs = {name: n_steps * statistics.median(t[SKIPPED:]) for name, t in times.items()}
    epochs["zinb"], scvi = (n_steps * statistics.median(t) for t in zip(*against, strict=True))
    ratio = statistics.median(theirs / mine for mine, theirs in against)
    cells = " | ".join(f"{s:.3f} s" for s in (*epochs.values(), scvi))
    return f"| {x.shape[1]:,} | {cells} | {ratio:.2f} | {torch.get_num_threads()} |"


def _ours(x: csr_matrix, likelihood: str) -> Step:
    torch.manual_seed(0)
    network = Network((WIDTH,), input_dropout=0.1, likelihood=likelihood, decoder="deep")
    module = BetaVAENet(Body(x.shape[1], LATENT, network), LATENT, beta=1.0, warm_up=0.0)
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)
    return our_step(module, optimiser, x, BATCH)


if __name__ == "__main__":
    main()
