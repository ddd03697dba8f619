"""The training loop, top to bottom on a page. It knows the models' protocol, not the models."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from scarce.errors import InputError
from scarce.models.parts import Loss, Net
from scarce.sparse.batches import Batch, Batches

__all__ = ["PATHS", "SCHEDULES", "History", "TrainConfig", "fit_module"]

PATHS = ("auto", "sparse", "dense")
"""Arithmetic of a fit, see `TrainConfig`."""
SCHEDULES = ("constant", "cosine")
"""Of the step size, see `TrainConfig`."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Parameters
    ----------
    epochs
        Most passes over the training cells; schedules are fractions of this.
    batch_size
        Most cells in a batch.
    lr
        Step size of Adam.
    weight_decay
        Decoupled weight decay (AdamW); with 0 the optimiser is plain Adam.
    held_out
        Share of cells kept aside to decide when to stop; 0 trains on all cells to the end.
    patience
        Epochs without a better held-out loss before stopping. The best state is kept.
    schedule
        ``"constant"`` rate, or ``"cosine"``: down to a hundredth of it at the end.
    path
        ``"sparse"`` or ``"dense"`` arithmetic; ``"auto"`` takes the cheaper of the two, see
        `scarce.sparse.batches.choose_path`. They differ in rounding and, where inputs are dropped,
        in which: z-scores are dropped to the gene's mean if dense, to its absence if sparse.
    """

    epochs: int = 200
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 1e-4
    held_out: float = 0.1
    patience: int = 25
    schedule: Literal["constant", "cosine"] = "constant"
    path: Literal["auto", "sparse", "dense"] = "auto"


@dataclass
class History:
    """What happened, epoch by epoch.

    ``losses["train"]`` and ``losses["held_out"]`` are per cell; the other entries are the
    terms of the training loss. Held-out losses use the final schedule values throughout, so
    they can be compared between epochs.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    """Epoch, counted from 1, whose weights were kept."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """Anything that changed the course of training, such as a halved learning rate."""

    @property
    def epochs(self) -> int:
        """Epochs run."""
        return len(self.losses.get("train", ()))


def fit_module(
    module: Net,
    train: Batches,
    held_out: Batches | None,
    config: TrainConfig,
    *,
    seed: int,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> History:
    """Train a module in place and return the history of it.

    Parameters
    ----------
    module
        Left in evaluation mode, with the best held-out weights if there
        are held-out cells, else with the last ones.
    train, held_out
        Cells to learn from, and cells to decide by.
    config
        How to train.
    seed
        Of the order of cells and of the samples drawn. The same seed gives the same numbers.
    on_epoch
        Called after each epoch with its number, counted from 1.

    Raises
    ------
    InputError
        If the loss stays infinite or undefined after the learning rate was halved 5 times.
    """
    generator = torch.Generator(device=train.device).manual_seed(seed)
    history = History()
    best, best_loss = _snapshot(module), math.inf
    lr = config.lr
    optimiser = _adam(module, lr, config)
    batches = enumerate(train.shuffled(torch.Generator().manual_seed(seed)))
    n_steps = config.epochs * train.n_batches
    first_settled = max(1, round(module.settled * config.epochs))
    start = time.perf_counter()

    for epoch in range(1, config.epochs + 1):
        finite = _snapshot(module)
        optimiser.param_groups[0]["lr"] = lr * _share_of_rate(config, (epoch - 1) / config.epochs)
        this_epoch = islice(batches, train.n_batches)
        losses = _train_epoch(module, this_epoch, optimiser, n_steps, generator)
        if not (math.isfinite(losses["train"]) and _is_finite(module)):
            # One bad step poisons every weight: go back, and go on more carefully.
            lr /= 2
            if lr < config.lr / 2**5:
                raise InputError(
                    f"the loss must stay finite; found {losses['train']} in epoch {epoch}, after "
                    "the rate was halved 5 times. Lower lr or beta."
                )
            module.load_state_dict(finite)
            optimiser = _adam(module, lr, config)
            history.notes.append(f"epoch {epoch} diverged; went back to its start, rate {lr:g}")
            losses = dict.fromkeys(losses, math.nan)
        if held_out is not None:
            losses["held_out"] = _evaluate(module, held_out)
        for name, loss in losses.items():
            history.losses.setdefault(name, []).append(loss)
        settled = epoch >= first_settled
        if held_out is not None and settled and losses["held_out"] < best_loss:
            best, best_loss = _snapshot(module), losses["held_out"]
            history.best_epoch = epoch
        on_epoch(epoch)
        waited = epoch - max(history.best_epoch, first_settled)
        if held_out is not None and waited >= config.patience:
            break

    if held_out is None:
        history.best_epoch = history.epochs
    else:
        module.load_state_dict(best)
    module.eval()
    history.seconds = time.perf_counter() - start
    return history


def _train_epoch(
    module: Net,
    batches: Iterable[tuple[int, Batch]],
    optimiser: torch.optim.Optimizer,
    n_steps: int,
    generator: torch.Generator,
) -> dict[str, float]:
    """Take one step per numbered batch; return the mean loss per cell and its terms."""
    module.train()

    def steps() -> Iterable[tuple[int, Loss]]:
        for step, batch in batches:
            loss = module.loss(batch, progress=step / n_steps, generator=generator)
            optimiser.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            yield batch.n_cells, loss

    return _means(steps())


def _evaluate(module: Net, batches: Batches) -> float:
    """Mean loss per cell at the end of all schedules, with the same noise at every call."""
    module.eval()
    generator = torch.Generator(device=batches.device).manual_seed(0)
    with torch.no_grad():
        losses = (
            (batch.n_cells, module.loss(batch, progress=1.0, generator=generator))
            for batch in batches.ordered()
        )
        return _means(losses)["train"]


def _means(losses: Iterable[tuple[int, Loss]]) -> dict[str, float]:
    """Average over cells; tensors are read once, at the end, so that a GPU never waits."""
    sums: dict[str, Tensor] = {}
    n_cells = 0
    for n, loss in losses:
        n_cells += n
        for name, value in {"train": loss.total, **loss.terms}.items():
            sums[name] = sums.get(name, 0.0) + n * value.detach().double()
    return {name: float(value) / n_cells for name, value in sums.items()}


def _share_of_rate(config: TrainConfig, progress: float) -> float:
    if config.schedule == "constant":
        return 1.0
    return max(0.01, 0.5 + 0.5 * math.cos(math.pi * progress))


def _adam(module: Net, lr: float, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        module.parameters(), lr=lr, weight_decay=config.weight_decay, fused=True
    )


def _is_finite(module: Net) -> bool:
    """Whether the last step left numbers: no later loss tells, where it was the last of all."""
    return all(bool(parameter.isfinite().all()) for parameter in module.parameters())


def _snapshot(module: Net) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
