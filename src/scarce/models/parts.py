"""What the models are made of: encoder, decoder, likelihood, and the protocol they keep."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scarce.errors import InputError
from scarce.likelihoods import LIKELIHOODS, Likelihood
from scarce.models.posteriors import Posterior, Prior, StandardNormal
from scarce.models.pseudo_inputs import Mixture
from scarce.sparse.batches import Batch, Matrix
from scarce.sparse.ops import linear

__all__ = ["DECODERS", "Body", "Decoder", "GeneProduct", "Loss", "Net", "Network", "drop", "ramp"]

Decoder = Literal["deep", "linear", "both"]
DECODERS: tuple[Decoder, ...] = get_args(Decoder)

_LEFT_OUT = 0.6
"""Share of the last hidden layer that a training step of a decoder of both kinds leaves out."""
_START = 0.3
"""Strength that programmes begin with. At their own, half-open gates cost more than they explain:
on PBMC3k all of LinearVSC's closed within ten epochs and never opened again."""


class Loss(NamedTuple):
    """What a model minimises on one batch, in nats (or squared error) per cell."""

    terms: dict[str, Float[Tensor, ""]]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Their sum."""
        return torch.stack([*self.terms.values()]).sum()


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
    likelihood
        What the decoder says of the genes, one of `scarce.likelihoods.LIKELIHOODS`.
    decoder
        ``"deep"``: hidden layers between the code and the genes. ``"linear"``: none, each latent
        unit is a weight per gene. ``"both"``: the sum of the two, see `Body`. Unless it is deep,
        each unit begins at a non-negative programme; with ``"both"`` and covariates at random
        weights.
    condition_encoder
        Tell the encoder of the covariates as well, where there are any.
    """

    n_hidden: tuple[int, ...] = (128, 128)
    normalise: bool = True
    first_linear: bool = False
    input_dropout: float = 0.3
    likelihood: str = "student_t"
    decoder: Decoder = "both"
    condition_encoder: bool = False


class GeneProduct(nn.Module):
    """The encoder's first layer: one row of weights per gene, the order sparse products read.

    Parameters
    ----------
    n_genes, n_out
        G, and the width of what follows.
    """

    def __init__(self, n_genes: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_genes, n_out).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.zeros(n_out))
        with torch.no_grad():
            self.weight.mul_(n_genes**-0.5)

    def forward(self, x: Matrix) -> Float[Tensor, "cells n_out"]:
        """Return the pre-activation."""
        return linear(x, self.weight) + self.bias


class Body(nn.Module):
    r"""Everything the models share; they differ in the head between encoder and decoder.

    Covariates join the code before the decoder, and its last hidden layer as well: there
    each has a weight per gene of its own, so that the code need not explain them. With a
    decoder of both kinds the code does so too, :math:`\hat x = b + W z + V h(z)`: V begins at
    zero, and most of h is left out at random in each training step, so that hidden layers add
    what weights alone cannot say.

    Parameters
    ----------
    n_genes, n_latent, n_covariates
        G, J and C.
    network
        Widths and options.
    likelihood
        The network's, unless given.
    """

    def __init__(
        self,
        n_genes: int,
        n_latent: int,
        network: Network,
        n_covariates: int = 0,
        likelihood: type[Likelihood] | None = None,
    ) -> None:
        super().__init__()
        widths, self.n_latent = network.n_hidden, n_latent
        self.dropout = network.input_dropout
        self.first = GeneProduct(n_genes, widths[0])
        self.conditioned = network.condition_encoder and n_covariates > 0
        if self.conditioned:
            self.covariates = nn.Linear(n_covariates, widths[0], bias=False)
        first = [] if network.first_linear else _activation(widths[0], network)
        self.encoder = nn.Sequential(*first, *_stack(widths, network))
        self.n_features = widths[-1]
        hidden = () if network.decoder == "linear" else widths[::-1]
        self.decoder = nn.Sequential(*_stack((n_latent + n_covariates, *hidden), network))
        self.direct = network.decoder != "deep"
        # Units that begin at what a batch does hold on to it, although the decoder is told of it.
        self.from_programmes = self.direct and (n_covariates == 0 or not hidden)
        n_direct, n_hidden = n_latent * self.direct, widths[0] if hidden else 0
        kind = likelihood or LIKELIHOODS[network.likelihood]
        self.likelihood = kind(n_genes, n_direct + n_hidden + n_covariates)
        if self.direct:
            with torch.no_grad():
                self.likelihood.weight[:, n_direct : n_direct + n_hidden] = 0

    def features(self, batch: Batch) -> Float[Tensor, "cells features"]:
        """Return the encoder's last hidden layer, without dropping inputs."""
        return self._encode(self.likelihood.inputs(batch.x), batch.covariates)

    def read(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "cells features"], Callable[[Tensor], Float[Tensor, ""]]]:
        """Return the features, and the reconstruction loss per cell as a function of z.

        In training the features are those of cells whose inputs were dropped in part. The
        reconstruction is always of whole cells.
        """
        inputs = self.likelihood.inputs(batch.x)
        if self.training and self.dropout > 0:
            # Of what the encoder reads, logarithms for counts: scaled up, their mean stays.
            inputs = drop(inputs, self.dropout, generator)

        features = self._encode(inputs, batch.covariates)
        return features, partial(self._reconstruction, batch, generator)

    def _reconstruction(
        self, batch: Batch, generator: torch.Generator, z: Float[Tensor, "cells latent"]
    ) -> Float[Tensor, ""]:
        source = generator if self.training else None
        return self.likelihood.loss(batch.x, self.hidden(z, batch.covariates, source))

    def hidden(
        self,
        z: Float[Tensor, "*samples cells latent"],
        covariates: Float[Tensor, "cells known"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*samples cells hidden"]:
        """Return what the likelihood reads: code, last hidden layer and covariates, as they apply.

        With `generator`, as in a training step: a part of the layer may be left out.
        """
        known = covariates.expand(*z.shape[:-1], covariates.shape[-1])
        given = torch.cat([z, known], -1)
        if not len(self.decoder):
            return given
        h = self.decoder(given)
        if not self.direct:
            return torch.cat([h, known], -1)
        if generator is not None:
            h = drop(h, _LEFT_OUT, generator)
        return torch.cat([z, h, known], -1)

    def start_from(self, programmes: Float[Tensor, "genes latent"]) -> None:
        """Begin at given programmes, weakened; on average over units they change no gene.

        For decoders that give each unit a weight per gene.
        """
        centred = _START * (programmes - programmes.mean(1, keepdim=True))
        with torch.no_grad():
            self.likelihood.weight[:, : programmes.shape[1]] = centred

    def decode(
        self, z: Float[Tensor, "cells latent"], covariates: Float[Tensor, "cells known"]
    ) -> Float[Tensor, "cells genes"]:
        """Return the expected log-normalised expression, dense."""
        return self.likelihood.expected(self.hidden(z, covariates))

    def _encode(self, inputs: Matrix, covariates: Tensor) -> Tensor:
        first = self.first(inputs)
        if self.conditioned:
            first = first + self.covariates(covariates)
        return self.encoder(first)  # type: ignore[no-any-return]


class Net(nn.Module, ABC):
    """What every model offers; a model adds its `loss`.

    Parameters
    ----------
    body
        What encodes and decodes.
    posterior
        From features to q(z|x). None: the code is a point, and the model says which.
    prior
        p(z), of the same kind; standard normal unless given.
    """

    settled: float = 0.0
    """Share of training before which no weights are final: they are those of another model."""

    def __init__(
        self, body: Body, posterior: nn.Module | None = None, prior: Prior | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.posterior = posterior
        self.prior = StandardNormal() if prior is None else prior

    @property
    def bounded(self) -> bool:
        """Whether the likelihood has a bound: codes have a distribution, and cells a density."""
        return self.posterior is not None and self.body.likelihood.is_density

    def code(self, batch: Batch) -> Posterior:
        """Return q(z|x) of each cell.

        Raises
        ------
        InputError
            If the model has no distribution over codes.
        """
        if self.posterior is None:
            raise InputError(
                "a code must have a distribution for its spread or price to be known; found a "
                f"point in a {type(self).__name__}. Use a variational model such as BetaVAE or "
                "BetaVSC."
            )
        return self.posterior(self.body.features(batch))  # type: ignore[no-any-return]

    def current_prior(self) -> Prior | Mixture:
        """Return p(z): as it is, unless the network itself makes it of cells that it encodes."""
        return self.prior

    def encode(self, batch: Batch) -> Float[Tensor, "cells latent"]:
        """Return the code handed downstream: the posterior mean, never a sample."""
        return self.code(batch).mean

    def inclusion(self, batch: Batch) -> Float[Tensor, "cells latent"]:
        r"""Return how likely each unit is on, :math:`\gamma`; always 1 without gates."""
        return self.code(batch).gamma

    def unit_kl(self, batch: Batch) -> Float[Tensor, "cells latent"]:
        """Return KL(q(z|x) || p(z)) of each cell and unit, in nats."""
        return self.current_prior().unit_kl(self.code(batch))  # type: ignore[arg-type]  # of one kind

    def importance_samples(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "samples cells latent"], Float[Tensor, "samples cells"]]:
        """Draw codes from q(z|x), gates hard; return them and log p(z) - log q(z|x)."""
        q = self.code(batch)
        prior = self.current_prior()
        return prior.importance_samples(q, n_samples, generator)  # type: ignore[arg-type]

    def reconstruct(
        self, batch: Batch, covariates: Float[Tensor, "cells known"]
    ) -> Float[Tensor, "cells genes"]:
        """Return the expected log-normalised expression of cells, seen with these covariates."""
        return self.body.decode(self.encode(batch), covariates)

    @abstractmethod
    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        """Return the loss per cell of a batch.

        Parameters
        ----------
        batch
            B cells.
        progress
            Share of training done, from 0 to 1; drives every schedule.
        generator
            Source of every random number.
        """


def drop(x: Matrix, share: float, generator: torch.Generator) -> Matrix:
    """Set a random share of the nonzero entries to zero and scale up the rest."""
    thin = partial(_thin, share, generator)
    return thin(x) if isinstance(x, Tensor) else x.map(thin)


def _thin(share: float, generator: torch.Generator, values: Tensor) -> Tensor:
    keep = torch.rand(values.shape, generator=generator, device=values.device) >= share
    return values * keep / (1 - share)


def _stack(widths: tuple[int, ...], network: Network) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), *_activation(n_out, network)]
    return layers


def _activation(width: int, network: Network) -> list[nn.Module]:
    return [*([nn.LayerNorm(width)] if network.normalise else []), nn.ReLU()]


def ramp(progress: float, first: float, last: float) -> float:
    """Rise linearly from 0 to 1 between two shares of training; all are in [0, 1]."""
    if not first < progress < last:
        return float(progress >= last)
    return (progress - first) / (last - first)
