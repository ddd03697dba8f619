"""Counts with planted cell types and gene programmes, to test what a model can find.

A cell's type switches on two programmes; a programme multiplies the expression of some genes::

    rate    = base * exp(activity @ loadings.T)       relative expression of each gene
    mean    = library size * rate / sum(rate)
    counts  ~ negative binomial(mean, dispersion)     variance = mean + mean^2 / dispersion
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.sparse import csr_matrix

from scarce import check
from scarce.data.source import describe, sha256_of_counts
from scarce.errors import InputError

__all__ = ["simulate"]

_DISPERSION = 2.0
_LIBRARY = 1000.0
"""Median counts per cell, unless a density is asked for."""
_LIBRARY_SPREAD = 0.35
"""Standard deviation of log library size, as in PBMC3k after quality control."""
_BASE_SPREAD = 1.5
"""Standard deviation of log mean expression between genes."""
_PROGRAMME_SHARE = 0.06
"""Share of the genes in one programme."""
_EXTRA = 0.05
"""Probability that a cell uses a programme that is not one of its type."""

_BLOCK = 2**22
"""Entries of a cells x genes block in memory at a time: 32 MB of float64."""


@dataclass(frozen=True)
class _Truth:
    """What is planted: all that decides the expected counts."""

    cell_types: NDArray[np.int64]
    """(n_cells,)"""
    activity: NDArray[np.float64]
    """(n_cells, n_programmes), 0 where a programme is off."""
    loadings: NDArray[np.float64]
    """(n_genes, n_programmes), in natural logarithms of expression, 0 outside the programme."""
    base: NDArray[np.float64]
    """(n_genes,)"""
    library: NDArray[np.float64]
    """(n_cells,)"""


def simulate(
    n_cells: int = 2000,
    n_genes: int = 1000,
    *,
    n_types: int = 5,
    n_programmes: int = 8,
    density: float | None = None,
    seed: int = 0,
) -> AnnData:
    """Draw counts with known cell types and gene programmes.

    Memory is that of the result and of one block of cells; time is about 50 ns per entry of
    the cells x genes table on one core.

    Parameters
    ----------
    n_cells, n_genes
        Size of the table.
    n_types
        Cell types, at most the number of pairs of programmes.
    n_programmes
        Gene programmes. A type switches on a pair of them, no two types the same pair; 5 % of
        the cells use any other one as well.
    density
        Expected share of nonzero entries, reached by scaling the library size. Without it the
        median library size is 1000 counts.
    seed
        Of all random numbers: the same arguments give the same data.

    Returns
    -------
    ``X`` counts as CSR of float32; ``obs["cell_type"]``; ``obsm["programme_activity"]``
    (n_cells, n_programmes); ``varm["programme_loadings"]`` (n_genes, n_programmes).

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> adata = simulate(300, 200, n_types=3, density=0.1)
    >>> adata.shape, round(adata.X.nnz / 60_000, 2)
    ((300, 200), 0.1)
    """
    _check(n_cells, n_genes, n_types, n_programmes, density)
    check.in_range("seed", seed, least=0, whole=True)
    generator = np.random.default_rng(seed)
    truth = _plant(generator, n_cells, n_genes, n_types, n_programmes)
    scale = 1.0 if density is None else _scale_for(density, truth)
    x = _draw(truth, scale, generator)
    adata = AnnData(
        X=x,
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical([f"type {t + 1}" for t in truth.cell_types])},
            index=pd.Index([f"cell{i}" for i in range(n_cells)]),
        ),
        var=pd.DataFrame(index=pd.Index([f"gene{i}" for i in range(n_genes)])),
        obsm={"programme_activity": truth.activity.astype(np.float32)},
        varm={"programme_loadings": truth.loadings.astype(np.float32)},
    )
    note = f"Simulated with {n_types} cell types and {n_programmes} gene programmes, seed {seed}."
    about = describe("simulated", "simulation", sha256_of_counts(x), [note], filtered=True)
    adata.uns["scarce"] = about
    return adata


def _check(
    n_cells: int, n_genes: int, n_types: int, n_programmes: int, density: float | None
) -> None:
    check.in_range("n_programmes", n_programmes, least=2, whole=True)
    most = n_programmes * (n_programmes - 1) // 2
    check.in_range("n_types", n_types, least=1, most=most, whole=True)
    check.in_range("n_cells", n_cells, least=max(2, n_types), whole=True)
    check.in_range("n_genes", n_genes, least=n_programmes, whole=True)
    if density is not None:
        check.in_range("density", density, above=0, most=0.9)


def _plant(
    generator: Generator, n_cells: int, n_genes: int, n_types: int, n_programmes: int
) -> _Truth:
    pairs = generator.permutation(list(combinations(range(n_programmes), 2)))[:n_types]
    sizes = generator.dirichlet(np.full(n_types, 5.0))
    cell_types = generator.choice(n_types, size=n_cells, p=sizes)
    cell_types[:n_types] = np.arange(n_types)  # no type stays empty

    on = generator.random((n_cells, n_programmes)) < _EXTRA
    np.put_along_axis(on, pairs[cell_types], values=True, axis=1)
    activity = on * generator.gamma(10.0, 0.1, size=on.shape)  # mean 1, deviation 0.32

    loadings = np.zeros((n_genes, n_programmes))
    n_chosen = max(1, round(_PROGRAMME_SHARE * n_genes))
    for programme in range(n_programmes):
        chosen = generator.choice(n_genes, size=n_chosen, replace=False)
        loadings[chosen, programme] = generator.uniform(0.5, 2.0, size=n_chosen)
    return _Truth(
        cell_types=cell_types,
        activity=activity,
        loadings=loadings,
        base=generator.lognormal(0.0, _BASE_SPREAD, size=n_genes),
        library=generator.lognormal(np.log(_LIBRARY), _LIBRARY_SPREAD, size=n_cells),
    )


def _means(truth: _Truth, cells: slice | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the expected counts of some cells, (n_cells, n_genes)."""
    mean = np.exp(truth.activity[cells] @ truth.loadings.T)
    mean *= truth.base
    mean *= (truth.library[cells] / mean.sum(axis=1))[:, None]
    return mean


def _scale_for(density: float, truth: _Truth) -> float:
    """Return the factor on the library size that gives the expected share of nonzeros.

    Found on a block of cells whose library sizes are spread like those of all.
    """
    n_cells = len(truth.library)
    n_some = min(n_cells, max(1, _BLOCK // len(truth.base)))
    ranks = ((np.arange(n_some) + 0.5) * n_cells / n_some).astype(np.int64)
    mean = _means(truth, np.argsort(truth.library)[ranks])

    def excess(log_scale: float) -> float:
        # P(count = 0) = (1 + mean / dispersion)^-dispersion
        zero = np.exp(-_DISPERSION * np.log1p(np.exp(log_scale) * mean / _DISPERSION))
        return float(1 - zero.mean() - density)

    low, high = -30.0, 30.0
    if excess(high) < 0:
        raise InputError(f"density must be within reach of the library size; found {density!r}.")
    return float(np.exp(brentq(excess, low, high, xtol=1e-4)))


def _draw(truth: _Truth, scale: float, generator: Generator) -> csr_matrix:
    """Draw the counts of all cells, a block at a time, as sparse from the start.

    A negative binomial is a Poisson number of groups, each of logarithmic size (Quenouille
    1949, Biometrics 5:162): Poisson draws find the nonzeros, and only those need more.
    """
    n_cells, n_genes = len(truth.library), len(truth.base)
    step = max(1, _BLOCK // n_genes)
    columns: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    per_cell: list[NDArray[np.int64]] = []
    for start in range(0, n_cells, step):
        mean = _means(truth, slice(start, start + step))
        mean *= scale / _DISPERSION
        groups = generator.poisson(_DISPERSION * np.log1p(mean))
        rows, genes = groups.nonzero()
        odds = mean[rows, genes]
        sizes = generator.logseries(np.repeat(odds / (1 + odds), groups[rows, genes]))
        ends = np.cumsum(groups[rows, genes])
        values.append(np.diff(np.cumsum(sizes)[ends - 1], prepend=0).astype(np.float32))
        columns.append(genes.astype(np.int32))
        per_cell.append(np.bincount(rows, minlength=len(mean)))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(per_cell))])
    indices = np.concatenate(columns)
    columns.clear()  # two copies of one array at a time, never of both
    data = np.concatenate(values)
    return csr_matrix((data, indices, starts), shape=(n_cells, n_genes))
