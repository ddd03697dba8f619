"""Gene programmes: what each latent of a fitted model does to the genes, and in which cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scarce.annotate import PBMC, Markers
from scarce.data.gene_sets import read_gmt
from scarce.errors import InputError
from scarce.estimators import Cells, Estimator
from scarce.meaning.effects import Use, ablate, raw_difference, traverse, use
from scarce.meaning.enrichment import DIRECTIONS, enrich, suggest
from scarce.meaning.sparsity import hoyer

__all__ = ["Programmes", "programmes"]

Numbers = NDArray[np.float64]

_N_SIGN = 50
_GUARD = 90
_DOUBTFUL = (0.05, 0.95)


@dataclass(frozen=True)
class Programmes:
    """What every latent of one model does. J latents, G modelled genes, N cells."""

    genes: NDArray[np.str_]
    """Shape (G,)."""
    effect: Numbers
    """Shape (G, J): what is lost when the latent is switched off, in units of log-normalised
    expression or, of a model of counts, of log proportions; turned by `sign`."""
    se: Numbers
    """Shape (G, J): standard error of the effect over the cells that use the latent."""
    score: Numbers
    """Shape (G, J): effect over guarded standard error, by which genes are ranked."""
    sign: NDArray[np.int8]
    """Shape (J,): -1 where effects were turned round, so that the strongest are positive."""
    raw: Numbers
    """Shape (G, J): difference of measured expression between the same cells, turned alike."""
    traversal: NDArray[np.float32]
    """Shape (J, 5, G): the decoded mean code with the latent at -2 to 2 standard deviations."""
    latents: pd.DataFrame
    """One row per latent, see `programmes`."""
    cells: pd.DataFrame
    """One row per cell: ``hoyer`` and ``n_active``."""
    enrichment: pd.DataFrame | None
    """See `scarce.meaning.enrichment.enrich`; None without gene sets."""
    gated: bool
    """The model has gates: off is its own off."""

    def top(self, n_genes: int = 25) -> pd.DataFrame:
        """Return the genes each latent raises and lowers most.

        Parameters
        ----------
        n_genes
            At most so many in each direction, by falling size of the score.

        Returns
        -------
        One row per latent, direction and rank: ``latent``, ``name``, ``direction``, ``rank``
        (from 1), ``gene``, ``effect``, ``se``, ``score`` and ``sign``.
        """
        parts = [self._end(j, end, n_genes) for j in range(len(self.sign)) for end in DIRECTIONS]
        return pd.concat(parts, ignore_index=True)

    def _end(self, j: int, direction: str, n_genes: int) -> pd.DataFrame:
        towards = self.score[:, j] if direction == "up" else -self.score[:, j]
        rows = np.argsort(-towards, kind="stable")[:n_genes]
        rows = rows[towards[rows] > 0]
        return pd.DataFrame(
            {
                "latent": j,
                "name": self.latents["name" if direction == "up" else "opposite"].iloc[j],
                "direction": direction,
                "rank": np.arange(1, len(rows) + 1),
                "gene": self.genes[rows],
                "effect": self.effect[rows, j],
                "se": self.se[rows, j],
                "score": self.score[rows, j],
                "sign": self.sign[j],
            }
        )


def programmes(
    estimator: Estimator,
    cells: Cells,
    *,
    gmt: str | PathLike[str] | Mapping[str, Sequence[str]] | None = None,
    markers: Markers = PBMC,
    layer: str | None = None,
) -> Programmes:
    r"""Say what each latent of a fitted model means.

    Parameters
    ----------
    estimator
        Fitted model.
    cells
        As for ``transform``; better cells that the fit has not
        seen, where there are enough.
    gmt
        Gene sets to test, as a GMT file or set to genes.
    markers
        Cell type to its genes, for the suggested names.
    layer
        Layer of the AnnData to use instead of ``X``.

    Returns
    -------
    `Programmes`. Its table ``latents`` has for each latent:

    ``name``, ``p_name``, ``opposite``, ``p_opposite``
        cell type suggested for its positive and its negative end, empty without evidence;
        see `scarce.meaning.enrichment.suggest`.
    ``sign``
        -1 if the effects were turned round.
    ``switches``
        whether the latent is ever off: its gate is open in at most 95 % of the cells.
    ``n_cells``, ``share``
        cells that use it: gate open, or without gates more than one standard deviation away
        from the mean.
    ``activity``
        mean value of the latent in those cells.
    ``one_sided``
        :math:`|\bar z| / \overline{|z|}` of these cells: 1 if all use the same side, near 0 if
        the effect is a difference of opposite uses; NaN where the latent does not switch.
    ``undecided``
        share of cells whose inclusion probability is between .05 and .95; NaN without gates.
    ``agreement``
        correlation over genes between `effect` and `raw`.
    ``hoyer``
        sparsity of the effects over genes.

    Raises
    ------
    InputError
        If the cells or the gene sets have no genes in common with the fit, or it is of an
        `Ensemble`.

    Notes
    -----
    The score is :math:`D / (se + s_0)` with :math:`s_0` the 90th percentile of the latent's
    standard errors, as in Efron et al.: without it genes with a minute and therefore constant
    effect would come first. Where the decoder is linear, :math:`D / se` is the same for every
    gene, and this ranks by the effect itself.

    The standard error says how the effect varies over cells, not how sure the model is: for
    that, see `scarce.meaning.stability`.

    References
    ----------
    Efron, Tibshirani, Storey & Tusher, "Empirical Bayes analysis of a microarray
    experiment", JASA 2001.
    """
    if not isinstance(estimator, Estimator):
        kind = type(estimator).__name__
        raise InputError(
            f"programmes are those of a single model; found an object of class {kind}. Of an "
            "Ensemble, whose code has lost the members' units, pass one of members_."
        )
    sets = gmt if gmt is None or isinstance(gmt, Mapping) else read_gmt(gmt)
    used = use(estimator, cells, layer=layer)
    x = estimator.expression(cells, layer=layer)
    effect, se = ablate(estimator, used)
    sign = _sign(effect)
    effect, raw = effect * sign, raw_difference(x, used) * sign
    score = _score(effect, se)
    names = estimator.var_names_ or [str(g) for g in range(x.shape[1])]
    return Programmes(
        genes=np.array(names, dtype=str),
        effect=effect,
        se=se,
        score=score,
        sign=sign,
        raw=raw,
        traversal=traverse(estimator, used),
        latents=_latents(used, effect, raw, sign).assign(**_names(score, names, markers)),
        cells=_cells(used, cells),
        enrichment=None if sets is None else enrich(score, names, sets),
        gated=used.gamma is not None,
    )


def _sign(effect: Numbers) -> NDArray[np.int8]:
    """Return -1 for latents whose 50 strongest effects sum to less than nothing, else 1."""
    strongest = np.argsort(-np.abs(effect), axis=0, kind="stable")[:_N_SIGN]
    return np.where(np.take_along_axis(effect, strongest, 0).sum(axis=0) < 0, -1, 1).astype(np.int8)


def _score(effect: Numbers, se: Numbers) -> Numbers:
    """Divide effects by guarded standard errors; by 1 where a latent's are all zero or NaN."""
    error = np.nan_to_num(se)
    guarded = error + np.percentile(error, _GUARD, axis=0)
    return effect / np.where(guarded > 0, guarded, 1.0)


def _latents(used: Use, effect: Numbers, raw: Numbers, sign: NDArray[np.int8]) -> pd.DataFrame:
    on, shift = used.on, used.shift
    n_cells, size = on.sum(axis=0), np.abs(shift).sum(axis=0)
    one_sided = np.abs(shift.sum(axis=0)) / np.where(used.switches & (size > 0), size, np.nan)
    total = (used.z * on).sum(axis=0, dtype=np.float64)
    return pd.DataFrame(
        {
            "sign": sign,
            "switches": used.switches,
            "n_cells": n_cells,
            "share": n_cells / len(used.z),
            "activity": total / np.where(n_cells > 0, n_cells, np.nan),
            "one_sided": one_sided,
            "undecided": np.nan if used.gamma is None else _undecided(used.gamma),
            "agreement": [_correlation(*pair) for pair in zip(effect.T, raw.T, strict=True)],
            "hoyer": hoyer(effect.T),
        },
        index=pd.RangeIndex(len(sign), name="latent"),
    )


def _names(
    score: Numbers, genes: list[str], markers: Markers
) -> dict[str, list[str] | list[float]]:
    high = [suggest(column, genes, markers) for column in score.T]
    low = [suggest(-column, genes, markers) for column in score.T]
    return {
        "name": [name.cell_type for name in high],
        "p_name": [name.p for name in high],
        "opposite": [name.cell_type for name in low],
        "p_opposite": [name.p for name in low],
    }


def _cells(used: Use, cells: Cells) -> pd.DataFrame:
    """Sparsity of each code, on latents of equal spread, and how many latents are in use."""
    sd = used.z.std(axis=0, dtype=np.float64)
    scaled = (used.z - used.off) / np.where(sd > 0, sd, 1.0)
    names = cells.obs_names if isinstance(cells, AnnData) else pd.RangeIndex(len(used.z))
    active = used.on.sum(axis=1)
    return pd.DataFrame({"hoyer": hoyer(scaled), "n_active": active}, index=names)


def _undecided(gamma: NDArray[np.float32]) -> Numbers:
    low, high = _DOUBTFUL
    share: Numbers = ((gamma > low) & (gamma < high)).mean(axis=0)
    return share


def _correlation(a: Numbers, b: Numbers) -> float:
    """Pearson's correlation; NaN where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else np.nan
