r"""What a trained network can make up or say beside its code: new codes, exact zeros."""

import torch
from jaxtyping import Float
from torch import Tensor

from scarce.errors import InputError
from scarce.models.parts import Net
from scarce.models.posteriors import SpikeAndSlabPosterior
from scarce.sparse.batches import Batch

__all__ = ["code_with_zeros", "draw_codes"]


def draw_codes(
    module: Net, n_cells: int, n_latent: int, seed: int
) -> Float[Tensor, "cells latent"]:
    """Draw codes from the prior; gates of a spike-and-slab prior are exactly 0 or 1.

    Raises
    ------
    InputError
        If the network has no prior, or none that its decoder was made for.
    """
    if not module.bounded:
        raise InputError(
            "new cells must be drawn from a prior, standard normal or spike-and-slab; found none "
            f"in a {type(module).__name__}. Use a variational model such as BetaVAE or BetaVSC."
        )
    generator = torch.Generator().manual_seed(int(seed))
    return module.current_prior().sample(n_cells, n_latent, generator)


def code_with_zeros(module: Net, batch: Batch) -> Float[Tensor, "cells latent"]:
    r"""Return :math:`\mu` where a unit is more likely on than off, and exactly 0 elsewhere.

    Raises
    ------
    InputError
        If the network has no gates.
    """
    q = None if module.posterior is None else module.code(batch)
    if not isinstance(q, SpikeAndSlabPosterior):
        raise InputError(
            "exact zeros must come from gates; found none in a "
            f"{type(module).__name__}. Use a model such as BetaVSC."
        )
    return torch.where(q.logit > 0, q.mu, 0.0)
