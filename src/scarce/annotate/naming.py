"""Names for clusters from marker genes, and the evidence for each name."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce.annotate.markers import group_means
from scarce.data.gene_sets import read_gmt
from scarce.errors import InputError
from scarce.sparse.stats import mean_and_variance
from scarce.summary import Naming

__all__ = ["PBMC", "Markers", "name_clusters", "read_markers"]

Markers = Mapping[str, Sequence[str]]
"""Cell type to the genes that are high in it."""

PBMC: Markers = {
    "Naive CD4 T": ("IL7R", "CCR7"),
    "CD14+ Mono": ("CD14", "LYZ"),
    "Memory CD4 T": ("IL7R", "S100A4"),
    "B": ("MS4A1",),
    "CD8 T": ("CD8A",),
    "FCGR3A+ Mono": ("FCGR3A", "MS4A7"),
    "NK": ("GNLY", "NKG7"),
    "DC": ("FCER1A", "CST3"),
    "Platelet": ("PPBP",),
}
"""Human blood, as in Seurat's tutorial on PBMC3k."""

_LEAST_SCORE = 0.3
_LEAST_MARGIN = 0.02
_LEAST_DETECTED = 0.25
_LEAST_ABOVE = 0.5
_LEAST_KNOWN = 0.5
_NO_GENES = "the data have too few of the marker genes of any type: are these of its species?"

_HEADER = re.compile(r"^(cell[ _.-]?)?(type|label|name|cluster)s?$", re.IGNORECASE)
_GENE_COLUMN = re.compile(r"^(gene|marker)([ _.-]?(name|symbol))?s?$", re.IGNORECASE)


def name_clusters(
    x: csr_matrix,
    genes: Iterable[str],
    clusters: NDArray[np.int64],
    markers: Markers = PBMC,
) -> tuple[Naming, ...]:
    r"""Name each cluster after the type whose marker genes are highest in it.

    Parameters
    ----------
    x
        Log-normalised expression, cells x genes.
    genes
        Names of the columns.
    clusters
        Cluster of each cell, 0 to n_clusters - 1.
    markers
        Cell type to its genes. A type fewer than half of whose genes are in the data is left
        out.

    Returns
    -------
    One entry per cluster. Its name is ``"unknown"`` and the number of the cluster unless

    - the score of the best type is at least 0.3 and exceeds the second by at least 0.02,
    - more than half of its genes are above their mean over all cells, and
    - its genes are found in a quarter of the cluster's cells on average.

    Two clusters may get one name. The number of a cluster plays no part.

    Notes
    -----
    The score is the mean of :math:`(\bar x_{cg} - \bar x_g) / s_g` over the genes of the type:
    how many standard deviations (over cells) the cluster's mean expression lies above that of
    all cells. It compares clusters of one data set, so cells that are all of one type get no
    name. The thresholds were set on PBMC3k and on tissues without any of its types.
    """
    genes = pd.Index(genes)
    known = {kind: [g for g in dict.fromkeys(own) if g in genes] for kind, own in markers.items()}
    known = {
        kind: own
        for kind, own in known.items()
        if own and len(own) >= _LEAST_KNOWN * len(set(markers[kind]))
    }
    evidence = _evidence(x, genes, clusters, known)
    sizes = np.bincount(clusters)
    return tuple(_name(cluster, int(sizes[cluster]), evidence) for cluster in range(len(sizes)))


def read_markers(path: str | PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read marker genes of cell types from a table or a GMT file.

    Parameters
    ----------
    path
        ``.gmt``: type, description and genes, separated by tabs. Otherwise a CSV whose first
        field is the type: one gene per line, or several, in further fields or in one, apart by
        spaces or semicolons. A header is known by its first field, cell_type, type, label,
        name or cluster; of a column it calls gene or marker only that one is read.

    Raises
    ------
    InputError
        If the file is missing or holds no type with a gene.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".gmt":
        return read_gmt(path, flag="--markers")
    found: dict[str, list[str]] = {}
    try:
        for kind, genes in _csv(path.read_text(encoding="utf-8-sig").splitlines()):
            found.setdefault(kind, []).extend(genes)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"--markers must be a CSV or GMT file of cell types and genes; {path}: {error}."
        ) from error
    markers = {kind: tuple(dict.fromkeys(genes)) for kind, genes in found.items() if genes}
    if not markers:
        raise InputError(
            f"--markers must name genes for a cell type; found none in {path.name}. "
            "Write lines such as: B,MS4A1"
        )
    return markers


@dataclass(frozen=True)
class _Evidence:
    """What is known of each type in each cluster: three tables of clusters x types."""

    kinds: tuple[str, ...]
    score: NDArray[np.float64]
    above: NDArray[np.float64]
    """Share of the type's genes above their mean over all cells."""
    detected: NDArray[np.float64]
    """Share of the cluster's cells that express a gene of the type, mean over genes."""


def _evidence(
    x: csr_matrix, genes: pd.Index, clusters: NDArray[np.int64], markers: Markers
) -> _Evidence:
    wanted = pd.Index(dict.fromkeys(gene for own in markers.values() for gene in own))
    columns = genes.get_indexer(wanted)
    part = csr_matrix(x[:, columns], dtype=np.float64)
    mean, variance = mean_and_variance(part, correction=1)
    spread = np.sqrt(np.where(variance > 0, variance, np.inf))
    standardised = (group_means(part, clusters) - mean) / spread
    weights = np.zeros((len(wanted), len(markers)))
    for j, own in enumerate(markers.values()):
        weights[wanted.get_indexer(pd.Index(own)), j] = 1 / len(own)
    return _Evidence(
        kinds=tuple(markers),
        score=standardised @ weights,
        above=(standardised > 0) @ weights,
        detected=group_means(part > 0, clusters) @ weights,
    )


def _name(cluster: int, n_cells: int, evidence: _Evidence) -> Naming:
    kinds, scores = evidence.kinds, evidence.score[cluster]
    order = np.argsort(-scores, kind="stable")
    best, runner_up = [*(kinds[i] for i in order[:2]), "", ""][:2]
    score, second = [*(float(scores[i]) for i in order[:2]), np.nan, np.nan][:2]
    reason = _doubt(evidence, cluster, int(order[0]), score - second) if best else _NO_GENES
    return Naming(
        cluster=cluster,
        n_cells=n_cells,
        cell_type=f"unknown {cluster}" if reason else best,
        best=best,
        score=score,
        runner_up=runner_up,
        margin=score - second,
        reason=reason,
    )


def _doubt(evidence: _Evidence, cluster: int, kind: int, margin: float) -> str:
    """Return why the evidence for a type is too weak; empty if it is not."""
    if evidence.score[cluster, kind] < _LEAST_SCORE:
        return f"score below {_LEAST_SCORE}"
    if margin < _LEAST_MARGIN:
        return f"margin below {_LEAST_MARGIN}"
    if evidence.above[cluster, kind] <= _LEAST_ABOVE:
        return "half of its genes or more are not above their mean"
    if evidence.detected[cluster, kind] < _LEAST_DETECTED:
        return f"its genes are in less than {100 * _LEAST_DETECTED:.0f} % of the cells"
    return ""


def _csv(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    rows = [[field.strip() for field in row] for row in csv.reader(lines)]
    rows = [row for row in rows if row and row[0] and not row[0].startswith("#")]
    chosen = slice(1, None)
    if rows and _HEADER.match(rows[0][0]):
        header = rows.pop(0)
        named = [i for i, field in enumerate(header) if i and _GENE_COLUMN.match(field)]
        chosen = slice(named[0], named[0] + 1) if named else chosen
    for row in rows:
        yield row[0], [g for field in row[chosen] for g in re.split(r"[\s;,]+", field) if g]
