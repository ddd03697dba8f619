"""One experiment, from counts to scores: composes the steps and writes nothing."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scarce import __version__, check, cluster, layout, metrics, preprocess
from scarce.annotate import leiden_clusters
from scarce.data import read_labels
from scarce.errors import InputError
from scarce.estimators import BetaVSC, Estimator
from scarce.presets import MODELS, PRESETS, TITLES, Settings, build
from scarce.summary import (
    Cells,
    DataSummary,
    LabelSummary,
    ModelRun,
    Removed,
    RunSummary,
    Score,
)

__all__ = ["Result", "RunConfig", "plan", "run", "silent"]

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of so many steps; what it yields is told the step reached."""


@contextmanager
def silent(task: str, n_steps: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001
    """Show no progress."""
    yield lambda step: None


@dataclass(frozen=True)
class RunConfig:
    """Every option of a run. `resolve` fills what is None from the preset.

    Parameters
    ----------
    data
        Path or data set name.
    layer
        Where an h5ad file keeps its counts, if not in ``X``.
    labels
        Reference labels: a file by barcode, or a column of the cell table. None: clusters.
    preset
        ``"default"`` or ``"paper"``.
    models
        Among ``dae``, ``bvae``, ``bvsc``; PCA is always run beside them.
    genes
        ``"all"``, or how many variable genes to model.
    latent, beta, alpha, epochs, batch_size, lr
        Of every model that has the option.
    seed, seeds
        First seed and how many.
    qc
        Filter cells and genes.
    min_cells, min_genes, max_genes, max_mito
        See `scarce.preprocess.Thresholds`.
    """

    data: str
    layer: str | None = None
    labels: str | None = None
    preset: str = "default"
    models: tuple[str, ...] = MODELS
    genes: int | str | None = None
    latent: int | None = None
    beta: float | None = None
    alpha: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    seeds: int = 1
    qc: bool = True
    min_cells: int = 3
    min_genes: int = 200
    max_genes: float = 2500
    max_mito: float = 5.0

    def resolve(self) -> "RunConfig":
        """Return the same config with every default filled in.

        Raises
        ------
        InputError
            If an option is unknown or out of range.
        """
        check.one_of("preset", self.preset, PRESETS)
        for model in self.models:
            check.one_of("model", model, MODELS)
        for name in ("latent", "epochs"):
            if getattr(self, name) is not None:
                check.in_range(name, getattr(self, name), least=1)
        check.in_range("seeds", self.seeds, least=1)
        check.in_range("seed", self.seed, least=0)
        settings = self.settings
        return replace(
            self,
            genes=settings.genes or "all",
            latent=settings.n_latent,
            beta=settings.beta,
            alpha=settings.alpha,
            epochs=settings.training.epochs,
            batch_size=settings.training.batch_size,
            lr=settings.training.lr,
        )

    @classmethod
    def from_options(cls, options: dict[str, object]) -> "RunConfig":
        """Build from a mapping, such as a TOML file; an unknown key is an `InputError`."""
        known = [f.name for f in fields(cls)]
        for key in options:
            check.one_of("option", key, known)
        if "data" not in options:
            raise InputError("data must be given; found no path or data set name.")
        models = options.get("models", MODELS)
        return cls(**{**options, "models": tuple(models)})  # type: ignore[arg-type]

    @property
    def settings(self) -> Settings:
        """Settings of the models: the preset's, where this config gives none."""
        preset = PRESETS[self.preset]
        training = preset.training
        return replace(
            preset,
            genes=preset.genes if self.genes is None else _number_or_all(self.genes),
            n_latent=_given(self.latent, preset.n_latent),
            beta=_given(self.beta, preset.beta),
            alpha=_given(self.alpha, preset.alpha),
            training=replace(
                training,
                epochs=_given(self.epochs, training.epochs),
                batch_size=_given(self.batch_size, training.batch_size),
                lr=_given(self.lr, training.lr),
            ),
        )


Option = TypeVar("Option", int, float)


def _given(value: Option | None, default: Option) -> Option:
    return default if value is None else value


def _number_or_all(genes: int | str) -> int | None:
    """Return how many genes to model; None for all of them."""
    if genes == "all":
        return None
    if not isinstance(genes, int) or genes < 1:
        raise InputError(f"genes must be 'all' or a whole number above 0; found {genes!r}.")
    return genes


class Result(NamedTuple):
    """What a run returns."""

    adata: AnnData
    """Kept cells with codes and maps of the first seed in ``obsm``, clusters in ``obs``."""
    summary: RunSummary
    models: dict[str, Estimator]
    """Fitted models of the first seed."""


def run(adata: AnnData, config: RunConfig, *, progress: Progress = silent) -> Result:
    """Run the experiment.

    Parameters
    ----------
    adata
        Counts in ``X``, as `scarce.data.load` returns them. Not modified.
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
    source = dict(adata.uns["scarce"]["source"])
    shape_read = adata.shape
    adata, removed = _filter(adata, config, source)
    labels, label_source, from_pca = _given_labels(adata, config)
    preprocess.normalise(adata)
    preprocess.variable_genes(adata, config.settings.genes)
    if labels is None:
        labels = leiden_clusters(adata, seed=config.seed)
    counts = labels.value_counts()
    if len(counts) < 2:
        raise InputError(
            f"labels must name at least two types; all {len(labels)} cells are "
            f"{counts.index[0]!r}. Pass another column or file."
        )
    adata.obs["cell_type"] = pd.Categorical(labels, categories=list(counts.index))

    x = csr_matrix(adata.X[:, adata.var["highly_variable"].to_numpy()])
    experiment = _Experiment(adata, x, labels.to_numpy(), len(counts), config, progress)
    for seed in range(config.seed, config.seed + config.seeds):
        for model in ("pca", *config.models):
            experiment.add(model, seed)
    summary = RunSummary(
        config=_public(config),
        data=DataSummary(
            name=source["name"],
            format=source["format"],
            sha256=source["sha256"],
            n_cells_read=shape_read[0],
            n_genes_read=shape_read[1],
            n_cells=adata.n_obs,
            n_genes=adata.n_vars,
            n_genes_modelled=x.shape[1],
            density=x.nnz / (x.shape[0] * x.shape[1]),
            notes=tuple(source["notes"]),
        ),
        removed=tuple(removed),
        labels=LabelSummary(label_source, from_pca, {str(k): int(v) for k, v in counts.items()}),
        runs=tuple(experiment.runs),
        scores=tuple(experiment.scores),
        cells=experiment.cells(),
        environment=environment(),
        warnings=tuple(_warnings(config, shape_read[0], adata.n_obs, from_pca)),
    )
    return Result(adata, summary, experiment.models)


def plan(adata: AnnData, config: RunConfig) -> list[str]:
    """Say what the data hold and what `run` would do with them, in a few lines.

    Raises
    ------
    InputError
        Where `run` would.
    """
    config = config.resolve()
    source = dict(adata.uns["scarce"]["source"])
    kept, removed = _filter(adata, config, source)
    _, label_source, _ = _given_labels(kept, config)
    genes = config.settings.genes
    n_modelled = kept.n_vars if genes is None else min(genes, kept.n_vars)
    training = config.settings.training
    return [
        f"{source['name']} ({source['format']}): {_shape(adata)}, {adata.X.nnz:,} nonzeros",
        *(f"note: {note}" for note in source["notes"]),
        f"cell table: {', '.join(map(str, adata.obs)) or 'no columns'}",
        *(f"would remove: {r.n_cells or r.n_genes:,} {r.rule}" for r in removed),
        f"would keep: {_shape(kept)}; model {n_modelled:,} genes",
        f"labels: {label_source}",
        f"would train: {', '.join(TITLES[m] for m in config.models)} beside PCA",
        f"preset: {config.preset}, {config.latent} latents, {config.seeds} seed(s)",
        f"training: at most {training.epochs} epochs, batches of {training.batch_size}",
    ]


def _shape(adata: AnnData) -> str:
    return f"{adata.n_obs:,} cells x {adata.n_vars:,} genes"


class _Experiment:
    """Runs of models on one matrix, and what is kept of them.

    Every run is scored; maps, codes and weights are kept for the first seed only.
    """

    def __init__(
        self,
        adata: AnnData,
        x: csr_matrix,
        labels: NDArray[np.str_],
        n_clusters: int,
        config: RunConfig,
        progress: Progress,
    ) -> None:
        self.adata = adata
        self.x = x
        self.labels = labels
        self.n_clusters = n_clusters
        self.config = config
        self.progress = progress
        self.runs: list[ModelRun] = []
        self.scores: list[Score] = []
        self.models: dict[str, Estimator] = {}
        self._tsne2d: dict[str, NDArray[np.float64]] = {}
        self._tsne3d: dict[str, NDArray[np.float64]] = {}
        self._kmeans: dict[str, cluster.Clusters] = {}

    def add(self, model: str, seed: int) -> None:
        """Fit one model with one seed, map, cluster and score its code."""
        first = seed == self.config.seed
        z = self._pca(seed) if model == "pca" else self._fit(model, seed)
        near = layout.neighbourhood(z, seed=seed)
        with self.progress(f"{TITLES[model]}: 2-D map, seed {seed}", 1):
            tsne2d = layout.tsne(near, 2, seed=seed)
        in_latent = self._score(model, seed, "latent", z)
        on_map = self._score(model, seed, "tsne2d", tsne2d)
        if not first:
            return
        with self.progress(f"{TITLES[model]}: 3-D map", 1):
            tsne3d = layout.tsne(near, 3, seed=seed)
        self._tsne2d[model], self._tsne3d[model], self._kmeans[model] = tsne2d, tsne3d, on_map
        for key, points in (("X", z), ("X_tsne", tsne2d), ("X_tsne3d", tsne3d)):
            self.adata.obsm[f"{key}_{model}"] = points
        for space, found in {"latent": in_latent, "tsne2d": on_map}.items():
            names = pd.Index([str(k) for k in range(len(found.centroids))])
            clusters = pd.Categorical.from_codes(found.labels, names)
            self.adata.obs[f"kmeans_{space}_{model}"] = clusters

    def cells(self) -> Cells:
        """What is drawn."""
        return Cells(
            barcodes=self.adata.obs_names.to_numpy(dtype=str),
            labels=self.labels.astype(str),
            tsne2d=self._tsne2d,
            tsne3d=self._tsne3d,
            kmeans={model: found.labels for model, found in self._kmeans.items()},
            centroids={model: found.centroids for model, found in self._kmeans.items()},
        )

    def _pca(self, seed: int) -> NDArray[np.float64]:
        start = time.perf_counter()
        n = self.config.settings.n_latent
        z = preprocess.pca(self.x, n, seed=seed)
        seconds = time.perf_counter() - start
        run = ModelRun("pca", TITLES["pca"], seed, seconds, 0, n * self.x.shape[1], "", {})
        self.runs.append(run)
        return z

    def _fit(self, model: str, seed: int) -> NDArray[np.float32]:
        estimator = build(model, self.config.settings, seed=seed)
        genes = self.adata[:, self.adata.var["highly_variable"].to_numpy()]
        title = f"{TITLES[model]}: training, seed {seed}"
        with self.progress(title, estimator.training.epochs) as on_epoch:
            estimator.fit(genes, on_epoch=on_epoch)
        history = estimator.history_
        self.runs.append(
            ModelRun(
                model=model,
                title=TITLES[model],
                seed=seed,
                seconds=history.seconds,
                epochs=history.epochs,
                n_parameters=estimator.n_parameters_,
                path=estimator.path_,
                settings=estimator.options,
                history={name: tuple(losses) for name, losses in history.losses.items()},
            )
        )
        if seed == self.config.seed:
            self.models[model] = estimator
            if isinstance(estimator, BetaVSC):
                self.adata.obsm[f"X_{model}_pip"] = estimator.inclusion_probabilities(genes)
        return estimator.transform(genes)

    def _score(
        self, model: str, seed: int, space: str, z: NDArray[np.floating]
    ) -> cluster.Clusters:
        found = cluster.kmeans(z, self.n_clusters, seed=seed)
        agreement = metrics.agreement(self.labels, found.labels)
        silhouette = metrics.silhouette(z, self.labels, seed=seed)
        self.scores.append(
            Score(
                model=model,
                seed=seed,
                space=space,
                n_clusters=len(found.centroids),
                silhouette=silhouette,
                **agreement,
            )
        )
        return found


def _filter(
    adata: AnnData, config: RunConfig, source: dict[str, object]
) -> tuple[AnnData, list[Removed]]:
    if not config.qc or source.get("filtered"):
        return adata.copy(), []
    return preprocess.quality_control(
        adata,
        preprocess.Thresholds(
            config.min_cells, config.min_genes, config.max_genes, config.max_mito
        ),
    )


def _given_labels(adata: AnnData, config: RunConfig) -> tuple[pd.Series | None, str, bool]:
    """Labels the user gave, the phrase that names their source, and whether PCA made them."""
    if config.labels is None:
        return None, "labels derived from PCA (Leiden clusters of the neighbour graph)", True
    if Path(config.labels).is_file():
        labels, column = read_labels(config.labels, adata.obs_names)
        return labels, f"column {column!r} of {Path(config.labels).name}", False
    if config.labels in adata.obs:
        column = config.labels
        labels = check.labels(adata.obs[column], adata.obs_names, source=f"column {column!r}")
        return labels, f"column {column!r} of the cell table", False
    raise InputError(
        f"--labels must be a file or a column of the cell table; found neither for "
        f"{config.labels!r}. Columns: {', '.join(map(repr, adata.obs)) or 'none'}."
    )


def _public(config: RunConfig) -> dict[str, object]:
    """The config without folders of the user's machine."""
    options = asdict(config)
    for name in ("data", "labels"):
        if options[name] is not None:
            options[name] = Path(options[name]).name
    return options


def _warnings(config: RunConfig, n_read: int, n_kept: int, from_pca: bool) -> Iterable[str]:
    if from_pca:
        yield "The labels were derived from PCA, so every score favours PCA."
    if config.seeds == 1:
        yield "One seed: differences of a few hundredths between models mean nothing."
    if n_kept < n_read / 2:
        yield f"Quality control kept {n_kept} of {n_read} cells; check its limits."


def environment() -> dict[str, str]:
    """Versions, machine and numerical settings: what can change the last digits of a result."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "opentsne", "scanpy", "anndata")
    return {
        "scarce": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }
