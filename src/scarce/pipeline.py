"""One experiment, from counts to scores: composes the steps and writes nothing."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scarce import check, exhibit, layout, preprocess
from scarce.annotate import PBMC, RESOLUTION, Annotation, Markers, annotate, dots, marker_genes
from scarce.config import RunConfig
from scarce.covariates import check_covariates
from scarce.data.gene_sets import GeneSets, read_gmt
from scarce.data.labels import from_components, likely_column, read_labels
from scarce.data.source import describe, sha256_of_counts
from scarce.environment import environment
from scarce.errors import InputError
from scarce.estimators import Ensemble, Estimator
from scarce.meaning import account, programmes, stability, store
from scarce.meaning.effects import ablate, use
from scarce.meaning.enrichment import require_common
from scarce.presets import TITLES
from scarce.sampling import keep_shares
from scarce.summary import (
    Cells,
    CodeSummary,
    DataSummary,
    LabelSummary,
    Marker,
    ModelRun,
    Programme,
    Removed,
    RunSummary,
    Score,
)
from scarce.trial import Progress, Trial, silent, trial

__all__ = ["Result", "plan", "reference", "run"]


_MOST_KEPT = 0.95
"""Share of the cells below which a run says that quality control removed many."""
_MADE_FROM_PCA = (
    "labels derived from PCA (clusters of shared neighbours at resolution "
    f"{RESOLUTION:g}, named by marker genes of human blood)"
)


class Result(NamedTuple):
    """What a run returns."""

    adata: AnnData
    """Kept cells with codes and maps of the first seed in ``obsm``, clusters in ``obs``."""
    summary: RunSummary
    models: dict[str, Estimator | Ensemble]
    """Fitted models of the first seed."""
    enrichment: pd.DataFrame | None = None
    """Every gene set in every latent of them; None without gene sets."""


def run(adata: AnnData, config: RunConfig, *, progress: Progress = silent) -> Result:
    """Run the experiment.

    Parameters
    ----------
    adata
        Counts in ``X``, as `scarce.data.load` returns them, or of your own. Not modified.
    config
        The options.
    progress
        Opens a progress bar for each long step.

    Raises
    ------
    InputError
        If the options or the data are wrong; raised before anything is trained.
    """
    config = config.resolve()
    sets = None if config.gmt is None else read_gmt(config.gmt)
    kept, removed, source, labels, _ = _prepare(adata, config)
    note = preprocess.variable_genes(kept, config.settings.genes, config.batch)
    if labels is None:
        labels = _made_labels(kept, config.seed)
    counts = _type_counts(labels)
    types = pd.Categorical(labels.types, categories=list(counts.index))
    if config.labels == "cell_type":
        kept.obs["cell_type"] = types
    else:
        preprocess.add_column(kept.obs, "cell_type", types)
    notes = dict.fromkeys([*source["notes"], note, labels.note, *_kept_columns(adata, kept)])
    source["notes"] = [text for text in notes if text]

    cells = kept[:, kept.var["highly_variable"].to_numpy()].copy()
    if sets is not None:
        require_common(list(cells.var_names), sets)
    groups = labels.types.to_numpy(dtype=str)
    trials = _try_all(cells, groups, config, progress)
    found, codes, enrichment = _interpret(kept, cells, trials, sets)
    markers = marker_genes(kept, groups, seed=config.seed)
    summary = RunSummary(
        config=_public(config),
        data=_describe(source, adata.shape, kept, cells),
        removed=tuple(removed),
        labels=_describe_labels(labels, counts),
        runs=tuple(trials.runs),
        scores=tuple(trials.scores),
        cells=_annotate(kept, cells, trials.first, markers, progress),
        environment=environment(),
        warnings=tuple(_warnings(config, adata, kept, labels, trials.runs)),
        markers=markers,
        dots=dots(kept, groups, markers),
        programmes=found,
        codes=codes,
    )
    models = {name: done.model for name, done in trials.first.items() if done.model}
    return Result(kept, summary, models, enrichment)


def reference(
    adata: AnnData,
    config: RunConfig,
    *,
    markers: Markers = PBMC,
    resolution: float | None = None,
) -> tuple[AnnData, Annotation]:
    """Make labels for data that have none, as `run` does.

    Parameters
    ----------
    adata
        Counts in ``X``, as `scarce.data.load` returns them. Not modified.
    config
        Says how to filter, and the seed.
    markers, resolution
        See `scarce.annotate.annotate`.

    Returns
    -------
    The cells that were kept, log-normalised, and their clusters and names.
    """
    adata, source = _taken_in(adata)
    kept, _ = _filter(adata, config.resolve(), source)
    preprocess.normalise(kept)
    return kept, annotate(kept, markers=markers, resolution=resolution, seed=config.seed)


class _Labels(NamedTuple):
    """The reference type of every cell."""

    types: pd.Series
    source: str
    """One phrase."""
    made: Annotation | None = None
    """The clusters they name; None for labels the user gave."""

    @property
    def note(self) -> str | None:
        return self.made.note if self.made else None

    @property
    def from_pca(self) -> bool:
        return self.made is not None or from_components(self.source)


class _Prepared(NamedTuple):
    """Cells that were kept, and what is known of them before anything is trained."""

    kept: AnnData
    """Log-normalised."""
    removed: list[Removed]
    source: dict[str, Any]
    """Name, format, digest and notes, see `scarce.data.source`."""
    labels: _Labels | None
    """None where they must be made."""
    n_nonzeros: int
    """Of the cells as they were given."""


def _prepare(adata: AnnData, config: RunConfig) -> _Prepared:
    """Check all that can be wrong with the data, as early as it shows, and normalise."""
    adata, source = _taken_in(adata)
    n_nonzeros = adata.X.nnz
    kept, removed = _filter(adata, config, source)
    if kept.n_vars < 2:
        raise InputError("cells must have at least two genes to model; found one.")
    labels = _given_labels(kept, config)
    preprocess.normalise(kept)
    # The columns named here hold labels later on.
    taken = (config.labels, "cell_type", "reference_cluster")
    check_covariates(kept.obs, config.batch, config.covariates, not_among=taken)
    return _Prepared(kept, removed, source, labels, n_nonzeros)


def _taken_in(adata: AnnData) -> tuple[AnnData, dict[str, Any]]:
    """Return the cells with checked counts in ``X``, and where they come from."""
    x = check.counts(adata.X, adata.obs_names, adata.var_names)
    advice = "Call adata.var_names_make_unique() first."
    check.no_repeats("names of genes", adata.var_names, advice=advice)
    known = adata.uns.get("scarce", {})
    if "source" not in known:
        known = describe("AnnData", "in memory", sha256_of_counts(x), [])
    tables = {"obs": adata.obs, "var": adata.var, "obsm": adata.obsm, "varm": adata.varm}
    return AnnData(x, **tables), dict(known["source"])


def _kept_columns(adata: AnnData, kept: AnnData) -> Iterable[str]:
    """Yield a note for each column of the cell table that was given another name."""
    for name in adata.obs:
        if preprocess.own(name) in set(kept.obs) - set(adata.obs):
            yield f"The file's own column {name!r} is kept as {preprocess.own(name)!r}."


def _made_labels(adata: AnnData, seed: int) -> _Labels:
    """Cluster the cells, keep the clusters with them, and name them."""
    made = annotate(adata, seed=seed)
    clusters = pd.Categorical(made.clusters.astype(str))
    preprocess.add_column(adata.obs, "reference_cluster", clusters)
    return _Labels(made.cell_types, _MADE_FROM_PCA, made)


class _Fit(NamedTuple):
    """What is compared between seeds."""

    z: NDArray[np.float32]
    effect: NDArray[np.float64]


def _fit(estimator: Estimator, cells: AnnData) -> _Fit:
    used = use(estimator, cells)
    return _Fit(used.z, ablate(estimator, used)[0])


class _Trials(NamedTuple):
    """Every model with every seed; whole fits of the first seed only, to bound the memory."""

    runs: list[ModelRun]
    scores: list[Score]
    first: dict[str, Trial]
    """Model to its trial with the first seed."""
    fits: dict[str, list[_Fit]]
    """Model to one entry per seed, where there are several."""


def _try_all(
    cells: AnnData, groups: NDArray[np.str_], config: RunConfig, progress: Progress
) -> _Trials:
    """Try PCA and the models with every seed."""
    trials = _Trials([], [], {}, {})
    for seed in range(config.seed, config.seed + config.seeds):
        for model in ("pca", *config.models):
            done = trial(
                cells, groups, model=model, settings=config.settings, seed=seed, progress=progress
            )
            trials.runs.append(done.run)
            trials.scores.extend(done.scores)
            trials.first.setdefault(model, done)
            if done.estimator is not None and config.seeds > 1:
                trials.fits.setdefault(model, []).append(_fit(done.estimator, cells))
    return trials


def _interpret(
    adata: AnnData, cells: AnnData, trials: _Trials, sets: GeneSets | None
) -> tuple[tuple[Programme, ...], tuple[CodeSummary, ...], pd.DataFrame | None]:
    """Say what the latents of the first seed mean, and keep that with the cells."""
    told: list[Programme] = []
    codes: list[CodeSummary] = []
    tests: list[pd.DataFrame] = []
    for model, done in trials.first.items():
        if done.estimator is None:
            continue
        found = programmes(done.estimator, cells, gmt=sets)
        mine = trials.fits.get(model, [])
        effects = [fit.effect for fit in mine]
        again = stability([fit.z for fit in mine], effects=effects) if mine else None
        store(adata, model, found, again)
        some, code = account(model, found, again)
        told.extend(some)
        codes.append(code)
        if found.enrichment is not None:
            tests.append(found.enrichment.assign(model=model))
    # A model without any unit in use has an empty table, whose columns have no types to join.
    full = [table for table in tests if len(table)] or tests[:1]
    return tuple(told), tuple(codes), pd.concat(full, ignore_index=True) if full else None


def _type_counts(labels: _Labels) -> pd.Series:
    """Count the cells of each type, largest first, or say why these labels cannot be scored."""
    n_cells, counts = len(labels.types), labels.types.value_counts()
    if labels.made and len(counts) < 2:
        raise InputError(
            f"cells without labels must fall into at least two groups; found one of {n_cells} "
            "cells. Pass --labels."
        )
    if not 2 <= len(counts) < n_cells:
        raise InputError(
            f"labels must name at least two types and fewer types than cells; found {len(counts)} "
            f"for {n_cells} cells, the first {counts.index[0]!r}. Pass another column or file, or "
            "--no-qc if quality control removed the others."
        )
    return counts


def _describe(
    source: dict[str, Any], shape_read: tuple[int, int], kept: AnnData, cells: AnnData
) -> DataSummary:
    return DataSummary(
        name=source["name"],
        format=source["format"],
        sha256=source["sha256"],
        n_cells_read=shape_read[0],
        n_genes_read=shape_read[1],
        n_cells=kept.n_obs,
        n_genes=kept.n_vars,
        n_genes_modelled=cells.n_vars,
        density=cells.X.nnz / (cells.n_obs * cells.n_vars),
        notes=tuple(source["notes"]),
    )


def _describe_labels(labels: _Labels, counts: pd.Series) -> LabelSummary:
    made = labels.made
    return LabelSummary(
        source=labels.source,
        from_pca=labels.from_pca,
        counts={str(k): int(v) for k, v in counts.items()},
        naming=made.naming if made else (),
        stability=made.stability if made else (),
        recommended=made.recommended if made else None,
    )


def _annotate(
    adata: AnnData,
    cells: AnnData,
    first: dict[str, Trial],
    markers: tuple[Marker, ...],
    progress: Progress,
) -> Cells:
    """Store codes, maps and clusters of the first seed with the cells; return what is drawn."""
    tsne3d, leiden = {}, {}
    inclusion: dict[str, NDArray[np.float32]] = {}
    for model, done in first.items():
        with progress(f"{TITLES[model]}: 3-D map", 1):
            tsne3d[model] = layout.tsne(done.neighbourhood, 3, seed=done.run.seed)
        leiden[model] = exhibit.leiden(done.spaces["latent"], seed=done.run.seed)
        adata.obsm[f"X_{model}"] = done.spaces["latent"]
        adata.obsm[f"X_tsne_{model}"] = done.spaces["tsne2d"]
        adata.obsm[f"X_tsne3d_{model}"] = tsne3d[model]
        fit = done.estimator
        if fit is not None and fit.module_.posterior is not None:
            adata.obsm[f"X_{model}_sd"] = fit.uncertainty(cells)
        if fit is not None and fit.gated:
            inclusion[model] = fit.inclusion_probabilities(cells)
            adata.obsm[f"X_{model}_pip"] = inclusion[model]
        for space, found in done.clusters.items():
            names = pd.Index([str(k) for k in range(len(found.centroids))])
            clusters = pd.Categorical.from_codes(found.labels, names)
            adata.obs[f"kmeans_{space}_{model}"] = clusters
        adata.obs[f"leiden_latent_{model}"] = pd.Categorical(leiden[model].astype(str))
    labels = adata.obs["cell_type"].to_numpy(dtype=str)
    drawn = keep_shares(labels, exhibit.MOST_DRAWN)
    return Cells(
        barcodes=adata.obs_names.to_numpy(dtype=str),
        labels=labels,
        tsne2d={model: np.asarray(t.spaces["tsne2d"], np.float64) for model, t in first.items()},
        tsne3d=tsne3d,
        kmeans={model: t.clusters["tsne2d"].labels for model, t in first.items()},
        centroids={model: t.clusters["tsne2d"].centroids for model, t in first.items()},
        drawn=drawn,
        leiden=leiden,
        latents={model: np.asarray(t.spaces["latent"], np.float64) for model, t in first.items()},
        inclusion={model: np.asarray(p, np.float64) for model, p in inclusion.items()},
        quality=exhibit.quality(adata),
        expression=exhibit.expression(adata, drawn, markers),
    )


def plan(adata: AnnData, config: RunConfig) -> list[str]:
    """Say what the data hold and what `run` would do with them, in a few lines.

    Raises
    ------
    InputError
        Where `run` would.
    """
    config = config.resolve()
    if config.gmt is not None:
        read_gmt(config.gmt)
    kept, removed, source, labels, n_nonzeros = _prepare(adata, config)
    if labels is not None:
        _type_counts(labels)
    genes = config.settings.genes
    n_modelled = kept.n_vars if genes is None else min(genes, kept.n_vars)
    training = config.settings.training
    told = [*filter(None, [config.batch]), *config.covariates]
    return [
        f"{source['name']} ({source['format']}): {_shape(adata)}, {n_nonzeros:,} nonzeros",
        *(f"note: {note}" for note in source["notes"]),
        f"cell table: {', '.join(map(str, adata.obs)) or 'no columns'}",
        *(f"would remove: {r.n_cells or r.n_genes:,} {r.rule}" for r in removed),
        f"would keep: {_shape(kept)}; model {n_modelled:,} genes",
        f"labels: {labels.source if labels else _MADE_FROM_PCA}",
        f"would train: {', '.join(TITLES[m] for m in config.models)} beside PCA",
        f"preset: {config.preset}, {config.latent} latents, {config.seeds} seed(s)",
        f"likelihood: {config.likelihood}",
        f"training: at most {training.epochs} epochs, batches of {training.batch_size}",
        *([f"told of: {', '.join(told)}"] if told else []),
    ]


def _shape(adata: AnnData) -> str:
    return f"{adata.n_obs:,} cells x {adata.n_vars:,} genes"


def _filter(
    adata: AnnData, config: RunConfig, source: dict[str, Any]
) -> tuple[AnnData, list[Removed]]:
    """Apply quality control unless it is off, and note in `source` why it is."""
    if source["filtered"] or not config.qc:
        why = "these data come filtered" if source["filtered"] else "the user asked for it"
        source["notes"] = [*source["notes"], f"Quality control was off: {why}."]
        return adata.copy(), []
    thresholds = preprocess.Thresholds(
        config.min_cells, config.min_genes, config.max_genes, config.max_mito
    )
    return preprocess.quality_control(adata, thresholds)


def _given_labels(adata: AnnData, config: RunConfig) -> _Labels | None:
    """Labels the user gave, if any."""
    if config.labels is None:
        return None
    path = Path(config.labels).expanduser()
    if path.is_file():
        return _Labels(*read_labels(path, adata.obs_names))
    if config.labels in adata.obs:
        source = f"column {config.labels!r}"
        types = check.labels(adata.obs[config.labels], adata.obs_names, source=source)
        return _Labels(types, f"{source} of the cell table")
    raise InputError(
        f"--labels must be a file or a column of the cell table; found neither for "
        f"{config.labels!r}. Columns: {', '.join(map(repr, adata.obs)) or 'none'}."
    )


def _public(config: RunConfig) -> dict[str, object]:
    """The config without folders of the user's machine."""
    options = asdict(config)
    for name in ("data", "labels", "gmt"):
        if options[name] is not None:
            options[name] = Path(options[name]).name
    return options


def _warnings(
    config: RunConfig, adata: AnnData, kept: AnnData, labels: _Labels, runs: Iterable[ModelRun]
) -> Iterable[str]:
    if labels.from_pca:
        yield "The labels were derived from PCA, so every score favours PCA."
    else:
        yield "If the labels were found by clustering principal components, scores favour PCA."
    columns = [str(name) for name in adata.obs]
    if labels.made and (unused := likely_column(columns)) is not None:
        yield f"There are labels to score against: pass --labels {columns[unused]}."
    if config.seeds == 1:
        yield "One seed: differences of a few hundredths between models mean nothing."
    if kept.n_obs < _MOST_KEPT * adata.n_obs:
        lost = _lost_types(adata, labels, config)
        yield (
            f"Quality control removed {adata.n_obs - kept.n_obs} of {adata.n_obs} cells"
            f"{f', all of {lost} among them' if lost else ''}; see its limits, --max-genes and "
            "--max-mito, which suit blood."
        )
    for run in runs:
        size = run.settings.get("n_latent", config.latent)
        if run.model == "pca" and size != config.latent:
            yield (
                f"PCA has {size} components and the models {config.latent} latents: there must be "
                "more cells and more genes than components."
            )
        yield from (f"{run.title}, seed {run.seed}: {note}." for note in run.notes)


def _lost_types(adata: AnnData, labels: _Labels, config: RunConfig) -> str:
    """Return the types of the cell table of which no cell is left, with commas between them."""
    if config.labels not in adata.obs:
        return ""
    types = adata.obs[config.labels].dropna().astype(str).unique()
    return ", ".join(sorted(set(types) - set(labels.types)))
