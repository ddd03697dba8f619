"""What every likelihood offers."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.sparse.batches import Matrix
from scarce.sparse.stats import TARGET_SUM

__all__ = ["Likelihood"]


class Likelihood(nn.Module, ABC):
    """Likelihood of B cells x G genes given the decoder's last hidden layer.

    ``weight``, of shape (G, n_hidden + 1), holds one row per gene, in the order sparse
    products read; its last column is the bias.

    Parameters
    ----------
    n_genes, n_hidden
        G, and the width of h.
    """

    counts: ClassVar[bool] = False
    """Whether x holds raw counts; otherwise log-normalised expression."""

    is_density: ClassVar[bool] = True
    """Whether `log_prob` is that of a distribution, so that p(x) can be bounded by it."""

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_genes, n_hidden + 1).uniform_(-1, 1))
        with torch.no_grad():
            self.weight.mul_(n_hidden**-0.5)
            self.weight[:, -1] = 0

    def inputs(self, x: Matrix) -> Matrix:
        """Return what the encoder reads of x; of counts log(1 + x), not scaled by the library."""
        if not self.counts:
            return x
        return x.log1p() if isinstance(x, Tensor) else x.map(torch.log1p)

    @abstractmethod
    def start_from(self, mean: Float[Tensor, " genes"], variance: Float[Tensor, " genes"]) -> None:
        """Begin at the gene-mean model of the training cells."""

    @abstractmethod
    def loss(self, x: Matrix, h: Float[Tensor, "cells hidden"]) -> Float[Tensor, ""]:
        """Return what is minimised: -log p(x | h) in nats, or the squared error, per cell."""

    @abstractmethod
    def log_prob(
        self, x: Float[Tensor, "cells genes"], h: Float[Tensor, "*samples cells hidden"]
    ) -> Float[Tensor, "*samples cells"]:
        """Return log p(x | h) of each cell, in nats; dense, for evaluation only."""

    def expected(self, h: Float[Tensor, "cells hidden"]) -> Float[Tensor, "cells genes"]:
        """Return the expected log-normalised expression, dense.

        Of counts log(1 + 10,000 p), with p the shares of the genes in what is expected.
        """
        linear = self._linear(h)
        return (TARGET_SUM * linear.softmax(-1)).log1p() if self.counts else linear

    def log_ratios(self, h: Float[Tensor, "cells hidden"]) -> Float[Tensor, "cells genes"]:
        """Return what is linear in h, centred over the genes, dense.

        Of counts: logarithms of the genes' proportions over their geometric mean.
        """
        linear = self._linear(h)
        return linear - linear.mean(-1, keepdim=True)

    def _linear(self, h: Tensor) -> Tensor:
        return h @ self.weight[:, :-1].T + self.weight[:, -1]
