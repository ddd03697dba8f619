"""Known sets of genes at the ends of a ranking: which are there, and what name they suggest.

The universe is always the genes that were modelled, never all genes there are: variable genes
are full of markers to begin with.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import false_discovery_control, hypergeom, mannwhitneyu, norm, rankdata

from scarce.errors import InputError

__all__ = ["DIRECTIONS", "Name", "enrich", "require_common", "suggest"]

DIRECTIONS = ("up", "down")
"""Ends of a ranking: genes that rise with a latent, genes that fall."""

_N_TOP = 50
_LEAST_GENES = 3
_LEAST_KNOWN = 0.5
"""Share of a type's marker genes that must be modelled, as where clusters are named."""
_LARGEST_P = 0.05


class Name(NamedTuple):
    """A cell type suggested for one end of a latent."""

    cell_type: str
    """Empty where no type's markers lie at that end."""
    p: float
    """One-sided rank sum test of the best type, times the number of types; NaN without any."""


def enrich(
    score: NDArray[np.float64],
    genes: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    *,
    n_top: int = _N_TOP,
) -> pd.DataFrame:
    """Test whether gene sets lie at the ends of rankings.

    Parameters
    ----------
    score
        What ranks the genes, shape (n_genes, n_latent); the most positive come first. A
        column without any positive or negative score is a latent without effects, and is
        left out.
    genes
        Their names, distinct: the universe.
    sets
        Set to its genes; those with fewer than three of the genes are left out.
    n_top
        Genes at either end that the hypergeometric test looks at.

    Returns
    -------
    One row for each latent, set and end of the ranking:

    ``n_genes``, ``n_top``, ``overlap``
        genes of the set that were modelled, genes at this end (with a score of its sign), and
        how many are both; ``shared`` names them.
    ``p_top``
        P(overlap or more) where the genes at the end are drawn at random (hypergeometric).
    ``auc``, ``p_auc``
        probability that a gene of the set lies nearer this end than another one, and its
        one-sided rank sum test (Mann-Whitney, normal approximation, ties and continuity
        corrected).
    ``q_top``, ``q_auc``
        these p values after Benjamini and Hochberg over all rows.

    Raises
    ------
    InputError
        If no set has three of the genes.
    """
    kept, member = _membership(genes, sets)
    used = np.flatnonzero(np.any(score != 0, axis=0))
    parts = [
        _test(score[:, j] if end == "up" else -score[:, j], member, n_top).assign(
            latent=j, set=kept, direction=end
        )
        for j in used
        for end in DIRECTIONS
    ]
    columns = ["latent", "set", "direction", "n_genes", "n_top", "overlap", "shared"]
    columns += ["p_top", "q_top", "auc", "p_auc", "q_auc"]
    if not parts:
        return pd.DataFrame(columns=columns)
    found = pd.concat(parts, ignore_index=True)
    names = np.asarray(genes, dtype=object)
    found["shared"] = [";".join(names[shared]) for shared in found["shared"]]
    for test in ("top", "auc"):
        found[f"q_{test}"] = false_discovery_control(found[f"p_{test}"])
    return found[columns]


def require_common(genes: Sequence[str], sets: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` unless some set could be tested on these genes."""
    _membership(genes, sets)


def suggest(
    score: NDArray[np.float64], genes: Sequence[str], markers: Mapping[str, Sequence[str]]
) -> Name:
    """Name the cell type whose marker genes lie nearest the positive end of a ranking.

    Parameters
    ----------
    score
        Shape (n_genes,).
    genes
        Their names.
    markers
        Cell type to its marker genes. A type fewer than half of whose genes were modelled is
        left out.

    Returns
    -------
    The type with the smallest p, if that is below 0.05 after Bonferroni over the types. It is
    a suggestion: an end of no meaning gets a name in up to one case of twenty.
    """
    place = {gene: i for i, gene in enumerate(genes)}
    found: list[tuple[float, str]] = []
    for kind, own in markers.items():
        rows = [place[gene] for gene in dict.fromkeys(own) if gene in place]
        if rows and len(rows) >= _LEAST_KNOWN * len(set(own)) and len(rows) < len(score):
            rest = np.delete(score, rows)
            test = mannwhitneyu(score[rows], rest, alternative="greater")
            found.append((float(test.pvalue), kind))
    if not found or not score.any():
        return Name("", np.nan)
    p, kind = min(found)
    p = min(1.0, p * len(found))
    return Name(kind if p < _LARGEST_P else "", p)


def _membership(
    genes: Sequence[str], sets: Mapping[str, Sequence[str]]
) -> tuple[list[str], csr_matrix]:
    """Return the sets with enough genes, and a row of ones and zeros over genes for each."""
    place = {gene: i for i, gene in enumerate(genes)}
    rows = {
        name: [place[g] for g in dict.fromkeys(own) if g in place] for name, own in sets.items()
    }
    kept = {name: own for name, own in rows.items() if len(own) >= _LEAST_GENES}
    if not kept:
        example = next((own[0] for own in sets.values() if len(own)), "none")
        raise InputError(
            f"a gene set must have at least {_LEAST_GENES} of the {len(genes)} modelled genes; "
            f"found at most {max(map(len, rows.values()), default=0)} in any of {len(sets)} sets "
            f"(the sets have {example!r}, the data {genes[0]!r}). Use the same gene names."
        )
    columns = np.concatenate([np.sort(own) for own in kept.values()]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum([len(own) for own in kept.values()])])
    member = csr_matrix((np.ones(len(columns)), columns, starts), (len(kept), len(genes)))
    return list(kept), member


def _test(score: NDArray[np.float64], member: csr_matrix, n_top: int) -> pd.DataFrame:
    """Test every set at the positive end of one ranking."""
    n_genes = len(score)
    best = np.argsort(-score, kind="stable")[:n_top]
    best = best[score[best] > 0]
    top = np.zeros(n_genes, bool)
    top[best] = True
    sizes = member.getnnz(axis=1)
    overlap = (member @ top).astype(np.int64)
    auc, p_auc = _rank_test(score, member, sizes)
    bounds = zip(member.indptr[:-1], member.indptr[1:], strict=True)
    own = [member.indices[start:end] for start, end in bounds]
    return pd.DataFrame(
        {
            "n_genes": sizes,
            "n_top": len(best),
            "overlap": overlap,
            "shared": [genes[top[genes]] for genes in own],
            "p_top": hypergeom.sf(overlap - 1, n_genes, sizes, len(best)),
            "auc": auc,
            "p_auc": p_auc,
        }
    )


def _rank_test(
    score: NDArray[np.float64], member: csr_matrix, sizes: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mann-Whitney of every set at once: AUC and one-sided p."""
    n, rest = len(score), len(score) - sizes
    ranks = rankdata(score)
    u = member @ ranks - sizes * (sizes + 1) / 2
    pairs = sizes * rest
    _, ties = np.unique(ranks, return_counts=True)
    spread = np.sqrt(pairs / 12 * (n + 1 - (ties**3 - ties).sum() / (n * (n - 1))))
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = np.where(pairs > 0, u / pairs, np.nan)
        z = np.where(spread > 0, (u - pairs / 2 - 0.5) / spread, 0.0)
    return auc, norm.sf(z)
