"""The models as estimators: ``fit`` and ``transform`` on AnnData or CSR, ``save`` and ``load``."""

from scarce.estimators.cells import Cells
from scarce.estimators.ensemble import Ensemble, load_model
from scarce.estimators.estimator import Estimator
from scarce.estimators.models import (
    VASC,
    BetaVAE,
    BetaVSC,
    DeepAutoencoder,
    LinearVSC,
)
from scarce.models.beta_vsc import Units
from scarce.models.parts import Network
from scarce.train import TrainConfig

__all__ = [
    "VASC",
    "BetaVAE",
    "BetaVSC",
    "Cells",
    "DeepAutoencoder",
    "Ensemble",
    "Estimator",
    "LinearVSC",
    "Network",
    "TrainConfig",
    "Units",
    "load_model",
]
