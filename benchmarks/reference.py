"""The rival: the same models as a plain dense PyTorch loop, written with care.

Every cell is a dense row; the layers next to the genes are `torch.nn.Linear`; the optimiser is
fused; nothing is computed twice. This is what a competent author writes without sparse algebra.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from scarce.models.parts import Body, Net
from scarce.presets import PRESETS, build
from scarce.sparse.batches import Batch

__all__ = ["DenseCells", "adam", "paper_model", "plain", "step"]

_RESIDENT = 1e9
"""Bytes up to which all cells are kept dense; above it each batch is made dense on its own."""


class PlainFirst(nn.Linear):
    """First layer, in place of `scarce.models.parts.GeneProduct`."""


class PlainSquaredError(nn.Linear):
    """Last layer and its loss, in place of `scarce.likelihoods.SquaredError`."""

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the encoder reads."""
        return x

    def loss(self, x: Tensor, h: Tensor) -> Tensor:
        """Return the squared error per cell."""
        return F.mse_loss(self(h), x, reduction="sum") / len(x)


class DenseCells:
    """Serves dense batches of cells in random order."""

    def __init__(self, x: csr_matrix, batch_size: int) -> None:
        self.x = x
        self.n_batches = -(-x.shape[0] // batch_size)
        resident = x.shape[0] * x.shape[1] * 4 <= _RESIDENT
        self.dense = torch.from_numpy(x.toarray()) if resident else None

    def epoch(self) -> Iterator[Batch]:
        """Yield every cell once."""
        order = torch.randperm(self.x.shape[0])
        for rows in torch.tensor_split(order, self.n_batches):
            if self.dense is None:
                x = torch.from_numpy(self.x[rows.numpy()].toarray())
            else:
                x = self.dense[rows]
            yield Batch(x, torch.empty(len(rows), 0))


def paper_model(name: str, n_genes: int, seed: int = 0) -> Net:
    """The report's model, untrained."""
    torch.manual_seed(seed)
    model = build(name, PRESETS["paper"], seed=seed)
    return model._build(Body(n_genes, model.n_latent, model.network))  # noqa: SLF001


def plain(module: Net) -> Net:
    """Put plain linear layers, started from the same weights, next to the genes."""
    body = module.body
    weight_in, weight_out = body.first.weight, body.likelihood.weight
    first = PlainFirst(*weight_in.shape)
    last = PlainSquaredError(weight_out.shape[1] - 1, len(weight_out))
    with torch.no_grad():
        first.weight.copy_(weight_in.T)
        first.bias.copy_(body.first.bias)
        last.weight.copy_(weight_out[:, :-1])
        last.bias.copy_(weight_out[:, -1])
    body.first, body.likelihood = first, last
    return module


def adam(module: Net) -> torch.optim.Optimizer:
    """The report's optimiser."""
    return torch.optim.Adam(module.parameters(), lr=PRESETS["paper"].training.lr, fused=True)


def step(
    module: Net,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    generator: torch.Generator,
    progress: float = 0.5,
) -> Tensor:
    """One training step; returns the loss."""
    loss = module.loss(batch, progress=progress, generator=generator).total
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()
