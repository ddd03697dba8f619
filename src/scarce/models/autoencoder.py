r"""Deep autoencoder: minimise the reconstruction error through a bottleneck."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.models.parts import Body, Loss, Net
from scarce.sparse.batches import Batch

__all__ = ["AutoencoderNet"]

_ALIVE = 30.0
"""Where the units of a ReLU code start: so far above zero that none dies, see docs/log.md."""


class AutoencoderNet(Net):
    r"""Deterministic code ``z = f(x)``; loss :math:`\frac1B \sum_i \|x_i - \hat x_i\|^2`.

    Parameters
    ----------
    body, n_latent
        Encoder and decoder, and J.
    relu_code
        Apply ReLU to the code, as the course report prints it; its published program uses
        the linear code, which is the default here. A ReLU unit can die, so every unit
        starts well above zero, at a value that the decoder starts by taking for zero.
    """

    def __init__(self, body: Body, n_latent: int, *, relu_code: bool = False) -> None:
        super().__init__(body)
        self.head = nn.Linear(body.n_features, n_latent)
        self.activation = nn.ReLU() if relu_code else nn.Identity()
        if relu_code:
            nn.init.constant_(self.head.bias, _ALIVE)
            for layer in [*body.decoder][:1]:  # none, where the code goes straight to the genes
                layer.bias.data -= _ALIVE * layer.weight.data[:, :n_latent].sum(1)
            if body.direct:
                weight = body.likelihood.weight.data[:, :n_latent]
                weight -= weight.mean(1, keepdim=True)

    def encode(self, batch: Batch) -> Float[Tensor, "cells latent"]:
        """Return the code."""
        return self.activation(self.head(self.body.features(batch)))  # type: ignore[no-any-return]

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the reconstruction loss per cell; no schedule depends on `progress`."""
        features, reconstruction = self.body.read(batch, generator)
        return Loss({"reconstruction": reconstruction(self.activation(self.head(features)))})
