r"""What a decoder loses when one latent is switched off: the signed effect on every gene.

For the cells i that use latent j, with code z_i and decoder f,

.. math:: D_{gj} = \operatorname{mean}_i\; s_{ij}
          \big[f_g(z_i) - f_g(z_i \text{ with } z_j = o_j)\big].

In a model with gates a cell uses the units whose inclusion probability is above one half,
off is :math:`o_j = 0`, the model's own, and :math:`s = 1`. Without gates nothing is ever off:
there :math:`o_j` is the mean of the latent, a cell uses a latent that is more than one standard
deviation from it, and :math:`s = \pm 1` is the side, or both sides would cancel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce.estimators import Cells, Estimator, Gated
from scarce.likelihoods import Gaussian, SharedGaussian, SquaredError

__all__ = ["STEPS", "Use", "ablate", "raw_difference", "traverse", "use"]

Numbers = NDArray[np.float64]

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Standard deviations of a latent at which `traverse` decodes."""
_ON = 0.5
_FAR = 1.0
_BLOCK = 2**21
"""Entries of a cells x genes block in memory at a time: 16 MB of float64, three of them."""
_IDENTITY = (SquaredError, SharedGaussian, Gaussian)
"""Likelihoods whose expected expression is linear in what they read."""


@dataclass(frozen=True)
class Use:
    """Which cells use which latent. All arrays are n_cells x n_latent, but `off`."""

    z: NDArray[np.float32]
    """Codes: posterior means."""
    side: NDArray[np.int8]
    """1 where a cell uses a latent, -1 where it does on the low side, 0 where it does not."""
    off: Numbers
    """Shape (n_latent,): what a latent is set to."""
    gamma: NDArray[np.float32] | None
    """Inclusion probabilities; None without gates."""
    table: pd.DataFrame | None
    """Cell table with the model's covariates; None for a model without."""

    @property
    def n_cells(self) -> NDArray[np.int64]:
        """How many cells use each latent, shape (n_latent,)."""
        return np.asarray(np.count_nonzero(self.side, axis=0))

    @property
    def shift(self) -> Numbers:
        """How far each cell's latents are from off, 0 where it does not use them."""
        return np.abs(self.side) * (self.z - self.off)

    @property
    def sd(self) -> Numbers:
        """Standard deviation of each latent: over cells that use it, or without gates all."""
        if self.gamma is None:
            return np.asarray(self.z.std(axis=0, dtype=np.float64))
        members = [self.z[self.side[:, j] != 0, j] for j in range(self.z.shape[1])]
        return np.array([m.std(dtype=np.float64) if len(m) else 0.0 for m in members])


def use(estimator: Estimator, cells: Cells, *, layer: str | None = None) -> Use:
    """Return which cells use which latent of a fitted model."""
    z = estimator.transform(cells, layer=layer)
    covariates = estimator.covariates_.n_columns > 0
    table = cells.obs if covariates and isinstance(cells, AnnData) else None
    if isinstance(estimator, Gated):
        gamma = estimator.inclusion_probabilities(cells, layer=layer)
        return Use(z, (gamma > _ON).astype(np.int8), np.zeros(z.shape[1]), gamma, table)
    mean, sd = z.mean(axis=0, dtype=np.float64), z.std(axis=0, dtype=np.float64)
    side = np.sign(z - mean) * (np.abs(z - mean) > _FAR * sd)
    return Use(z, side.astype(np.int8), mean, None, table)


def ablate(estimator: Estimator, used: Use) -> tuple[Numbers, Numbers]:
    """Return the effect of each latent on each gene, and its standard error over cells.

    Parameters
    ----------
    estimator
        Fitted model.
    used
        See `use`.

    Returns
    -------
    Two arrays of shape (n_genes, n_latent), in units of log-normalised expression. A latent
    that fewer than two cells use has effects of 0 and no standard error (NaN).

    Notes
    -----
    A linear decoder needs one product. Any other decodes each cell once, and once more for
    each latent it uses, in blocks: no cells x genes array is ever larger than 16 MB.
    """
    loadings = _loadings(estimator)
    if loadings is not None:
        return _linear(loadings, used)
    n_genes, n_latent = len(estimator.module_.body.likelihood.weight), used.z.shape[1]
    sums, squares = np.zeros((2, n_latent, n_genes))
    for rows in _blocks(len(used.z), n_genes):
        known = None if used.table is None else used.table.iloc[rows]
        whole = estimator.decode(used.z[rows], table=known)
        for j in range(n_latent):
            lost = _lost(estimator, used, known, whole, rows, j)
            sums[j] += lost.sum(axis=0)
            squares[j] += np.square(lost).sum(axis=0)
    return _mean_and_error(sums.T, squares.T, used.n_cells)


def raw_difference(x: csr_matrix, used: Use) -> Numbers:
    """Return how measured expression differs between cells, shape (n_genes, n_latent).

    Parameters
    ----------
    x
        Log-normalised expression, n_cells x n_genes.
    used
        See `use`.

    Returns
    -------
    Mean over the cells that use a latent minus mean over those that do not; without gates,
    mean over the cells on its high side minus mean over those on its low side. NaN where
    either is empty.
    """
    high = used.side > 0
    low = used.side < 0 if used.gamma is None else used.side == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = high / high.sum(axis=0) - low / low.sum(axis=0)
    return np.asarray(x.T @ weights)


def traverse(estimator: Estimator, used: Use) -> NDArray[np.float32]:
    """Decode the mean code with one latent moved by `STEPS` of its standard deviations.

    Returns
    -------
    Expected log-normalised expression, shape (n_latent, 5, n_genes).
    """
    n_latent = used.z.shape[1]
    moves = np.eye(n_latent)[:, None, :] * np.array(STEPS)[:, None] * used.sd
    codes = used.z.mean(axis=0, dtype=np.float64) + moves
    decoded = estimator.decode(codes.reshape(-1, n_latent))
    return decoded.reshape(n_latent, len(STEPS), -1)


def _lost(
    estimator: Estimator,
    used: Use,
    known: pd.DataFrame | None,
    whole: NDArray[np.float32],
    rows: slice,
    j: int,
) -> Numbers:
    """What the cells of a block that use latent j lose without it, (n_users, n_genes)."""
    side = used.side[rows, j]
    users = np.flatnonzero(side)
    if not len(users):
        return np.empty((0, whole.shape[1]))
    without = used.z[rows][users]
    without[:, j] = used.off[j]
    rest = estimator.decode(without, table=None if known is None else known.iloc[users])
    return side[users, None] * (whole[users].astype(np.float64) - rest)


def _loadings(estimator: Estimator) -> Numbers | None:
    """Return weights of genes x latents if expected expression is linear in the code."""
    body = estimator.module_.body
    if len(body.decoder) or not isinstance(body.likelihood, _IDENTITY):
        return None
    weight = body.likelihood.weight[:, : estimator.n_latent].detach().double().numpy()
    if estimator.scaling_ is None:
        return weight
    sd = estimator.scaling_.sd
    return weight * np.where(np.isfinite(sd), sd, 0.0)[:, None]


def _linear(loadings: Numbers, used: Use) -> tuple[Numbers, Numbers]:
    shift = used.side * used.shift
    mean, error = _mean_and_error(shift.sum(axis=0), np.square(shift).sum(axis=0), used.n_cells)
    return loadings * mean, np.abs(loadings) * error


def _mean_and_error(
    sums: Numbers, squares: Numbers, n_cells: NDArray[np.int64]
) -> tuple[Numbers, Numbers]:
    """Mean and its standard error from sums over n cells; the last axis is that of n."""
    enough = n_cells >= 2
    n = np.where(enough, n_cells, 2)
    mean = sums / n
    variance = np.maximum(squares - n * np.square(mean), 0) / (n - 1)
    return np.where(enough, mean, 0.0), np.where(enough, np.sqrt(variance / n), np.nan)


def _blocks(n_cells: int, n_genes: int) -> Iterator[slice]:
    step = max(1, _BLOCK // n_genes)
    return (slice(start, start + step) for start in range(0, n_cells, step))
