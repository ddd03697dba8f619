r"""What a trained network can make up or say beside its code: new codes, spreads, exact zeros."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scarce.errors import InputError
from scarce.models.parts import Net, Variational
from scarce.models.posteriors import GaussianPosterior, SpikeAndSlabPosterior, SpikeAndSlabPrior
from scarce.sparse.batches import Batch

__all__ = ["code_with_zeros", "draw_codes", "posterior_sd"]


def draw_codes(
    module: Net, n_cells: int, n_latent: int, seed: int
) -> Float[Tensor, "cells latent"]:
    """Draw codes from the prior; gates of a spike-and-slab prior are exactly 0 or 1.

    Raises
    ------
    InputError
        If the network has no prior, or one that is not known here.
    """
    prior = getattr(module, "prior", None)
    if not isinstance(module, Variational) or not isinstance(prior, SpikeAndSlabPrior | None):
        raise InputError(
            "new cells must be drawn from a prior, standard normal or spike-and-slab; found none "
            f"in a {type(module).__name__}. Use a variational model such as BetaVAE or BetaVSC."
        )
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n_cells, n_latent, generator=generator)
    if prior is None:
        return z
    mean, sd = prior.slab
    return (mean + sd * z) * (torch.rand(z.shape, generator=generator) < prior.logit.sigmoid())


def posterior_sd(module: Net, batch: Batch) -> Float[Tensor, "cells latent"]:
    r"""Return the standard deviation of the code of each cell, given its expression.

    That of the Gaussian, or :math:`\sqrt{\gamma(s^2 + \mu^2) - \gamma^2\mu^2}` of a spike and
    slab: there it holds the doubt whether the unit is on as well.

    Raises
    ------
    InputError
        If the network has no distribution over codes.
    """
    q = _posterior(module, batch)
    if isinstance(q, GaussianPosterior):
        return (0.5 * q.log_var).exp()
    if isinstance(q, SpikeAndSlabPosterior):
        return q.variance.sqrt()
    raise InputError(
        "a code must have a distribution for its spread to be known; found a point in a "
        f"{type(module).__name__}. Use a variational model such as BetaVAE or BetaVSC."
    )


def code_with_zeros(module: Net, batch: Batch) -> Float[Tensor, "cells latent"]:
    r"""Return :math:`\mu` where a unit is more likely on than off, and exactly 0 elsewhere.

    Raises
    ------
    InputError
        If the network has no gates.
    """
    q = _posterior(module, batch)
    if not isinstance(q, SpikeAndSlabPosterior):
        raise InputError(
            "exact zeros must come from gates; found none in a "
            f"{type(module).__name__}. Use a model such as BetaVSC."
        )
    return torch.where(q.logit > 0, q.mu, 0.0)


def _posterior(module: Net, batch: Batch) -> Any:  # noqa: ANN401  # of whatever kind it has
    head = getattr(module, "posterior", None)
    return None if head is None else head(module.body.features(batch))
