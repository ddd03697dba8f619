"""The models' settings: the course report's, and ours."""

from dataclasses import dataclass, field
from typing import Any

from scarce import check
from scarce.estimators import (
    VASC,
    BetaVAE,
    BetaVSC,
    DeepAutoencoder,
    Ensemble,
    Estimator,
    LinearVSC,
    Units,
)
from scarce.models.parts import Network
from scarce.train import TrainConfig

__all__ = [
    "ALL_MODELS",
    "ENSEMBLE",
    "MODELS",
    "PRESETS",
    "TITLES",
    "Settings",
    "build",
    "build_ensemble",
]

MODELS = ("dae", "bvae", "bvsc")
"""Those a run trains unless told otherwise."""

ALL_MODELS = (*MODELS, "lvsc", "vasc")

ENSEMBLE = "ensemble"
"""Several fits of the β-VAE side by side."""

TITLES = {
    "pca": "PCA",
    "dae": "Deep autoencoder",
    "bvae": "β-VAE",
    "bvsc": "β-VSC",
    "lvsc": "Linear VSC",
    "vasc": "VASC",
    "ensemble": "Five β-VAEs side by side",
    "pca_scaled": "PCA, scaled genes",
    "mean": "Gene means",
    "random": "Random codes",
    "scvi": "scVI",
    "ldvae": "scVI, linear decoder",
}


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a model but its kind and its seed.

    Parameters
    ----------
    genes
        How many variable genes to model, or None for all.
    n_latent
        Dimensions of the code.
    batch, covariates
        Columns of the cell table that the decoder is told of, see `DeepAutoencoder`.
    beta, alpha, warm_up, hard, units, relu_code
        See `BetaVSC` and `DeepAutoencoder`; each model takes what it knows. `LinearVSC` has an
        alpha, a slab and an opening of its own.
    scaled
        Model z-scores, see `Estimator`.
    network, training
        Shape and schedule.
    """

    genes: int | None = 2000
    n_latent: int = 10
    batch: str | None = None
    covariates: tuple[str, ...] = ()
    beta: float = 1.0
    alpha: float = 0.5
    warm_up: float = 0.3
    hard: bool = True
    units: Units = field(default_factory=Units)
    relu_code: bool = False
    scaled: bool = False
    network: Network = field(default_factory=Network)
    training: TrainConfig = field(default_factory=TrainConfig)


PRESETS = {
    # Equations, widths and training of the course report; see docs/models.md for where
    # its letter is unsound and what is done instead.
    "paper": Settings(
        genes=None,
        n_latent=6,
        beta=2.0,
        warm_up=0.0,
        hard=False,
        units=Units(start=0.5, pseudo_inputs=0),
        relu_code=True,
        network=Network(
            n_hidden=(128, 32, 16),
            normalise=False,
            first_linear=True,
            input_dropout=0.0,
            likelihood="squared_error",
            decoder="deep",
        ),
        training=TrainConfig(batch_size=256, lr=1e-3, weight_decay=0.0, held_out=0.0),
    ),
    # Chosen by held-out likelihood, never by labels; the numbers are in docs/log.md.
    "default": Settings(),
}


def build(model: str, settings: Settings, *, seed: int) -> Estimator:
    """Return an unfitted estimator.

    Raises
    ------
    InputError
        If `model` is not one of `ALL_MODELS`.
    """
    check.one_of("model", model, ALL_MODELS)
    shared: dict[str, Any] = {
        "n_latent": settings.n_latent,
        "batch": settings.batch,
        "covariates": settings.covariates,
        "training": settings.training,
        "seed": seed,
    }
    if model == "vasc":  # its widths, like its likelihood, are part of what it is
        return VASC(**shared)
    shared |= {"scaled": settings.scaled, "network": settings.network}
    if model == "dae":
        return DeepAutoencoder(relu_code=settings.relu_code, **shared)
    shared["beta"] = settings.beta
    if model == "bvae":
        return BetaVAE(warm_up=settings.warm_up, **shared)
    if model == "lvsc":
        return LinearVSC(**shared)
    return BetaVSC(
        alpha=settings.alpha,
        warm_up=settings.warm_up,
        hard=settings.hard,
        units=settings.units,
        **shared,
    )


def build_ensemble(settings: Settings, *, seed: int) -> Ensemble:
    """Return an unfitted ensemble: five β-VAEs; why these, is in docs/log.md."""
    return Ensemble(build("bvae", settings, seed=seed), n_members=5)
