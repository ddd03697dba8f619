r"""What a decoder loses when one latent is switched off: the signed effect on every gene.

For the cells i that use latent j, with code z_i and decoder f,

.. math:: D_{gj} = \operatorname{mean}_i\; s_{ij}
          \big[f_g(z_i) - f_g(z_i \text{ with } z_j = o_j)\big].

A unit with a gate switches if its inclusion probability is above one half in some cells and
not in all but a few: these cells use it, off is :math:`o_j = 0`, the model's own, and
:math:`s = 1`. A latent without a gate, or whose gate is open in more than 95 % of the cells, is
never off: there :math:`o_j` is its mean, a cell uses it that is more than one standard
deviation from there, and :math:`s = \pm 1` is the side, or both sides would cancel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce.estimators import Cells, Estimator

__all__ = ["STEPS", "Use", "ablate", "raw_difference", "traverse", "use"]

Numbers = NDArray[np.float64]

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Standard deviations of a latent at which `traverse` decodes."""
_ON = 0.5
_FAR = 1.0
_ALWAYS = 0.95
_BLOCK = 2**21
"""Entries of a cells x genes block in memory at a time: 16 MB of float64, three of them."""


@dataclass(frozen=True)
class Use:
    """Which cells use which latent. N cells, J latents."""

    z: NDArray[np.float32]
    """Codes, shape (N, J): posterior means."""
    gamma: NDArray[np.float32] | None
    """Inclusion probabilities, shape (N, J); None without gates."""
    table: pd.DataFrame | None
    """Cell table with the model's covariates; None for a model without."""
    switches: NDArray[np.bool_]
    """Shape (J,): latents that are off in some cells."""
    off: Numbers
    """Shape (J,): what a latent is set to."""
    side: NDArray[np.int8]
    """Shape (N, J): 1 where a cell uses a latent, -1 where it does on the low side of one that
    does not switch, 0 where it does not."""

    @property
    def on(self) -> NDArray[np.bool_]:
        """Open gates, or without gates the cells that use each latent; shape (N, J)."""
        return self.side != 0 if self.gamma is None else self.gamma > _ON

    @property
    def shift(self) -> Numbers:
        """How far each cell's latents are from off, 0 where it does not use them; (N, J)."""
        return np.abs(self.side) * (self.z - self.off)

    @property
    def sd(self) -> Numbers:
        """Standard deviation of each latent over all cells, or those where it is on; (J,)."""
        members = self.on | ~self.switches
        n = np.maximum(members.sum(axis=0), 1)
        mean = (members * self.z).sum(axis=0, dtype=np.float64) / n
        return np.asarray(np.sqrt((members * np.square(self.z - mean)).sum(axis=0) / n))


def use(estimator: Estimator, cells: Cells, *, layer: str | None = None) -> Use:
    """Return which cells use which latent of a fitted model."""
    z = estimator.transform(cells, layer=layer)
    mean, sd = z.mean(axis=0, dtype=np.float64), z.std(axis=0, dtype=np.float64)
    side = np.sign(z - mean) * (np.abs(z - mean) > _FAR * sd)
    gamma, switches = None, np.zeros(z.shape[1], bool)
    if estimator.gated:
        gamma = estimator.inclusion_probabilities(cells, layer=layer)
        on = gamma > _ON
        switches = on.mean(axis=0) <= _ALWAYS
        side = np.where(switches, on, side)
    covariates = estimator.covariates_.n_columns > 0
    return Use(
        z=z,
        gamma=gamma,
        table=cells.obs if covariates and isinstance(cells, AnnData) else None,
        switches=switches,
        off=np.where(switches, 0.0, mean),
        side=side.astype(np.int8),
    )


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
    Two arrays of shape (n_genes, n_latent), in units of log-normalised expression; of a model
    of counts, in natural logarithms of the genes' proportions, centred over the genes; of VASC, in
    shares of a cell's largest value. A latent that fewer than two cells use has effects of 0 and
    no standard error (NaN).

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
        whole = estimator.decode(used.z[rows], table=known, log_ratios=True)
        for j in range(n_latent):
            lost = _lost(estimator, used, known, whole, rows, j)
            sums[j] += lost.sum(axis=0)
            squares[j] += np.square(lost).sum(axis=0)
    return _mean_and_error(sums.T, squares.T, np.count_nonzero(used.side, axis=0))


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
    Mean over the cells that use a latent minus mean over those that do not; of one that does
    not switch, mean over the cells on its high side minus mean over those on its low side. NaN
    where either is empty.
    """
    high = used.side > 0
    low = np.where(used.switches, used.side == 0, used.side < 0)
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
    table = None if known is None else known.iloc[users]
    rest = estimator.decode(without, table=table, log_ratios=True)
    return side[users, None] * (whole[users].astype(np.float64) - rest)


def _loadings(estimator: Estimator) -> Numbers | None:
    """Return weights of genes x latents if what is decoded is linear in the code."""
    body = estimator.module_.body
    if len(body.decoder):
        return None
    weight: Numbers = body.likelihood.weight[:, : estimator.n_latent].detach().double().numpy()
    if body.likelihood.counts:
        return np.asarray(weight - weight.mean(axis=0))
    if estimator.scaling_ is None:
        return weight
    sd = estimator.scaling_.sd
    return weight * np.where(np.isfinite(sd), sd, 0.0)[:, None]


def _linear(loadings: Numbers, used: Use) -> tuple[Numbers, Numbers]:
    shift, n_cells = used.side * used.shift, np.count_nonzero(used.side, axis=0)
    mean, error = _mean_and_error(shift.sum(axis=0), np.square(shift).sum(axis=0), n_cells)
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
