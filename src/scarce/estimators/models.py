"""The estimators, each its options and its network."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce import check
from scarce.estimators import saved
from scarce.estimators.estimator import Estimator
from scarce.models.autoencoder import AutoencoderNet
from scarce.models.beta_vae import BetaVAENet
from scarce.models.beta_vsc import BetaVSCNet, Units
from scarce.models.linear_vsc import CLOSED_FORMS, LinearVSCNet
from scarce.models.parts import Body, Net, Network
from scarce.models.posteriors import SpikeAndSlabPrior
from scarce.models.pseudo_inputs import PseudoInputs
from scarce.models.vasc import DroppedOut, VASCNet
from scarce.train import TrainConfig

__all__ = ["VASC", "BetaVAE", "BetaVSC", "DeepAutoencoder", "LinearVSC", "load_single"]


@dataclass(kw_only=True, eq=False)
class DeepAutoencoder(Estimator):
    """Deep autoencoder.

    Parameters
    ----------
    relu_code
        Apply ReLU to the code, see `AutoencoderNet`.
    n_latent, batch, covariates, scaled, network, training, seed
        See `Estimator`.
    """

    relu_code: bool = False

    def _build(self, body: Body) -> Net:
        return AutoencoderNet(body, self.n_latent, relu_code=self.relu_code)


@dataclass(kw_only=True, eq=False)
class BetaVAE(Estimator):
    """Beta-VAE.

    Parameters
    ----------
    beta
        Weight of the KL divergence, see `BetaVAENet`.
    warm_up
        Share of training over which that weight rises from 0.
    free_bits
        Nats that each unit may use without a price, against units that are given up.
    n_latent, batch, covariates, scaled, network, training, seed
        See `Estimator`.
    """

    beta: float = 1.0
    warm_up: float = 0.3
    free_bits: float = 0.0

    def _build(self, body: Body) -> Net:
        return BetaVAENet(
            body,
            self.n_latent,
            beta=self.beta,
            warm_up=self.warm_up,
            free_bits=self.free_bits,
        )


@dataclass(kw_only=True, eq=False)
class BetaVSC(Estimator):
    """Beta-VSC, variational sparse coding: few active units per cell.

    Parameters
    ----------
    beta, warm_up, hard
        See `BetaVSCNet`.
    alpha
        Probability that a unit is on, in (0, 1). None: learned, for each unit its own.
    units
        How they behave.
    n_latent, batch, covariates, scaled, network, training, seed
        See `Estimator`.
    """

    gated = True

    beta: float = 1.0
    alpha: float | None = 0.5
    warm_up: float = 0.3
    hard: bool = True
    units: Units = Units()

    @property
    def alpha_(self) -> NDArray[np.float32]:
        """How often the prior has each unit on, shape (n_latent,).

        Of pseudo-inputs it is what these have learned, which alpha holds to only on average.
        """
        return cast(BetaVSCNet, self.module_).current_prior().gamma.detach().numpy()

    def _build(self, body: Body) -> Net:
        alpha = 0.5 if self.alpha is None else self.alpha
        learned = self.alpha is None
        prior = SpikeAndSlabPrior(self.n_latent, alpha, slab=self.units.slab, learned=learned)
        return BetaVSCNet(
            body,
            prior,
            self.units,
            beta=self.beta,
            warm_up=self.warm_up,
            hard=self.hard,
            pseudo_inputs=self._pseudo_inputs(len(body.first.weight)),
        )

    def _pseudo_inputs(self, n_genes: int) -> PseudoInputs | None:
        if self.units.pseudo_inputs == 0:
            return None
        average = torch.from_numpy(self.covariates_.average)
        return PseudoInputs(self.units.pseudo_inputs, n_genes, average)

    def _start(self, x: csr_matrix, rows: NDArray[np.int64]) -> Net:
        module = cast(BetaVSCNet, super()._start(x, rows))
        if module.pseudo_inputs is not None:
            n_inputs = self.units.pseudo_inputs
            few = len(rows) < n_inputs
            drawn = x[np.random.default_rng(self.seed).choice(rows, n_inputs, replace=few)]
            least = np.zeros(x.shape[1])
            if self.scaling_ is not None:
                drawn, least = self.scaling_.entries(drawn), self.scaling_.base
            cells = torch.from_numpy(drawn.toarray() + least).float()
            module.pseudo_inputs.start_from(cells, torch.from_numpy(least).float())
        return module


@dataclass(kw_only=True, eq=False)
class LinearVSC(Estimator):
    """LinearVSC: sparse codes whose units are gene programmes, the columns of a linear decoder.

    Parameters
    ----------
    n_latent
        How many programmes.
    beta, opening
        See `LinearVSCNet`.
    alpha, slab
        See `SpikeAndSlabPrior`.
    batch, covariates, scaled, network, training, seed
        See `Estimator`; of the network the encoder's part, with the likelihood
        ``"student_t"``, ``"gaussian"`` or, for raw counts, ``"poisson"``: there each gene has a
        rate of its own, see `PoissonLogLink`.
    """

    likelihoods = CLOSED_FORMS
    decoder = "linear"
    gated = True

    n_latent: int = 16
    beta: float = 1.0
    alpha: float = 0.2
    slab: tuple[float, float] = (1.0, 0.5)
    opening: tuple[float, float] = (0.05, 0.3)

    @property
    def programmes_(self) -> NDArray[np.float32]:
        """What each unit adds to each gene's expression where it is on, (n_genes, n_latent).

        Of counts, to the natural logarithm of the gene's share of them.
        """
        weight = self.module_.body.likelihood.weight.detach()
        return weight[:, : self.n_latent].numpy().copy()

    def _build(self, body: Body) -> Net:
        prior = SpikeAndSlabPrior(self.n_latent, self.alpha, slab=self.slab)
        return LinearVSCNet(body, prior, beta=self.beta, opening=self.opening)


@dataclass(kw_only=True, eq=False)
class VASC(Estimator):
    """VASC, a variational autoencoder with a zero-inflation layer.

    Parameters
    ----------
    l1
        Weight of the absolute sum of the first layer's weights; 0.01 in the paper.
    network
        Shape of encoder and decoder, the paper's by default. Its likelihood plays no part, as
        the decoder ends in `DroppedOut`, and the decoder is always deep.
    n_latent, batch, covariates, training, seed
        See `Estimator`.

    Notes
    -----
    Dense by nature: a batch of cells x genes is formed, on either path of arithmetic.
    """

    # No option of this model, whose values are shares of the cell's largest.
    scaled: ClassVar[bool] = False  # type: ignore[misc]

    likelihoods = {"student_t": DroppedOut, "gaussian": DroppedOut}  # noqa: RUF012
    decoder = "deep"

    n_latent: int = 2
    l1: float = 0.01
    network: Network = Network(
        n_hidden=(512, 128, 32), normalise=False, first_linear=True, decoder="deep"
    )
    training: TrainConfig = TrainConfig(batch_size=256, lr=1e-3, weight_decay=0.0)

    def _build(self, body: Body) -> Net:
        return VASCNet(body, self.n_latent, l1=self.l1)


def load_single(directory: str | Path) -> Estimator:
    """Read what the `save` of any single model wrote.

    Raises
    ------
    InputError
        If the directory holds no model, or a newer format.
    """
    kind = saved.about(Path(directory))["model"]
    leaves = {leaf.__name__: leaf for leaf in Estimator.__subclasses__()}
    return leaves[check.one_of("model", kind, leaves)].load(directory)
