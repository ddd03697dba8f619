r"""What the models are made of: gene-sized layers, stacks, samplers and KL divergences."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scarce.sparse.batches import Batch
from scarce.sparse.ops import linear, squared_error

__all__ = [
    "LEAST_VARIANCE",
    "Body",
    "GeneLayers",
    "Loss",
    "Net",
    "Network",
    "gaussian_kl",
    "gaussian_sample",
    "ramp",
    "soft_gate",
    "spike_and_slab_kl",
]

Noise = Literal["unit", "per_gene"]

_LOG_2PI = math.log(2 * math.pi)
LEAST_VARIANCE = 0.01
"""Floor of a gene's noise variance: a gene absent from the training cells must not make one
held-out cell that has it infinitely surprising. One count is about 1.8 on the log scale."""


class Loss(NamedTuple):
    """What a model minimises on one batch, in nats (or squared error) per cell."""

    total: Float[Tensor, ""]
    """The sum of the terms."""
    terms: dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Network:
    """Shape of the encoder and, mirrored, of the decoder.

    Parameters
    ----------
    n_hidden
        Widths from the genes inwards.
    normalise
        Layer normalisation before each activation.
    first_linear
        No activation after the first layer, as in the course report: two linear maps in a
        row, one map of rank ``n_hidden[0]``.
    input_dropout
        Share of the nonzero inputs hidden from the encoder in each training step.
    noise
        ``"unit"``: plain squared error. ``"per_gene"``: Gaussian likelihood with a learned
        variance per gene, so that beta = 1 is the evidence lower bound.
    """

    n_hidden: tuple[int, ...] = (128, 128)
    normalise: bool = True
    first_linear: bool = False
    input_dropout: float = 0.5
    noise: Noise = "per_gene"


class GeneLayers(nn.Module):
    """The first and the last layer of an autoencoder: the two as long as the gene list.

    Both hold one row per gene, in the order sparse products read: ``weight_in`` of shape
    (G, n_in), and ``weight_out`` of shape (G, n_out + 1), whose last column is the bias.

    Parameters
    ----------
    n_genes
        G.
    n_in, n_out
        Widths of the encoder's first and the decoder's last hidden layer.
    """

    def __init__(self, n_genes: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(torch.empty(n_genes, n_in).uniform_(-1, 1))
        self.weight_out = nn.Parameter(torch.empty(n_genes, n_out + 1).uniform_(-1, 1))
        self.bias_in = nn.Parameter(torch.zeros(n_in))
        with torch.no_grad():
            self.weight_in.mul_(n_genes**-0.5)
            self.weight_out.mul_(n_out**-0.5)
            self.weight_out[:, -1] = 0

    def first(self, x: Batch) -> Float[Tensor, "cells n_in"]:
        """Return the encoder's first pre-activation."""
        return linear(x, self.weight_in) + self.bias_in

    def last(self, h: Float[Tensor, "cells n_out"]) -> Float[Tensor, "cells genes"]:
        """Return the decoder's output: a dense array, for reconstructions only."""
        return h @ self.weight_out[:, :-1].T + self.weight_out[:, -1]

    def squared_error(
        self,
        x: Batch,
        h: Float[Tensor, "cells n_out"],
        weight: Float[Tensor, " genes"] | None,
    ) -> Float[Tensor, ""]:
        """Return the squared error of the decoder's output, genes weighted, summed over all."""
        return squared_error(x, h, self.weight_out, weight)


class Body(nn.Module):
    r"""Everything the models share; they differ in the head between encoder and decoder.

    Reconstruction loss per cell, with SSE the squared error and :math:`s_g` the variance:
    ``unit``: :math:`\mathrm{SSE}`; ``per_gene``:
    :math:`\sum_g \mathrm{SSE}_g / (2 s_g) + \tfrac12 \log 2\pi s_g`.

    Parameters
    ----------
    n_genes, n_latent
        G and J.
    network
        Widths and options.
    """

    def __init__(self, n_genes: int, n_latent: int, network: Network) -> None:
        super().__init__()
        widths = network.n_hidden
        self.dropout = network.input_dropout
        self.ends = GeneLayers(n_genes, n_in=widths[0], n_out=widths[0])
        first = [] if network.first_linear else _activation(widths[0], network)
        self.encoder = nn.Sequential(*first, *_stack(widths, network))
        self.decoder = nn.Sequential(*_stack((n_latent, *widths[::-1]), network))
        self.n_features = widths[-1]
        self.log_variance = (
            nn.Parameter(torch.zeros(n_genes)) if network.noise == "per_gene" else None
        )

    def start_from(self, mean: Float[Tensor, " genes"], variance: Float[Tensor, " genes"]) -> None:
        """Begin at the gene-mean model: output bias and noise as in the training cells.

        A network of plain squared error begins at random, as the course report's.
        """
        if self.log_variance is None:
            return
        with torch.no_grad():
            self.ends.weight_out[:, -1] = mean
            self.log_variance.copy_(variance.clamp_min(LEAST_VARIANCE).log())

    def features(self, x: Batch) -> Float[Tensor, "cells features"]:
        """Return the encoder's last hidden layer."""
        return self.encoder(self.ends.first(x))  # type: ignore[no-any-return]

    def read(
        self, x: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "cells features"], Callable[[Tensor], Float[Tensor, ""]]]:
        """Return the features, and the reconstruction loss per cell as a function of z."""
        seen = drop(x, self.dropout, generator) if self.training and self.dropout > 0 else x

        def reconstruction(z: Tensor) -> Tensor:
            h = self.decoder(z)
            if self.log_variance is None:
                return self.ends.squared_error(x, h, None) / x.shape[0]
            log_variance = self.log_variance.clamp_min(math.log(LEAST_VARIANCE))
            error = self.ends.squared_error(x, h, (-log_variance).exp())
            return 0.5 * (error / x.shape[0] + (log_variance + _LOG_2PI).sum())

        return self.features(seen), reconstruction

    def decode(self, z: Float[Tensor, "cells latent"]) -> Float[Tensor, "cells genes"]:
        """Return the expected expression, dense."""
        return self.ends.last(self.decoder(z))


class Net(nn.Module, ABC):
    """What every model offers; a model adds its head, `encode` and `loss`.

    Parameters
    ----------
    n_genes, n_latent
        G and J.
    network
        Shape of encoder and decoder.
    """

    def __init__(self, n_genes: int, n_latent: int, network: Network) -> None:
        super().__init__()
        self.body = Body(n_genes, n_latent, network)

    @abstractmethod
    def encode(self, x: Batch) -> Float[Tensor, "cells latent"]:
        """Return the code handed downstream: a posterior mean, never a sample."""

    def decode(self, z: Float[Tensor, "cells latent"]) -> Float[Tensor, "cells genes"]:
        """Return the expected expression, dense."""
        return self.body.decode(z)

    @abstractmethod
    def loss(self, x: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the loss per cell of a batch.

        Parameters
        ----------
        x
            B cells.
        progress
            Share of training done, from 0 to 1; drives every schedule.
        generator
            Source of every random number.
        """


def drop(x: Batch, share: float, generator: torch.Generator) -> Batch:
    """Set a random share of the nonzero entries to zero and scale up the rest."""

    def thin(values: Tensor) -> Tensor:
        keep = torch.rand(values.shape, generator=generator, device=values.device) >= share
        return values * keep / (1 - share)

    return thin(x) if isinstance(x, Tensor) else x.map(thin)


def _stack(widths: tuple[int, ...], network: Network) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), *_activation(n_out, network)]
    return layers


def _activation(width: int, network: Network) -> list[nn.Module]:
    return [*([nn.LayerNorm(width)] if network.normalise else []), nn.ReLU()]


def ramp(progress: float, share: float) -> float:
    """Rise linearly from 0 to 1 over the first `share` of training; both are in [0, 1]."""
    return 1.0 if progress >= share else progress / share


def gaussian_sample(
    mu: Float[Tensor, "cells latent"],
    log_var: Float[Tensor, "cells latent"],
    generator: torch.Generator,
) -> Float[Tensor, "cells latent"]:
    """Draw from N(mu, exp(log_var)) so that gradients reach both (reparameterisation)."""
    noise = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=mu.device)
    return mu + (0.5 * log_var).exp() * noise


def gaussian_kl(
    mu: Float[Tensor, "cells latent"], log_var: Float[Tensor, "cells latent"]
) -> Float[Tensor, "cells latent"]:
    r"""Return :math:`KL(N(\mu, s^2) \| N(0, 1)) = \tfrac12(\mu^2 + s^2 - 1 - \log s^2)`.

    In nats, for each cell and latent.
    """
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


def spike_and_slab_kl(
    mu: Float[Tensor, "cells latent"],
    log_var: Float[Tensor, "cells latent"],
    logit: Float[Tensor, "cells latent"],
    alpha: float,
) -> Float[Tensor, "cells latent"]:
    r"""KL divergence between a spike-and-slab posterior and prior, in nats.

    For :math:`q = \gamma N(\mu, s^2) + (1 - \gamma)\delta_0` against
    :math:`p = \alpha N(0, 1) + (1 - \alpha)\delta_0`:

    .. math:: \gamma\,\tfrac12(\mu^2 + s^2 - 1 - \log s^2)
        + \gamma \log\frac{\gamma}{\alpha} + (1 - \gamma)\log\frac{1 - \gamma}{1 - \alpha}.

    Parameters
    ----------
    mu, log_var
        Mean and log variance of the slab, shape (B, J).
    logit
        Log odds of inclusion; :math:`\gamma` is its sigmoid. Its logarithms come from
        ``logsigmoid``, so no clamp cuts the gradient.
    alpha
        Prior probability of inclusion, in (0, 1).

    References
    ----------
    Tonolini, Jensen, Murray-Smith, "Variational Sparse Coding", UAI 2019, eq. 6. Its
    supplement drops squares and brackets of the slab term; this is the divergence itself.
    """
    gamma = logit.sigmoid()
    spike = gamma * (F.logsigmoid(logit) - math.log(alpha)) + (1 - gamma) * (
        F.logsigmoid(-logit) - math.log1p(-alpha)
    )
    return gamma * gaussian_kl(mu, log_var) + spike


def soft_gate(
    logit: Float[Tensor, "cells latent"], sharpness: float, generator: torch.Generator
) -> Float[Tensor, "cells latent"]:
    r"""Draw a gate that is nearly 0 or 1 and passes gradients to its probability.

    :math:`w = \sigma(c\,(u - 1 + \gamma))` with u uniform on (0, 1); as c grows, w becomes a
    Bernoulli draw with probability :math:`\gamma`.

    Parameters
    ----------
    logit
        Log odds of :math:`\gamma`.
    sharpness
        c; 50 to 200 in the paper's supplement.
    generator
        Source of u.
    """
    u = torch.rand(logit.shape, generator=generator, dtype=logit.dtype, device=logit.device)
    return (sharpness * (u - 1 + logit.sigmoid())).sigmoid()
