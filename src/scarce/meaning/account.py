"""What was found out about latents, as plain data for the report and as AnnData for everyone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scarce.meaning.enrichment import DIRECTIONS
from scarce.meaning.programme import Programmes
from scarce.meaning.seeds import Reproducibility
from scarce.summary import CodeSummary, EnrichedSet, GeneEffect, Programme

__all__ = ["account", "store"]

_N_GENES = 25
_N_SETS = 5
_LARGEST_Q = 0.05


def account(
    model: str, found: Programmes, again: Reproducibility | None
) -> tuple[tuple[Programme, ...], CodeSummary]:
    """Return what the report shows of one model.

    Parameters
    ----------
    model
        Its short name.
    found
        Programmes of the first fit.
    again
        How its latents come back in the other fits, the first of which is this one; None
        where there is no other.
    """
    pairs = None if again is None else again.pairs
    code = CodeSummary(
        model=model,
        gated=found.gated,
        hoyer=float(found.cells["hoyer"].mean()),
        n_active=float(found.cells["n_active"].mean()),
        undecided=float(found.latents["undecided"].mean()),
        n_fits=1 if pairs is None else int(pairs["second"].max()) + 1,
        matched=np.nan if pairs is None else float(pairs["matched"].mean()),
        random=np.nan if pairs is None else float(pairs["random"].mean()),
    )
    return tuple(_programmes(model, found, again)), code


def store(adata: AnnData, model: str, found: Programmes, again: Reproducibility | None) -> None:
    """Keep programmes with the cells and genes they belong to.

    Effects go to ``varm["<model>_programmes"]``, their standard errors to
    ``varm["<model>_programmes_se"]`` (n_genes, n_latent; NaN for genes that were not
    modelled), the rest to ``uns["<model>_programmes"]``.
    """
    rows = adata.var_names.get_indexer(pd.Index(found.genes))
    for key, values in (("programmes", found.effect), ("programmes_se", found.se)):
        whole = np.full((adata.n_vars, values.shape[1]), np.nan, np.float32)
        whole[rows[rows >= 0]] = values[rows >= 0]
        adata.varm[f"{model}_{key}"] = whole
    latents = found.latents.copy()
    if again is not None:
        mine = again.latents[again.latents["fit"] == 0]
        for column in ("reproducibility", "cosine"):
            latents[column] = mine[column].to_numpy()
    latents.index = latents.index.astype(str)
    adata.uns[f"{model}_programmes"] = {"latents": latents, "gated": found.gated}
    if again is not None:
        pairs = again.pairs.set_axis(again.pairs.index.astype(str))
        adata.uns[f"{model}_programmes"]["stability"] = pairs


def _programmes(
    model: str, found: Programmes, again: Reproducibility | None
) -> Iterator[Programme]:
    top = found.top(_N_GENES)
    for row in found.latents.reset_index().to_dict("records"):
        j = int(row["latent"])
        mine = top[top["latent"] == j]
        up, down = (_genes(mine[mine["direction"] == end]) for end in DIRECTIONS)
        repeated, cosine = _repeated(again, j)
        yield Programme(
            model=model,
            latent=j,
            name=str(row["name"]),
            opposite=str(row["opposite"]),
            sign=int(row["sign"]),
            switches=bool(row["switches"]),
            n_cells=int(row["n_cells"]),
            share=float(row["share"]),
            one_sided=float(row["one_sided"]),
            undecided=float(row["undecided"]),
            agreement=float(row["agreement"]),
            hoyer=float(row["hoyer"]),
            reproducibility=repeated,
            cosine=cosine,
            up=up,
            down=down,
            sets=_sets(found.enrichment, j),
        )


def _genes(rows: pd.DataFrame) -> tuple[GeneEffect, ...]:
    columns = ["gene", "effect", "se", "score"]
    return tuple(GeneEffect(*row) for row in _plain(rows[columns]))


def _sets(enrichment: pd.DataFrame | None, j: int) -> tuple[EnrichedSet, ...]:
    if enrichment is None:
        return ()
    mine = enrichment[(enrichment["latent"] == j) & (enrichment["q_top"] < _LARGEST_Q)]
    best = mine.sort_values(["q_top", "set"], kind="stable").head(_N_SETS)
    columns = ["name", "direction", "n_genes", "overlap", "auc", "q"]
    best = best.rename(columns={"set": "name", "q_top": "q"})[columns]
    return tuple(EnrichedSet(*row) for row in _plain(best))


def _plain(rows: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Yield each row as Python's own numbers and text."""
    return zip(*(rows[column].tolist() for column in rows), strict=True)


def _repeated(again: Reproducibility | None, j: int) -> tuple[float, float]:
    if again is None:
        return np.nan, np.nan
    mine = again.latents[(again.latents["fit"] == 0) & (again.latents["latent"] == j)]
    return float(mine["reproducibility"].iloc[0]), float(mine["cosine"].iloc[0])
