r"""Expected log likelihood of Poisson counts under a log link and a spike-and-slab code.

With :math:`\log\mu_{ig} = \log n_i + a_{ig} + w_g \cdot z_i`, where a is known, nothing is shared
out between genes, so that the expectation over a code of independent units,
:math:`z_j = 0` or, with probability :math:`\gamma_j`, :math:`N(m_j, s_j^2)`, is a product:

.. math::
    E_q \mu_{ig} = n_i e^{a_{ig}} \prod_j f_{igj}, \quad
    f = 1 - \gamma + \gamma e^k, \quad k = w m + \tfrac12 w^2 s^2.

The other term of the log likelihood is linear in the code, and needed at the nonzeros only. All
terms of f are positive, so that the product loses no digits. Its slopes, with
:math:`d = (e^k - 1) / f` and :math:`t = \gamma e^k / f = \gamma (1 + (1 - \gamma) d)`:

.. math::
    \partial_k \log f = t, \qquad \partial_{\mathrm{logit}\gamma} \log f = \gamma (1 - \gamma) d.

An entry of cells x genes costs an exponential and a division per unit; one such array exists.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from scarce.sparse.elementary import Number, exp

__all__ = ["BLOCK", "Units", "expected_counts"]

BLOCK = 128
"""Genes in a block, each with sums over genes of its own: three numbers per cell and unit."""
_MOST = 1e3
"""Expected counts of a gene, in libraries of the cell, are held below: a wild step must leave
numbers whose squares an optimiser can sum up in float32. The slopes go on, and lead back."""
_SUMS = {"contract", "reassoc", "nsz", "arcp"}
"""What the compiler may do: add up in several lanes at once."""

Floats = NDArray[np.floating]


class Units(NamedTuple):
    """Unit j of cell i at ``[j, i]``."""

    mu: Floats
    variance: Floats
    on: Floats
    off: Floats
    """1 - on, with all its digits."""


@numba.njit(parallel=True, cache=True)
def expected_counts(
    a: Floats,
    weight: Floats,
    units: Units,
    size: Floats,
    d_weight: Floats,
    sums: Floats,
    wanted: bool,
) -> float:
    r"""Put expected counts in the place of the logarithms `a`; return their sum.

    Parameters
    ----------
    a
        What is known of the log shares, shape (n_genes, n_cells).
    weight
        Shape (n_genes, n_latent).
    units
        The code.
    size
        n, counts of the cells.
    d_weight
        Out: the gradient of the sum, of the shape of `weight`.
    sums
        Out: gradients for mean and variance, and for the log odds but for
        :math:`\gamma (1 - \gamma)`; of each block, shape (n_blocks, n_latent, 3, n_cells).
    wanted
        Whether gradients are.
    """
    totals = np.zeros(len(sums))
    for block in numba.prange(len(sums)):
        slope = np.empty_like(units.mu)
        for gene in range(block * BLOCK, min((block + 1) * BLOCK, len(a))):
            totals[block] += _expected(a[gene], weight[gene], units, size, slope)
            if wanted:
                for j in range(len(slope)):
                    d_weight[gene, j] = _slopes(
                        a[gene], weight[gene, j], _unit(units, j), slope[j], sums[block, j]
                    )
    return float(totals.sum())


# What happens to one gene, over its cells: the loops that become vector instructions.


@numba.njit()
def _unit(units: Units, j: int) -> Units:
    return Units(units.mu[j], units.variance[j], units.on[j], units.off[j])


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _expected(row: Floats, weight: Floats, units: Units, size: Floats, slope: Floats) -> float:
    """Put expected counts in the place of logarithms, and d in `slope`; return the sum."""
    one, most = row.dtype.type(1), row.dtype.type(_MOST)
    for i in range(len(row)):
        row[i] = exp(row[i])
    for j in range(len(weight)):
        mu, variance, on, off = _unit(units, j)
        each, slopes = weight[j], slope[j]
        half = each * each / (one + one)
        for i in range(len(row)):
            e = exp(_held(each * mu[i] + half * variance[i]))
            f = off[i] + on[i] * e
            slopes[i] = (e - one) / f
            row[i] *= f
    total = 0.0
    for i in range(len(row)):
        row[i] = size[i] * min(row[i], most)
        total += np.float64(row[i])
    return total


@numba.njit()
def _held(k: Number) -> Number:
    """Keep k where the squares of e^k are finite in float32; no programme is near it."""
    return min(k, type(k)(40))


@numba.njit(fastmath=_SUMS, error_model="numpy")
def _slopes(row: Floats, weight: Number, unit: Units, slope: Floats, sums: Floats) -> Number:
    """Add what a gene says of a unit in every cell; return what the unit says of its weight."""
    mu, variance, on, off = unit
    one = row.dtype.type(1)
    half = weight * weight / (one + one)
    total = row.dtype.type(0)
    d_mu, d_variance, d_odds = sums[0], sums[1], sums[2]
    for i in range(len(row)):
        t = row[i] * on[i] * (one + off[i] * slope[i])
        total += t * (mu[i] + weight * variance[i])
        d_mu[i] += weight * t
        d_variance[i] += half * t
        d_odds[i] += row[i] * slope[i]
    return total
