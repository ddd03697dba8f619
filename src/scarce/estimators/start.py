"""Where training begins: at what is known of the cells without it."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce.models.nonnegative import nonnegative_programmes
from scarce.models.parts import Body
from scarce.preprocess import Scaling, log_normalised
from scarce.sparse.stats import mean_and_variance

__all__ = ["start_from_cells"]

_CELLS = 5000
"""Most cells the programmes are found on."""


def start_from_cells(
    body: Body, x: csr_matrix, rows: NDArray[np.int64], scaling: Scaling | None, *, seed: int
) -> None:
    """Begin at the genes' means and variances and, where units may, at programmes.

    Parameters
    ----------
    body
        Untrained; changed in place.
    x
        What it is to be fitted on, n_cells x n_genes, unscaled.
    rows
        Cells of training.
    scaling
        If genes are z-scored.
    seed
        Of the cells drawn for the programmes.
    """
    mean, variance = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if scaling is None:
        mean, variance = mean_and_variance(x, rows=rows)
    body.likelihood.start_from(torch.from_numpy(mean).float(), torch.from_numpy(variance).float())
    if not body.from_programmes:
        return
    drawn = x[np.sort(np.random.default_rng(seed).permutation(rows)[:_CELLS])]
    # Of counts logarithms as well: for a gene that is not rare, those that a link reads.
    seen = log_normalised(drawn) if body.likelihood.counts else drawn
    programmes = nonnegative_programmes(seen, body.n_latent, seed=seed)
    if scaling is not None:
        programmes /= scaling.sd[:, None].astype(np.float32)
    body.start_from(torch.from_numpy(programmes))
