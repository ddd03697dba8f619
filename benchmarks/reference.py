"""The rival: the same models as a plain dense PyTorch loop, written with care.

Every cell is a dense row; the layers next to the genes are `torch.nn.Linear`; the optimiser is
fused; nothing is computed twice. This is what a competent author writes without sparse algebra.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from scarce.models.parts import Net
from scarce.presets import PRESETS, build

__all__ = ["DenseCells", "PlainEnds", "adam", "paper_model", "plain", "step"]

_RESIDENT = 1e9
"""Bytes up to which all cells are kept dense; above it each batch is made dense on its own."""


class PlainEnds(nn.Module):
    """First and last layer in place of `scarce.models.parts.GeneLayers`."""

    def __init__(self, n_genes: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(n_genes, n_in), nn.Linear(n_out, n_genes)

    def first(self, x: Tensor) -> Tensor:
        """Return the encoder's first pre-activation."""
        return self.input(x)

    def last(self, h: Tensor) -> Tensor:
        """Return the decoder's output."""
        return self.output(h)

    def squared_error(self, x: Tensor, h: Tensor, weight: None) -> Tensor:  # noqa: ARG002
        """Return the squared error of the decoder's output."""
        return F.mse_loss(self.output(h), x, reduction="sum")


class DenseCells:
    """Serves dense batches of cells in random order."""

    def __init__(self, x: csr_matrix, batch_size: int) -> None:
        self.x = x
        self.n_batches = -(-x.shape[0] // batch_size)
        resident = x.shape[0] * x.shape[1] * 4 <= _RESIDENT
        self.dense = torch.from_numpy(x.toarray()) if resident else None

    def epoch(self) -> Iterator[Tensor]:
        """Yield every cell once."""
        order = torch.randperm(self.x.shape[0])
        for rows in torch.tensor_split(order, self.n_batches):
            if self.dense is None:
                yield torch.from_numpy(self.x[rows.numpy()].toarray())
            else:
                yield self.dense[rows]


def paper_model(name: str, n_genes: int, seed: int = 0) -> Net:
    """The report's model, untrained."""
    torch.manual_seed(seed)
    return build(name, PRESETS["paper"], seed=seed)._build(n_genes)  # noqa: SLF001


def plain(module: Net) -> Net:
    """Put plain linear layers, started from the same weights, next to the genes."""
    ends = module.body.ends
    (n_genes, n_in), n_out = ends.weight_in.shape, ends.weight_out.shape[1] - 1
    linear = PlainEnds(n_genes, n_in, n_out)
    with torch.no_grad():
        linear.input.weight.copy_(ends.weight_in.T)
        linear.input.bias.copy_(ends.bias_in)
        linear.output.weight.copy_(ends.weight_out[:, :-1])
        linear.output.bias.copy_(ends.weight_out[:, -1])
    module.body.ends = linear
    return module


def adam(module: Net) -> torch.optim.Optimizer:
    """The report's optimiser."""
    return torch.optim.Adam(module.parameters(), lr=PRESETS["paper"].training.lr, fused=True)


def step(
    module: Net,
    optimiser: torch.optim.Optimizer,
    x: object,
    generator: torch.Generator,
    progress: float = 0.5,
) -> Tensor:
    """One training step; returns the loss."""
    loss = module.loss(x, progress=progress, generator=generator).total
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()
