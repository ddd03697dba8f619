"""Single-cell autoencoders for representation, clustering and evaluation.

The estimators are imported when they are first asked for, so that ``import scarce`` and
``scarce --help`` load neither torch nor scanpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scarce.estimators import BetaVAE, BetaVSC, DeepAutoencoder

__version__ = "0.1.0"

__all__ = ["BetaVAE", "BetaVSC", "DeepAutoencoder", "__version__"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("scarce.estimators"), name)
    raise AttributeError(f"module 'scarce' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
