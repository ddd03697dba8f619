"""What a study runs: its options, and the trials they amount to."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scarce import __version__, check
from scarce.compare import ALL
from scarce.config import RunConfig
from scarce.contenders import BASELINES, PEERS, require_installed
from scarce.covariates import check_covariates
from scarce.data import DATASETS
from scarce.errors import InputError
from scarce.presets import ALL_MODELS, ENSEMBLE, MODELS, PRESETS, Settings
from scarce.study.labelled import Facts, Source, forget, load_labelled

__all__ = ["BenchmarkConfig", "Task", "TrialConfig"]


_ONCE = (ENSEMBLE, "lvsc", *PEERS)
"""Models that are no part of the course report: with the first preset only."""


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides the numbers of one trial."""

    data: Facts
    model: str
    preset: str
    settings: Settings
    seed: int
    unseen: float
    """Share of cells kept from every fit."""
    threads: int
    version: str = __version__

    @property
    def key(self) -> str:
        """Name of the trial's directory: a digest of all of the above."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Task:
    """A trial, and where its data lie on this machine."""

    config: TrialConfig
    source: Source


@dataclass(frozen=True)
class BenchmarkConfig:
    """Every option of a benchmark.

    Parameters
    ----------
    data
        Paths or data set names.
    labels
        Column of the cell table or file by barcode: one for all data sets, or one for each.
    models
        Among ``dae``, ``bvae``, ``bvsc``, ``lvsc``, ``vasc``, ``ensemble`` and, where
        scvi-tools is installed, ``scvi`` and ``ldvae``. The baselines ``pca``, ``pca_scaled``,
        ``mean`` and ``random`` always run.
    presets
        Among ``default`` and ``paper``. Baselines run at the size of each preset. What is no
        part of the course report runs with the first only; of that scvi-tools takes the size.
    seed, seeds
        First seed and how many.
    genes, latent, epochs, likelihood
        Instead of the presets' values.
    batch, covariates
        Columns of every data set's cell table, see `RunConfig`. Of the other methods only
        those of scvi-tools are told of the batch, and none of the covariates.
    layer, data_dir
        See `scarce.data.load`.
    circular
        Data sets, as given in `data`, whose labels are known to come from principal
        components. Labels called Leiden, Louvain or Seurat are taken for such anyway.
    unseen
        Share of cells kept from every fit, to score it by; drawn by the seed, the same for
        every model.
    floor
        Differences in a score smaller than this are ties: published labels, made again by
        their own recipe, agree with themselves no better.
    threads
        Of one trial, whatever machine it runs on.
    """

    data: tuple[str, ...]
    labels: tuple[str, ...]
    models: tuple[str, ...] = MODELS
    presets: tuple[str, ...] = ("default",)
    seed: int = 0
    seeds: int = 5
    genes: int | str | None = None
    latent: int | None = None
    epochs: int | None = None
    batch: str | None = None
    covariates: tuple[str, ...] = ()
    likelihood: str | None = None
    layer: str | None = None
    data_dir: str | None = None
    circular: tuple[str, ...] = ()
    unseen: float = 0.1
    floor: float = 0.02
    threads: int = 1

    def check(self) -> None:
        """Check the options, without reading any data.

        Raises
        ------
        InputError
            If one is unknown or out of range.
        """
        for name in ("data", "labels", "models", "presets", "covariates", "circular"):
            check.a_list(name, getattr(self, name))
        for model in self.models:
            check.one_of("model", model, (*BASELINES, *ALL_MODELS, ENSEMBLE, *PEERS))
            require_installed(model)
        for preset in self.presets:
            check.one_of("preset", preset, PRESETS)
        check.no_repeats("models", self.models)
        check.no_repeats("presets", self.presets)
        for data in self.circular:
            check.one_of("circular data set", data, self.data)
        check.in_range("seeds", self.seeds, least=1, whole=True)
        check.in_range("seed", self.seed, least=0, most=2**32 - self.seeds, whole=True)
        check.in_range("unseen", self.unseen, least=0, below=1)
        check.in_range("floor", self.floor, least=0)
        check.in_range("threads", self.threads, least=1, whole=True)
        if not self.data or not self.presets:
            raise InputError("a benchmark must have a data set and a preset; found none.")
        if len(self.labels) not in (1, len(self.data)):
            raise InputError(
                f"--labels must be given once, or once for each of the {len(self.data)} data "
                f"sets; found {len(self.labels)}."
            )
        for preset in self.presets:
            here = (m for m in self.models if m not in _ONCE or preset == self.presets[0])
            ours = tuple(model for model in here if model in (*ALL_MODELS, ENSEMBLE))
            replace(self.run_config(preset), models=ours).resolve()

    def run_config(self, preset: str) -> RunConfig:
        """Return the options of a run with that preset."""
        return RunConfig(
            preset=preset,
            genes=self.genes,
            latent=self.latent,
            epochs=self.epochs,
            batch=self.batch,
            covariates=self.covariates,
            likelihood=self.likelihood,
        )

    def sources(self) -> list[Source]:
        """Return where each data set lies, with absolute paths where they are paths."""
        labels = self.labels if len(self.labels) > 1 else self.labels * len(self.data)
        folder = None if self.data_dir is None else _absolute(self.data_dir, is_path=True)
        return [
            Source(
                _absolute(data, is_path=data not in DATASETS and Path(data).expanduser().exists()),
                _absolute(label, is_path=Path(label).expanduser().is_file()),
                self.layer,
                folder,
                data in self.circular,
            )
            for data, label in zip(self.data, labels, strict=True)
        ]

    def tasks(self) -> list[Task]:
        """Return every trial, those on the same data set one after the other.

        Reads all data sets, so that nothing is trained before their labels are known to hold.
        """
        self.check()
        forget()
        tasks: list[Task] = []
        for source in self.sources():
            labelled = load_labelled(source)
            facts = labelled.facts
            check_covariates(
                labelled.cells.obs, self.batch, self.covariates, not_among=[source.labels]
            )
            known = next((t.source for t in tasks if t.config.data.name == facts.name), None)
            if facts.name == ALL:
                raise InputError(
                    f"a data set must not be named {ALL!r}, as all of them together are; found "
                    f"{source.data}. Rename it."
                )
            if known is not None:
                raise InputError(
                    f"data sets must have different names; found {facts.name!r} for {known.data} "
                    f"and for {source.data}. Rename one."
                )
            tasks += [Task(config, source) for config in self._trials(facts)]
        return tasks

    def _trials(self, facts: Facts) -> list[TrialConfig]:
        blank = TrialConfig(
            facts, "", "", PRESETS["default"], 0, unseen=self.unseen, threads=self.threads
        )
        own = [m for m in self.models if m not in BASELINES]
        return [
            replace(blank, model=model, preset=preset, settings=settings, seed=seed)
            for seed in range(self.seed, self.seed + self.seeds)
            for preset in self.presets
            for settings in [self.run_config(preset).settings]
            for model in (*BASELINES, *own)
            if model not in _ONCE or preset == self.presets[0]
        ]


def _absolute(name: str, *, is_path: bool) -> str:
    """Make a path absolute, for workers in other folders; leave names that are no path."""
    return str(Path(name).expanduser().resolve()) if is_path else name
