"""Whether latents come back when a model is fitted again with another seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from scarce.errors import InputError
from scarce.estimators import Cells, Estimator
from scarce.meaning.effects import ablate, use

__all__ = ["Reproducibility", "stability"]

Numbers = NDArray[np.float64]

_N_RANDOM = 1000


@dataclass(frozen=True)
class Reproducibility:
    """How well the latents of several fits pair up."""

    latents: pd.DataFrame
    """One row per fit and latent: ``fit``, ``latent``, ``reproducibility`` (median over the
    other fits of the absolute correlation with its partner, 0 without one) and ``cosine``
    (the same of effects on genes; NaN without effects)."""
    pairs: pd.DataFrame
    """One row per pair of fits ``first`` < ``second``: ``matched``, the mean absolute
    correlation of partners, ``cosine``, and of random matchings the mean ``random`` and the
    95th percentile ``random_95`` of the same."""
    correlations: dict[tuple[int, int], Numbers]
    """Ordered pair of fits to absolute correlations, shape (J of the first, J of the second)."""
    partners: dict[tuple[int, int], NDArray[np.int64]]
    """Ordered pair of fits to the partner of each latent of the first; -1 without one."""


def stability(
    fits: Sequence[Estimator] | Sequence[NDArray[np.floating]],
    cells: Cells | None = None,
    *,
    effects: Sequence[NDArray[np.floating]] | None = None,
    layer: str | None = None,
    seed: int = 0,
) -> Reproducibility:
    r"""Match the latents of several fits by the correlation of their codes.

    Parameters
    ----------
    fits
        Fitted models, or codes of the same cells in the same order, (n_cells, n_latent) each.
    cells
        Where models are given: log-normalised expression of the cells to compare them on.
        Cells that none of them was fitted to show whether what was learned holds.
    effects
        Where codes are given: effects of their latents on genes, (n_genes, n_latent) each.
        Of models they are computed.
    layer
        Layer of the AnnData to use instead of ``X``.
    seed
        Of the random matchings.

    Raises
    ------
    InputError
        If there are fewer than two fits, their cells differ, or models come without cells.

    Notes
    -----
    For each pair of fits the matching that maximises the sum of absolute Pearson correlations
    (the Hungarian method); a latent that does not vary correlates with nothing. A random
    matching is no test of significance, as it is not chosen to be good: it shows what the
    correlation between latents alone brings.
    """
    codes, effects = _codes(fits, cells, effects, layer)
    _check(codes)
    order = range(len(codes))
    found = {(a, b): _correlations(codes[a], codes[b]) for a, b in permutations(order, 2)}
    partners = {pair: _match(c) for pair, c in found.items() if pair[0] < pair[1]}
    partners |= {(b, a): _inverse(p, codes[b].shape[1]) for (a, b), p in partners.items()}
    matched = {pair: _partnered(c, partners[pair]) for pair, c in found.items()}
    alike: dict[tuple[int, int], Numbers] = {}
    if effects is not None:
        alike = {p: _partnered(_cosines(effects[p[0]], effects[p[1]]), partners[p]) for p in found}
    generator = np.random.default_rng(seed)
    return Reproducibility(
        latents=pd.concat(
            [_of_fit(a, codes[a].shape[1], matched, alike) for a in order], ignore_index=True
        ),
        pairs=pd.DataFrame(
            [
                _of_pair(pair, found[pair], partners[pair], alike.get(pair), generator)
                for pair in sorted(found)
                if pair[0] < pair[1]
            ]
        ),
        correlations=found,
        partners=partners,
    )


def _codes(
    fits: Sequence[Estimator] | Sequence[NDArray[np.floating]],
    cells: Cells | None,
    effects: Sequence[NDArray[np.floating]] | None,
    layer: str | None,
) -> tuple[list[Numbers], Sequence[NDArray[np.floating]] | None]:
    """Return codes and effects, computed where models are given."""
    models = [fit for fit in fits if isinstance(fit, Estimator)]
    if not models and all(isinstance(fit, np.ndarray) for fit in fits):
        return [np.asarray(fit, dtype=np.float64) for fit in fits], effects
    if cells is None or len(models) < len(fits):
        raise InputError(
            "stability must be given models and cells, or codes alone; found "
            f"{len(models)} models among {len(fits)} fits, and {'no ' * (cells is None)}cells."
        )
    codes, moved = [], []
    for model in models:
        used = use(model, cells, layer=layer)
        codes.append(used.z.astype(np.float64))
        moved.append(ablate(model, used)[0])
    return codes, _of_shared_genes(models, moved)


def _of_shared_genes(models: list[Estimator], moved: list[Numbers]) -> list[Numbers]:
    """Return the effects on the genes that every fit has, in one order."""
    names = [pd.Index(model.var_names_) for model in models if model.var_names_ is not None]
    if len(names) < len(models):  # of bare matrices, whose columns are the same or do not fit
        return moved
    shared = reduce(pd.Index.intersection, names)
    if shared.empty:
        raise InputError("fits must have genes in common; found none that all of them have.")
    return [of[index.get_indexer(shared)] for index, of in zip(names, moved, strict=True)]


def _check(codes: list[Numbers]) -> None:
    if len(codes) < 2:
        raise InputError(f"stability must be given at least 2 fits; found {len(codes)}.")
    sizes = sorted({len(z) for z in codes})
    if len(sizes) > 1:
        raise InputError(
            f"fits must be compared on the same cells; found codes of {sizes[0]} and {sizes[-1]} "
            "cells. Transform the same cells with each model."
        )


def _correlations(a: Numbers, b: Numbers) -> Numbers:
    """Absolute Pearson correlations between columns."""
    return _cosines(a - a.mean(axis=0), b - b.mean(axis=0))


def _cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> Numbers:
    """Absolute cosines between columns; 0 for a column of zeros."""
    sizes = [np.linalg.norm(m.astype(np.float64), axis=0) for m in (a, b)]
    unit_a, unit_b = (
        m / np.where(size > 1e-12 * max(1.0, float(size.max())), size, np.inf)
        for m, size in zip((a, b), sizes, strict=True)
    )
    return np.abs(unit_a.T @ unit_b).clip(0, 1)


def _match(correlations: Numbers) -> NDArray[np.int64]:
    rows, columns = linear_sum_assignment(correlations, maximize=True)
    partners = np.full(len(correlations), -1)
    partners[rows] = columns
    return partners


def _inverse(partners: NDArray[np.int64], n_latent: int) -> NDArray[np.int64]:
    back = np.full(n_latent, -1)
    known = np.flatnonzero(partners >= 0)
    back[partners[known]] = known
    return back


def _partnered(table: Numbers, partners: NDArray[np.int64]) -> Numbers:
    """Return the entry of each row's partner, 0 without one."""
    return np.where(partners >= 0, table[np.arange(len(table)), partners], 0.0)


def _of_fit(
    fit: int,
    n_latent: int,
    matched: dict[tuple[int, int], Numbers],
    alike: dict[tuple[int, int], Numbers],
) -> pd.DataFrame:
    def median(values: dict[tuple[int, int], Numbers]) -> Numbers:
        mine = [v for (a, _), v in values.items() if a == fit]
        return np.median(mine, axis=0) if mine else np.full(n_latent, np.nan)

    return pd.DataFrame(
        {
            "fit": fit,
            "latent": np.arange(n_latent),
            "reproducibility": median(matched),
            "cosine": median(alike),
        }
    )


def _of_pair(
    pair: tuple[int, int],
    correlations: Numbers,
    partners: NDArray[np.int64],
    alike: Numbers | None,
    generator: np.random.Generator,
) -> dict[str, float]:
    paired = partners >= 0
    table = correlations if correlations.shape[0] <= correlations.shape[1] else correlations.T
    rows = np.arange(len(table))
    random = [
        table[rows, generator.permutation(table.shape[1])[: len(rows)]].mean()
        for _ in range(_N_RANDOM)
    ]
    return {
        "first": pair[0],
        "second": pair[1],
        "matched": float(_partnered(correlations, partners)[paired].mean()),
        "cosine": np.nan if alike is None else float(alike[paired].mean()),
        "random": float(np.mean(random)),
        "random_95": float(np.quantile(random, 0.95)),
    }
