r"""Kernels of the count likelihoods, on genes x cells arrays: a gene's cells lie side by side.

With :math:`\mu_{ig} = n_i\,\mathrm{softmax}(a_i)_g`, :math:`r = \mu/\theta_g` and
:math:`q = 1/(1+r)`, the negative binomial is

.. math::
    \log p = -\theta \log(1 + r) + [x > 0]\big\{\log\Gamma(x+\theta) - \log\Gamma(\theta)
             - \log x! + x (\log\mu - \log\theta - \log(1+r))\big\},

so that every entry needs an exponential, a logarithm and a reciprocal, and only the nonzeros
need more. Even they need no special function: :math:`\log\Gamma(x+\theta) - \log\Gamma(\theta)
= \sum_{k<x} \log(\theta+k)`, and over the cells of a gene the k-th term counts the cells with
more than k. Gradients, with :math:`e = \partial\log p/\partial\log\mu` and
:math:`h(r) = r/(1+r) - \log(1+r)`:

.. math::
    e = (x - \mu) q, \quad
    \partial_\theta \log p = h(r) + [x>0]\{\psi(x+\theta) - \psi(\theta) - x q/\theta\}, \quad
    \partial_{a_{ig}} = e_{ig} - \mathrm{softmax}(a_i)_g \textstyle\sum_{g'} e_{ig'}.

Zero inflation with log odds :math:`\rho` adds, with :math:`u = \rho + \theta\log(1+r)` and
:math:`\mathrm{sp}(u) = \log(1+e^u)`,

.. math:: \log p(0) = \mathrm{sp}(-u) - \mathrm{sp}(-\rho), \qquad
          \log p(x) = -\mathrm{sp}(\rho) + \log\mathrm{NB}(x).

Sums are float64. Every kernel runs over blocks of genes in parallel, each with sums of its
own, so that no number depends on how many threads there are.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from scarce.sparse.elementary import Number, exp, log1p

__all__ = [
    "BLOCK",
    "Entries",
    "entries",
    "exponentials",
    "log_factorials",
    "negative_binomial",
    "poisson_gradient",
    "project",
    "project_negative_binomial",
    "zero_inflated",
]

BLOCK = 64
"""Genes in a block: with 128 cells they take half of a processor's nearest cache."""

_FEW = 32
"""Counts up to here are summed term by term; beyond, Stirling's series is exact to 1e-10."""
_SMALL_SINGLE, _SMALL_DOUBLE = 0.03, 1e-3
"""Below it h(r) is a series, as the difference would lose digits in float32 or float64."""

_SUMS = {"contract", "reassoc", "nsz", "arcp"}
"""What the compiler may do: add up in several lanes at once."""

Floats = NDArray[np.floating]


class Entries(NamedTuple):
    """Nonzero counts in gene order."""

    starts: NDArray[np.int64]
    """Shape (n_genes + 1,): entries of gene g are ``starts[g]:starts[g + 1]``."""
    cells: NDArray[np.int32]
    values: Floats

    def of(self, genes: slice) -> "Entries":
        """Return those of a range of genes."""
        return Entries(self.starts[genes.start : genes.stop + 1], self.cells, self.values)


@numba.njit(cache=True)
def entries(
    gene_starts: NDArray[np.int32],
    cells: NDArray[np.int32],
    values: Floats,
    dense_values: Floats,
    dense_genes: NDArray[np.int64],
) -> Entries:
    """Join the sparse entries of a batch, in gene order, and the nonzeros of its dense columns."""
    n_genes = len(gene_starts) - 1
    starts = np.zeros(n_genes + 1, np.int64)
    for gene in range(n_genes):
        starts[gene + 1] = gene_starts[gene + 1] - gene_starts[gene]
    for column in range(len(dense_genes)):
        for cell in range(len(dense_values)):
            starts[dense_genes[column] + 1] += dense_values[cell, column] != 0
    starts = np.cumsum(starts)
    all_cells = np.empty(starts[-1], np.int32)
    all_values = np.empty(starts[-1], values.dtype)
    for gene in range(n_genes):
        to = starts[gene]
        for entry in range(gene_starts[gene], gene_starts[gene + 1]):
            all_cells[to] = cells[entry]
            all_values[to] = values[entry]
            to += 1
    for column in range(len(dense_genes)):
        to = starts[dense_genes[column]]
        for cell in range(len(dense_values)):
            if dense_values[cell, column] != 0:
                all_cells[to] = cell
                all_values[to] = dense_values[cell, column]
                to += 1
    return Entries(starts, all_cells, all_values)


@numba.njit(cache=True)
def log_factorials(values: Floats) -> float:
    """Sum log x! over counts."""
    table = np.zeros(256)
    for k in range(2, 256):
        table[k] = table[k - 1] + math.log(k)
    total = 0.0
    for x in values:
        total += table[int(x)] if x < 256 else math.lgamma(x + 1.0)
    return total


@numba.njit(parallel=True, cache=True)
def exponentials(a: Floats, x: Entries, most: Floats, sums: NDArray[np.float64]) -> float:
    r"""Put :math:`e^{a - m}` in the place of `a`; return :math:`\sum x a`.

    Parameters
    ----------
    a
        Shape (n_genes, n_cells).
    x
        The counts.
    most
        Out: m, the largest `a` of each cell in each block, shape (n_blocks, n_cells).
    sums
        Out: the sums of the exponentials, of the same shape.
    """
    products = np.zeros(len(most))
    for block in numba.prange(len(most)):
        genes = slice(block * BLOCK, min((block + 1) * BLOCK, len(a)))
        products[block] = _weighted(a, x, genes.start, genes.stop)
        _exponentials(a[genes], most[block], sums[block])
    return float(products.sum())


@numba.njit(parallel=True, cache=True)
def poisson_gradient(a: Floats, x: Entries, scale: Floats, factor: float) -> None:
    r"""Put :math:`c\,(x - \mu)` in the place of exponentials `a`.

    Parameters
    ----------
    a
        From `exponentials`.
    x
        The counts.
    scale
        :math:`\mu` over the exponentials, shape (n_blocks, n_cells).
    factor
        c.
    """
    for block in numba.prange(len(scale)):
        for gene in range(block * BLOCK, min((block + 1) * BLOCK, len(a))):
            _times(a[gene], scale[block], -factor)
            for entry in range(x.starts[gene], x.starts[gene + 1]):
                a[gene, np.uintp(x.cells[entry])] += factor * x.values[entry]


@numba.njit(parallel=True, cache=True)
def negative_binomial(
    a: Floats,
    x: Entries,
    scale: Floats,
    theta: NDArray[np.float64],
    d_theta: NDArray[np.float64],
    residual: Floats,
) -> float:
    r"""Return the log likelihood, without log x! and :math:`\sum x \log\mu`.

    Parameters
    ----------
    a
        From `exponentials`; becomes :math:`\mu`.
    x, scale
        As in `poisson_gradient`.
    theta
        Shape (n_genes,).
    d_theta
        Out: the gradient, shape (n_genes,).
    residual
        Out: sums of e over the genes of each block, shape (n_blocks, n_cells).
    """
    totals = np.zeros(len(scale))
    for block in numba.prange(len(scale)):
        logs = np.empty(a.shape[1], a.dtype)
        tail = np.zeros(_FEW + 1)
        for gene in range(block * BLOCK, min((block + 1) * BLOCK, len(a))):
            each, span = theta[gene], slice(x.starts[gene], x.starts[gene + 1])
            log_sum, d = _negative_binomial(
                a[gene], scale[block], a.dtype.type(1 / each), residual[block], logs
            )
            total, d_entries = _rising(x.values[span], each, tail)
            totals[block] += total - each * log_sum
            less, d_less = _nonzeros(
                a[gene], x.cells[span], x.values[span], each, residual[block], logs
            )
            totals[block] -= less
            d_theta[gene] = d + d_entries - d_less
    return float(totals.sum())


@numba.njit(parallel=True, cache=True)
def zero_inflated(
    a: Floats,
    rho: Floats,
    error: Floats,
    x: Entries,
    scale: Floats,
    theta: NDArray[np.float64],
    d_theta: NDArray[np.float64],
    residual: Floats,
) -> float:
    r"""Return the log likelihood of some genes, without log x! and :math:`\sum x \log\mu`.

    Parameters
    ----------
    a, x, scale, theta, d_theta, residual
        As in `negative_binomial`, of these genes.
    rho
        Log odds of zero inflation; becomes the gradient with respect to them.
    error
        Out: e.
    """
    totals = np.zeros(len(scale))
    for block in numba.prange(len(scale)):
        logs, odds = np.empty(a.shape[1], a.dtype), np.empty(a.shape[1], a.dtype)
        tail = np.zeros(_FEW + 1)
        for gene in range(block * BLOCK, min((block + 1) * BLOCK, len(a))):
            each, span = theta[gene], slice(x.starts[gene], x.starts[gene + 1])
            rows = a[gene], rho[gene], error[gene]
            total, d = _zero_inflated(rows, scale[block], a.dtype.type(each), logs, odds)
            rising, d_entries = _rising(x.values[span], each, tail)
            more, d_more = _inflated_nonzeros(rows, x.cells[span], x.values[span], each, logs, odds)
            _add(residual[block], error[gene])
            totals[block] += total + rising + more
            d_theta[gene] = d + d_entries + d_more
    return float(totals.sum())


@numba.njit(parallel=True, cache=True)
def project(a: Floats, error: Floats, share: Floats, factor: float) -> None:
    r"""Put the gradient :math:`c\,(e - \mu s)` in the place of :math:`\mu`.

    Parameters
    ----------
    a
        :math:`\mu`, shape (n_genes, n_cells).
    error
        e, of the same shape.
    share
        s: the sum of e over the genes, divided by that of :math:`\mu`; shape (n_cells,).
    factor
        c.
    """
    for block in numba.prange(-(-len(a) // BLOCK)):
        for gene in range(block * BLOCK, min((block + 1) * BLOCK, len(a))):
            _project(a[gene], error[gene], share, factor)


@numba.njit(parallel=True, cache=True)
def project_negative_binomial(
    a: Floats, x: Entries, theta: NDArray[np.float64], share: Floats, factor: float
) -> None:
    """Do the same for the e of a negative binomial, made anew from counts and dispersions."""
    for block in numba.prange(-(-len(a) // BLOCK)):
        for gene in range(block * BLOCK, min((block + 1) * BLOCK, len(a))):
            span = slice(x.starts[gene], x.starts[gene + 1])
            cells, inverse = x.cells[span], a.dtype.type(1 / theta[gene])
            more = _positive_part(a[gene], cells, x.values[span], inverse)
            _project_negative_binomial(a[gene], inverse, share, factor)
            for entry in range(len(cells)):
                a[gene, np.uintp(cells[entry])] += factor * more[entry]


# What happens to one gene, over its cells: the loops that become vector instructions.


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _exponentials(a: Floats, most: Floats, sums: NDArray[np.float64]) -> None:
    for i in range(len(most)):
        most[i], sums[i] = a[0, i], 0
    for gene in range(1, len(a)):
        row = a[gene]
        for i in range(len(most)):
            most[i] = max(most[i], row[i])
    for gene in range(len(a)):
        row = a[gene]
        for i in range(len(most)):
            row[i] = exp(row[i] - most[i])
        for i in range(len(most)):
            sums[i] += row[i]


@numba.njit()
def _weighted(a: Floats, x: Entries, first: int, last: int) -> float:
    total = 0.0
    for gene in range(first, last):
        for entry in range(x.starts[gene], x.starts[gene + 1]):
            total += np.float64(x.values[entry]) * a[gene, np.uintp(x.cells[entry])]
    return total


@numba.njit(fastmath=_SUMS)
def _times(row: Floats, scale: Floats, factor: float) -> None:
    c = row.dtype.type(factor)
    for i in range(len(row)):
        row[i] *= c * scale[i]


@numba.njit(fastmath=_SUMS)
def _add(to: Floats, row: Floats) -> None:
    for i in range(len(row)):
        to[i] += row[i]


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _dispersion_slope(r: Number, q: Number, log: Number, small: Number) -> Number:
    """Return h(r), of the type of r, as a series where r is below `small`."""
    t = type(r)
    series = r * r * (t(-1 / 2) + r * (t(2 / 3) + r * (t(-3 / 4) + r * t(4 / 5))))
    return series if r < small else r * q - log


@numba.njit()
def _small(row: Floats) -> Number:
    return row.dtype.type(_SMALL_SINGLE if row.itemsize == 4 else _SMALL_DOUBLE)


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _negative_binomial(
    row: Floats, scale: Floats, inverse: Number, residual: Floats, logs: Floats
) -> tuple[Number, Number]:
    """As if every count were zero: sum log(1 + r) and h; write mu and log(1 + r)."""
    one, small = row.dtype.type(1), _small(row)
    total: Number = 0.0
    slope: Number = 0.0
    for i in range(len(row)):
        mu = row[i] * scale[i]
        r = mu * inverse
        q = one / (one + r)
        log = log1p(r)
        row[i], logs[i] = mu, log
        residual[i] -= mu * q
        total += log
        slope += _dispersion_slope(r, q, log, small)
    return total, slope


@numba.njit(error_model="numpy")
def _nonzeros(
    row: Floats,
    cells: NDArray[np.int32],
    values: Floats,
    theta: float,
    residual: Floats,
    logs: Floats,
) -> tuple[float, float]:
    """What the nonzeros of a gene take from log likelihood and gradient; add to the residual."""
    log_theta, less, slope = math.log(theta), 0.0, 0.0
    for entry in range(len(cells)):
        i, x = np.uintp(cells[entry]), np.float64(values[entry])
        share = x / (theta + row[i])
        less += x * (log_theta + logs[i])
        slope += share
        residual[i] += theta * share
    return less, slope


@numba.njit(error_model="numpy")
def _rising(values: Floats, theta: float, tail: NDArray[np.float64]) -> tuple[float, float]:
    r"""Return :math:`\sum \log\Gamma(x+\theta) - \log\Gamma(\theta)` and its derivative."""
    tail[:] = 0
    total, slope = 0.0, 0.0
    for x in values:
        if x > _FEW:
            tail[_FEW] += 1
            high, d_high = _stirling(theta + x)
            low, d_low = _stirling(theta + _FEW)
            total += high - low
            slope += d_high - d_low
        else:
            tail[int(x)] += 1
    n_above = 0.0
    for k in range(_FEW - 1, -1, -1):
        n_above += tail[k + 1]
        if n_above > 0:
            total += n_above * math.log(theta + k)
            slope += n_above / (theta + k)
    return total, slope


@numba.njit(error_model="numpy")
def _stirling(z: float) -> tuple[float, float]:
    r"""Return :math:`\log\Gamma(z)`, but for its constant, and :math:`\psi(z)`, for z > 32."""
    log, w = math.log(z), 1 / z
    w2 = w * w
    value = (z - 0.5) * log - z + w * (1 / 12 - w2 * (1 / 360 - w2 / 1260))
    return value, log - w / 2 - w2 * (1 / 12 - w2 * (1 / 120 - w2 / 252))


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _zero_inflated(
    rows: tuple[Floats, Floats, Floats], scale: Floats, theta: Number, logs: Floats, odds: Floats
) -> tuple[float, float]:
    """As if every count were zero: sum log p and its derivative.

    Writes mu, e, the gradient of rho, log(1 + r) and u. Several loops, as the compiler makes
    vector instructions only of those over few arrays.
    """
    mus, rho, error = rows
    one, zero = mus.dtype.type(1), mus.dtype.type(0)
    inverse, small = one / theta, _small(mus)
    for i in range(len(mus)):
        mus[i] *= scale[i]
        logs[i] = log1p(mus[i] * inverse)
    for i in range(len(mus)):
        odds[i] = rho[i] + theta * logs[i]
    total, slope = 0.0, 0.0
    for i in range(len(mus)):
        u, inflation = odds[i], rho[i]
        t, w = exp(-abs(u)), exp(-abs(inflation))
        total += max(-u, zero) - max(-inflation, zero) + log1p((t - w) / (one + w))
    for i in range(len(mus)):
        # The probability that a zero is none of inflation, and that of no inflation at all.
        error[i] = one / (one + exp(odds[i]))
        rho[i] = one / (one + exp(rho[i])) - error[i]
    for i in range(len(mus)):
        r = mus[i] * inverse
        q = one / (one + r)
        slope += error[i] * _dispersion_slope(r, q, logs[i], small)
        error[i] *= -mus[i] * q
    return total, slope


@numba.njit(error_model="numpy")
def _inflated_nonzeros(
    rows: tuple[Floats, Floats, Floats],
    cells: NDArray[np.int32],
    values: Floats,
    theta: float,
    logs: Floats,
    odds: Floats,
) -> tuple[float, float]:
    """Correct e and the gradient of rho; return what log likelihood and gradient lack."""
    mus, rho, error = rows
    one, zero, small = mus.dtype.type(1), mus.dtype.type(0), _small(mus)
    inverse = mus.dtype.type(1 / theta)
    log_theta, more, slope = math.log(theta), 0.0, 0.0
    for entry in range(len(cells)):
        i, x = np.uintp(cells[entry]), values[entry]
        mu, u, log = mus[i], odds[i], logs[i]
        t = exp(-abs(u))
        s = one / (one + t)
        yes = s if u >= zero else t * s
        r = mu * inverse
        q = one / (one + r)
        more -= np.float64(max(u, zero) + log1p(t)) + np.float64(x) * (log_theta + log)
        slope += yes * _dispersion_slope(r, q, log, small) - np.float64(x * q) / theta
        error[i] = (x - mu) * q
        rho[i] -= yes
    return more, slope


@numba.njit(error_model="numpy")
def _positive_part(
    row: Floats, cells: NDArray[np.int32], values: Floats, inverse: Number
) -> Floats:
    """Return x q of the nonzeros of a gene, given mu."""
    kept = np.empty(len(cells), row.dtype)
    for entry in range(len(cells)):
        kept[entry] = values[entry] / (1 + row[np.uintp(cells[entry])] * inverse)
    return kept


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _project_negative_binomial(row: Floats, inverse: Number, share: Floats, factor: float) -> None:
    one, c = row.dtype.type(1), row.dtype.type(factor)
    for i in range(len(row)):
        row[i] *= -c * (one / (one + row[i] * inverse) + share[i])


@numba.njit(fastmath=_SUMS)
def _project(row: Floats, error: Floats, share: Floats, factor: float) -> None:
    c = row.dtype.type(factor)
    for i in range(len(row)):
        row[i] = c * (error[i] - row[i] * share[i])
