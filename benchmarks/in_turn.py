"""Steps of ours, timed in turn with those of scvi-tools' SCVI.

Both share the machine's moods when a step of one follows each of the other.
"""

import time
import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from scipy.sparse import csr_matrix

from benchmarks.reference import step
from scarce.models.parts import Net
from scarce.numerics import tuned
from scarce.sparse.batches import Batches

__all__ = ["WIDTH", "Step", "against_scvi", "our_step", "seconds"]

WIDTH = 128
"""Of the layers next to the genes."""

Step: TypeAlias = Callable[[], object]


def seconds(take: Step) -> float:
    """Return how long a step takes."""
    start = time.perf_counter()
    take()
    return time.perf_counter() - start


def our_step(module: Net, optimiser: torch.optim.Optimizer, x: csr_matrix, batch_size: int) -> Step:
    """One step of our loop, batch included; settings of torch are put back after every step."""
    generator = torch.Generator().manual_seed(0)
    batches = Batches(x, batch_size=batch_size).shuffled(generator)
    flops = 6.0 * batch_size * x.shape[1] * WIDTH

    def take() -> object:
        with tuned(flops):
            return step(module, optimiser, next(batches), generator)

    return take


def against_scvi(
    ours: Step, counts: csr_matrix, batch_size: int, pairs: int, *, skipped: int
) -> list[tuple[float, float]]:
    """Let SCVI train with its defaults, and take a step of ours after each of its steps.

    Parameters
    ----------
    ours
        One step.
    counts
        Of SCVI, n_cells x n_genes.
    batch_size
        Of SCVI, cells.
    pairs
        How many steps of each to time.
    skipped
        First steps, which are left out.

    Returns
    -------
    Seconds of each pair, ours first.
    """
    import anndata
    import lightning.pytorch as lightning
    import scvi

    class InTurn(lightning.Callback):
        def __init__(self) -> None:
            self.times: list[tuple[float, float]] = []
            self.resumed = time.perf_counter()

        def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
            theirs = time.perf_counter() - self.resumed
            self.times.append((seconds(ours), theirs))
            trainer.should_stop = len(self.times) >= n_steps
            self.resumed = time.perf_counter()

    n_steps = pairs + skipped
    warnings.simplefilter("ignore")
    scvi.settings.verbosity = 50
    adata = anndata.AnnData(counts)
    scvi.model.SCVI.setup_anndata(adata)
    in_turn = InTurn()
    scvi.model.SCVI(adata).train(
        max_epochs=2 + n_steps * batch_size // counts.shape[0],
        max_steps=n_steps,
        batch_size=batch_size,
        train_size=1.0,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[in_turn],
    )
    return in_turn.times[skipped:]
