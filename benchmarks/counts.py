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
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from scipy.sparse import csr_matrix, load_npz, save_npz

from benchmarks.reference import step
from scarce.data import load
from scarce.models.beta_vae import BetaVAENet
from scarce.models.parts import Body, Network
from scarce.numerics import tuned
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes
from scarce.sparse.batches import Batches

BATCH, WIDTH, LATENT, RATE = 128, 128, 10, 1e-3
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
    ours = {name: _our_step(x, name) for name in ("poisson", "nb", "zinb")}
    times: dict[str, list[float]] = {name: [] for name in ours}
    for _ in range(SKIPPED + pairs // 2):
        for name, take in ours.items():
            times[name].append(_seconds(take))
    against = _against_scvi(ours["zinb"], x, pairs)
    seconds = {name: n_steps * statistics.median(t[SKIPPED:]) for name, t in times.items()}
    seconds["zinb"], scvi = (n_steps * statistics.median(t) for t in zip(*against, strict=True))
    ratio = statistics.median(theirs / mine for mine, theirs in against)
    cells = " | ".join(f"{s:.3f} s" for s in (*seconds.values(), scvi))
    return f"| {x.shape[1]:,} | {cells} | {ratio:.2f} | {torch.get_num_threads()} |"


def _our_step(x: csr_matrix, likelihood: str) -> Callable[[], object]:
    torch.manual_seed(0)
    network = Network(n_hidden=(WIDTH,), input_dropout=0.1, likelihood=likelihood)
    module = BetaVAENet(Body(x.shape[1], LATENT, network), LATENT, beta=1.0, warm_up=0.0)
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)
    generator = torch.Generator().manual_seed(0)
    batches = Batches(x, batch_size=BATCH).shuffled(generator)
    flops = 6.0 * BATCH * x.shape[1] * WIDTH

    def take() -> object:
        with tuned(flops):
            return step(module.train(), optimiser, next(batches), generator)

    return take


def _against_scvi(
    ours: Callable[[], object], counts: csr_matrix, pairs: int
) -> list[tuple[float, float]]:
    """Let SCVI train, and take a step of ours after each of its steps."""
    import anndata
    import lightning.pytorch as lightning
    import scvi

    class InTurn(lightning.Callback):
        def __init__(self) -> None:
            self.times: list[tuple[float, float]] = []
            self.resumed = time.perf_counter()

        def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
            theirs = time.perf_counter() - self.resumed
            self.times.append((_seconds(ours), theirs))
            trainer.should_stop = len(self.times) >= pairs + SKIPPED
            self.resumed = time.perf_counter()

    warnings.simplefilter("ignore")
    scvi.settings.verbosity = 50
    adata = anndata.AnnData(counts)
    scvi.model.SCVI.setup_anndata(adata)
    in_turn = InTurn()
    scvi.model.SCVI(adata).train(
        max_epochs=2 + (pairs + SKIPPED) * BATCH // counts.shape[0],
        max_steps=pairs + SKIPPED,
        batch_size=BATCH,
        train_size=1.0,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[in_turn],
    )
    return in_turn.times[SKIPPED:]


def _seconds(take: Callable[[], object]) -> float:
    start = time.perf_counter()
    take()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
