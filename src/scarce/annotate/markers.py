"""Genes that set groups of cells apart, and how they are expressed in each group."""

import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce.summary import Dots, Marker

__all__ = ["dots", "group_means", "marker_genes"]

_MOST_CELLS = 1_000
"""Of each group, in the test: its cost is that of sorting every gene over all cells."""
_LARGEST_P = 0.05
_LEAST_FOUND = 0.25
_MOST_DRAWN = 30
_MOST_GENES = 25


def marker_genes(adata: AnnData, groups: NDArray[np.str_], *, seed: int = 0) -> tuple[Marker, ...]:
    """Return the genes that are highest in each group, by Wilcoxon's rank sum test.

    Parameters
    ----------
    adata
        Log-normalised ``X``. Not modified.
    groups
        Group of each cell, shape (n_cells,). One of a single cell gets no markers.
    seed
        Of the choice of at most 1,000 cells of each group that the test looks at.

    Returns
    -------
    At most 25 of each group, those with adjusted p below 0.05, higher in the group than in all
    other cells, by falling score; the groups in the order of `numpy.unique`. Scores, fold changes
    (base 2, of mean counts) and p values are those of scanpy's ``rank_genes_groups`` over the
    genes found in a quarter of some group's cells, as in Seurat's tutorial. The groups were found
    on the same expression that is tested here, so the p values rank genes and prove nothing.
    """
    import scanpy as sc

    names, sizes = np.unique(groups, return_counts=True)
    tested = [str(name) for name, size in zip(names, sizes, strict=True) if size > 1]
    if len(names) < 2 or not tested:
        return ()
    kept = _some_of_each(groups, seed)
    x = csr_matrix(adata.X[kept])
    codes = np.unique(groups[kept], return_inverse=True)[1]
    common = group_means(x > 0, codes).max(axis=0) >= _LEAST_FOUND
    if not common.any():
        return ()
    some = AnnData(
        X=x[:, common],
        obs=pd.DataFrame({"group": pd.Categorical(groups[kept])}, index=adata.obs_names[kept]),
        var=pd.DataFrame(index=adata.var_names[common]),
        uns={"log1p": {"base": None}},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fold change over zero, pandas' fragmented frames
        sc.tl.rank_genes_groups(some, "group", groups=tested, method="wilcoxon", pts=True)
    return tuple(marker for name in tested for marker in _top(some, name))


def dots(
    adata: AnnData, groups: NDArray[np.str_], markers: Iterable[Marker], *, n_genes: int = 3
) -> Dots | None:
    """Return how the first marker genes of every group are expressed in each of the groups.

    Parameters
    ----------
    adata
        Log-normalised ``X``.
    groups
        Group of each cell, shape (n_cells,).
    markers
        From `marker_genes`.
    n_genes
        Of each group; a gene appears once, at the first group that has it.

    Returns
    -------
    The groups by falling size, at most 30 of them; None without any marker gene.
    """
    sizes = pd.Series(groups).value_counts()
    drawn = [str(name) for name in sizes.index[:_MOST_DRAWN]]
    own: dict[str, list[str]] = {name: [] for name in drawn}
    for marker in markers:
        if marker.group in own and len(own[marker.group]) < n_genes:
            own[marker.group].append(marker.gene)
    genes = list(dict.fromkeys(gene for name in drawn for gene in own[name]))
    if not genes:
        return None
    x = csr_matrix(adata.X[:, adata.var_names.get_indexer(pd.Index(genes))])
    codes = pd.Categorical(groups, categories=list(sizes.index)).codes.astype(np.int64)
    return Dots(
        groups=tuple(drawn),
        genes=tuple(genes),
        fraction=group_means(x > 0, codes)[: len(drawn)],
        mean=group_means(x, codes)[: len(drawn)],
    )


def group_means(x: csr_matrix, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each column over the cells of each group, (n_groups, n_columns)."""
    sizes = np.bincount(groups)
    member = csr_matrix(
        (1 / sizes[groups], (groups, np.arange(len(groups)))), shape=(len(sizes), len(groups))
    )
    return (member @ x).toarray()  # type: ignore[no-any-return]


def _some_of_each(groups: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """Return the indices of at most `_MOST_CELLS` random cells of each group, sorted."""
    generator = np.random.default_rng(seed)
    kept = [
        generator.permutation(np.flatnonzero(groups == name))[:_MOST_CELLS]
        for name in np.unique(groups)
    ]
    return np.sort(np.concatenate(kept))


def _top(tested: AnnData, group: str) -> Iterable[Marker]:
    import scanpy as sc

    table = sc.get.rank_genes_groups_df(tested, group)
    chosen = table[(table["scores"] > 0) & (table["pvals_adj"] < _LARGEST_P)].head(_MOST_GENES)
    for row in chosen.itertuples(index=False):
        yield Marker(
            group=group,
            gene=str(row.names),
            score=float(row.scores),
            log2_fold_change=float(row.logfoldchanges),
            p_adjusted=float(row.pvals_adj),
            fraction_in=float(row.pct_nz_group),
            fraction_out=float(row.pct_nz_reference),
        )
