"""Single-cell autoencoders for representation, clustering and evaluation.

All names are imported when they are first asked for, so that ``import scarce`` and
``scarce --help`` load neither torch nor scanpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scarce import pl
    from scarce.estimators import (
        VASC,
        BetaVAE,
        BetaVSC,
        DeepAutoencoder,
        Ensemble,
        LinearVSC,
        Network,
        TrainConfig,
        Units,
    )
    from scarce.meaning import programmes, stability
    from scarce.study import BenchmarkConfig, TuneConfig, benchmark, tune

__version__ = "0.1.0"

__all__ = [
    "VASC",
    "BenchmarkConfig",
    "BetaVAE",
    "BetaVSC",
    "DeepAutoencoder",
    "Ensemble",
    "LinearVSC",
    "Network",
    "TrainConfig",
    "TuneConfig",
    "Units",
    "__version__",
    "benchmark",
    "pl",
    "programmes",
    "stability",
    "tune",
]

_ROOMS = {
    **dict.fromkeys(("BenchmarkConfig", "TuneConfig", "benchmark", "tune"), "study"),
    **dict.fromkeys(("programmes", "stability"), "meaning"),
}
"""Where names lie that are not estimators."""


def __getattr__(name: str) -> object:
    if name == "pl":
        return import_module("scarce.pl")
    if name in __all__:
        room = _ROOMS.get(name, "estimators")
        return getattr(import_module(f"scarce.{room}"), name)
    raise AttributeError(f"module 'scarce' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
