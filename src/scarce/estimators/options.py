"""What the options of an estimator may be."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sklearn.exceptions import NotFittedError

from scarce import check
from scarce.errors import InputError
from scarce.likelihoods import LIKELIHOODS
from scarce.models.parts import DECODERS
from scarce.train import PATHS, SCHEDULES

if TYPE_CHECKING:
    from scarce.estimators.estimator import Estimator

__all__ = ["check_options", "missing"]

_FAR = 1e6
"""More deviations from zero than any code is."""
_LIMITS: dict[str, dict[str, Any]] = {
    # of the model
    "n_latent": {"least": 1, "whole": True},
    "seed": {"least": 0, "most": 2**62, "whole": True},
    "beta": {"least": 0},
    "warm_up": {"least": 0, "most": 1},
    "alpha": {"above": 0, "below": 1},
    "l1": {"least": 0},
    # of its units
    "start": {"above": 0, "below": 1},
    "free_bits": {"least": 0},
    "pseudo_inputs": {"least": 0, "whole": True},
    # of the network
    "input_dropout": {"least": 0, "below": 1},
    # of its training
    "epochs": {"least": 1, "whole": True},
    "batch_size": {"least": 2, "whole": True},
    "lr": {"above": 0},
    "weight_decay": {"least": 0},
    "held_out": {"least": 0, "below": 1},
    "patience": {"least": 1, "whole": True},
}


def check_options(model: "Estimator") -> None:
    """Raise `InputError` for the first option that is unknown or out of range."""
    check.a_list("covariates", model.covariates)
    network, training, units = model.network, model.training, getattr(model, "units", None)
    for owner in (model, network, training, units):
        if owner is not None:
            _check_numbers(owner)
            _check_pairs(owner)
    widths: Any = network.n_hidden
    if not isinstance(widths, list | tuple) or not widths:
        raise InputError(
            "n_hidden must be the widths of at least one layer, such as (128, 128); found "
            f"{widths!r}."
        )
    for width in widths:
        check.in_range("n_hidden", width, least=1, whole=True)
    check.one_of("path", training.path, PATHS)
    check.one_of("schedule", training.schedule, SCHEDULES)
    check.one_of("decoder", network.decoder, DECODERS)
    kind = type(model).__name__
    likelihood = check.one_of(f"likelihood of a {kind}", network.likelihood, model.likelihoods)
    if model.scaled and LIKELIHOODS[likelihood].counts:
        raise InputError(
            "scaled must be off with a likelihood of counts, as z-scores are none; found scaled "
            f"with likelihood {likelihood!r}. Leave one of them out."
        )


def missing(owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that is not there, or not yet: what a fit learns."""
    kind = type(owner).__name__
    # A property that needs what a fit learns ends here as well, under its own name.
    if (name.endswith("_") and not name.startswith("_")) or hasattr(type(owner), name):
        error: AttributeError = NotFittedError(f"this {kind} is not fitted: call fit first.")
        return error
    return AttributeError(f"{kind!r} object has no attribute {name!r}")


def _check_numbers(owner: Any) -> None:  # noqa: ANN401 - any dataclass
    for option in fields(owner):
        value = getattr(owner, option.name)
        learned = value is None and option.type == float | None
        if option.name in _LIMITS and not learned:
            check.in_range(option.name, value, **_LIMITS[option.name])


def _check_pairs(owner: object) -> None:
    for name in ("slab", "opening", "sharpness"):
        pair = getattr(owner, name, (0, 0))
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError(f"{name} must be two numbers, such as (0.0, 1.0); found {pair!r}.")
    if hasattr(owner, "slab"):
        check.in_range("mean of the slab", owner.slab[0], least=-_FAR, most=_FAR)
        check.in_range("standard deviation of the slab", owner.slab[1], above=0)
    if hasattr(owner, "opening"):
        first, last = owner.opening
        check.in_range("start of the opening", first, least=0, most=1)
        check.in_range("end of the opening", last, least=first, most=1)
    for sharpness in getattr(owner, "sharpness", ()):
        check.in_range("sharpness", sharpness, above=0)
