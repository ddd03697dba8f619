"""What a run did and found: plain data, the only thing the report is rendered from.

Nothing here computes, and nothing here imports torch or anndata, so that a report can be
rendered again without either.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

__all__ = [
    "Cells",
    "CodeSummary",
    "DataSummary",
    "Dots",
    "EnrichedSet",
    "Expression",
    "GeneEffect",
    "LabelSummary",
    "Marker",
    "ModelRun",
    "Naming",
    "Programme",
    "Removed",
    "RunSummary",
    "Score",
    "Stability",
]


@dataclass(frozen=True)
class DataSummary:
    """The table that was read, and what was left of it."""

    name: str
    """File name or data set name; never a folder of the user's machine."""
    format: str
    """How the file was read, such as ``"10x mtx folder"``."""
    sha256: str
    """Digest of the input's bytes."""
    n_cells_read: int
    n_genes_read: int
    n_cells: int
    """Cells after quality control."""
    n_genes: int
    """Genes after quality control."""
    n_genes_modelled: int
    """Genes the models see: all of `n_genes`, or the most variable ones."""
    density: float
    """Share of nonzero entries among the modelled genes."""
    notes: tuple[str, ...] = ()
    """What was detected or assumed, one sentence each."""


@dataclass(frozen=True)
class Removed:
    """Cells or genes that one rule of quality control took away."""

    rule: str
    """What was removed, such as ``"genes in fewer than 3 cells"``."""
    n_cells: int
    n_genes: int


@dataclass(frozen=True)
class Naming:
    """Why a cluster is called what it is called."""

    cluster: int
    n_cells: int
    cell_type: str
    """The best type, or ``"unknown"`` and the number of the cluster."""
    best: str
    """The type with the highest score, whether or not that was enough; empty without any."""
    score: float
    runner_up: str
    """The type with the second highest score; empty without any."""
    margin: float
    """By how much the best score exceeds the second."""
    reason: str
    """Why the best type was not taken; empty if it was."""


@dataclass(frozen=True)
class Stability:
    """How well clusters at one resolution come back."""

    resolution: float
    n_clusters: int
    restarts: float
    """Mean adjusted Rand index between the best start and the others."""
    subsamples: float
    """Mean adjusted Rand index between all cells and random parts of them."""


@dataclass(frozen=True)
class LabelSummary:
    """Where the reference labels come from."""

    source: str
    """One phrase, printed beside every score."""
    from_pca: bool
    """Labels were derived from principal components, so scores favour PCA."""
    counts: dict[str, int]
    """Cells per label, in order of decreasing size."""
    naming: tuple[Naming, ...] = ()
    """Evidence for the name of each cluster, where clusters were made."""
    stability: tuple[Stability, ...] = ()
    """Resolutions that were tried, where clusters were made."""
    recommended: float | None = None
    """The resolution that `stability` speaks for."""


@dataclass(frozen=True)
class Marker:
    """A gene that sets one group of cells apart from all others."""

    group: str
    gene: str
    score: float
    """Standardised rank sum of Wilcoxon's test; larger is higher in the group."""
    log2_fold_change: float
    p_adjusted: float
    """By Benjamini and Hochberg over the genes."""
    fraction_in: float
    """Share of the group's cells that express the gene."""
    fraction_out: float
    """Share of all other cells."""


@dataclass(frozen=True)
class Dots:
    """Expression of the top marker genes in each group, for a dot plot."""

    groups: tuple[str, ...]
    genes: tuple[str, ...]
    fraction: NDArray[np.float64]
    """Share of the group's cells that express the gene, (n_groups, n_genes)."""
    mean: NDArray[np.float64]
    """Mean log-normalised expression, (n_groups, n_genes)."""


@dataclass(frozen=True)
class ModelRun:
    """One fit of one model with one seed."""

    model: str
    """Short name: a key of `scarce.presets.TITLES`, such as ``pca`` or ``bvae``."""
    title: str
    """Name for people, such as ``"β-VAE"``."""
    seed: int
    seconds: float
    """Of the fit and of coding all cells."""
    epochs: int
    n_parameters: int
    path: str
    """``"sparse"`` or ``"dense"`` arithmetic; empty for PCA."""
    settings: dict[str, object]
    """Every hyper-parameter, defaults resolved."""
    numerics: dict[str, object] = field(default_factory=dict)
    """Threads and library of matrix products it was fitted with; empty for PCA."""
    history: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Loss per cell after each epoch: ``train``, ``held_out`` and every term of the loss."""
    peak_mb: float = float("nan")
    """Resident memory of the process at most during the fit, its data and libraries included, in
    10^6 bytes; a cost as `seconds` is, different from run to run."""
    notes: tuple[str, ...] = ()
    """What changed the course of training, and units of the code that are not used."""


@dataclass(frozen=True)
class Score:
    """Agreement of one clustering with the reference labels, in one space."""

    model: str
    seed: int
    space: str
    """``"latent"`` or ``"tsne2d"``."""
    n_clusters: int
    nmi: float
    ari: float
    homogeneity: float
    completeness: float
    silhouette: float
    """Mean silhouette of the reference labels in this space."""


@dataclass(frozen=True)
class Expression:
    """Counts of the genes worth looking at, in the cells that are drawn."""

    genes: NDArray[np.str_]
    """Names, those to keep first where room is short; shape (n_genes,)."""
    counts: csc_matrix
    """Whole numbers, shape (n_drawn, n_genes), row indices sorted."""


@dataclass(frozen=True)
class Cells:
    """Per-cell results of the first seed, for drawing. All arrays share their first axis."""

    barcodes: NDArray[np.str_]
    labels: NDArray[np.str_]
    """Reference label of each cell."""
    tsne2d: dict[str, NDArray[np.float64]]
    """Model name to an (n_cells, 2) map."""
    tsne3d: dict[str, NDArray[np.float64]]
    """Model name to an (n_cells, 3) map."""
    kmeans: dict[str, NDArray[np.int64]]
    """Model name to k-means clusters of the 2-D map, 0-based, shape (n_cells,)."""
    centroids: dict[str, NDArray[np.float64]]
    """Model name to the (n_clusters, 2) centroids of those clusters."""
    drawn: NDArray[np.int64] | None = None
    """Sorted indices of the cells that figures show; None for all of them."""
    leiden: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Model name to Leiden clusters of the latent space, 0-based, shape (n_cells,)."""
    latents: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Model name to codes, shape (n_cells, n_latent)."""
    inclusion: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Model name to the probability that a latent is not exactly zero, (n_cells, n_latent)."""
    quality: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Name to a number per cell: ``counts``, ``genes``, ``mitochondrial %``."""
    expression: Expression | None = None
    """Of the cells in `drawn`; None where it was not kept."""


@dataclass(frozen=True)
class GeneEffect:
    """What a latent does to one gene."""

    gene: str
    effect: float
    """What is lost when the latent is switched off, times the sign; units of `ablate`."""
    se: float
    """Standard error over the cells that use the latent."""
    score: float
    """What genes are ranked by: effect over guarded standard error."""


@dataclass(frozen=True)
class EnrichedSet:
    """A known set of genes that lies at one end of a latent's ranking."""

    name: str
    direction: str
    """``"up"`` or ``"down"``."""
    n_genes: int
    """Of the set, among the modelled ones."""
    overlap: int
    """Of these, among the first of the ranking."""
    auc: float
    q: float
    """Of the overlap, hypergeometric, after Benjamini and Hochberg."""


@dataclass(frozen=True)
class Programme:
    """What one latent of the first fit means; see `scarce.meaning.programmes`."""

    model: str
    latent: int
    """0-based."""
    name: str
    """Cell type suggested for the positive end; empty without evidence."""
    opposite: str
    """The same for the negative end."""
    sign: int
    """-1 if the effects were turned round, so that the strongest are positive."""
    switches: bool
    """It is off in some cells."""
    n_cells: int
    """Cells that use it."""
    share: float
    one_sided: float
    undecided: float
    agreement: float
    """Correlation of the effects with differences of measured expression."""
    hoyer: float
    """Sparsity of the effects over genes."""
    reproducibility: float
    """Median correlation with its partner in the other fits; not a number with one fit."""
    cosine: float
    """The same of its effects."""
    up: tuple[GeneEffect, ...]
    """Genes it raises most."""
    down: tuple[GeneEffect, ...]
    """Genes it lowers most."""
    sets: tuple[EnrichedSet, ...] = ()
    """Gene sets with the smallest q, where sets were given."""


@dataclass(frozen=True)
class CodeSummary:
    """How the code of one model is used, over all its latents."""

    model: str
    gated: bool
    """Its units can be off."""
    hoyer: float
    """Mean sparsity of a cell's code."""
    n_active: float
    """Mean number of latents a cell uses."""
    undecided: float
    """Share of inclusion probabilities between .05 and .95; not a number without gates."""
    n_fits: int
    matched: float = float("nan")
    """Mean absolute correlation of matched latents over pairs of fits."""
    random: float = float("nan")
    """The same of random matchings."""


@dataclass(frozen=True)
class RunSummary:
    """Everything the report shows."""

    config: dict[str, object]
    """The resolved `RunConfig`."""
    data: DataSummary
    removed: tuple[Removed, ...]
    labels: LabelSummary
    runs: tuple[ModelRun, ...]
    scores: tuple[Score, ...]
    cells: Cells
    environment: dict[str, str]
    """Versions, processor, threads and numerical settings."""
    warnings: tuple[str, ...] = ()
    """What a reader should know before believing a number."""
    markers: tuple[Marker, ...] = ()
    """Top marker genes of each label."""
    dots: Dots | None = None
    """Expression of the first few of them."""
    programmes: tuple[Programme, ...] = ()
    """Of the first fit of every model that has a code of its own."""
    codes: tuple[CodeSummary, ...] = ()
    """One for each of these models."""
