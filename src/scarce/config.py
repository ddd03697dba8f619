"""Every option of a run, from flags or a TOML file, with defaults from a preset."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from scarce import check
from scarce.errors import InputError
from scarce.estimators import Estimator
from scarce.estimators.options import check_options
from scarce.likelihoods import LIKELIHOODS
from scarce.presets import ALL_MODELS, ENSEMBLE, MODELS, PRESETS, Settings, build, build_ensemble

__all__ = ["RunConfig"]

_LARGEST_SEED = 2**32
"""scikit-learn takes no larger one."""
_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("models", "covariates"), (list | tuple, "a list of names")),
    **dict.fromkeys(("scaled", "qc"), (bool, "true or false")),
    **dict.fromkeys(("data", "layer", "labels", "batch", "gmt"), (str, "text")),
}
"""What a file may give for options that no range is checked of."""


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
    batch, covariates
        Columns of the cell table: the batch of each cell, and numbers, that the models'
        decoders are told of.
    preset
        ``"default"`` or ``"paper"``.
    models
        Among ``dae``, ``bvae``, ``bvsc``, ``lvsc``, ``vasc`` and ``ensemble``; PCA is always run
        beside them.
    genes
        ``"all"``, or how many variable genes to model.
    latent, beta, alpha, epochs, batch_size, lr, scaled, path
        Of every model that has the option; see the models and `scarce.train.TrainConfig`. Alpha
        is that of the beta-VSC alone.
    likelihood
        What the decoders say of the genes, one of `scarce.likelihoods.LIKELIHOODS`.
    seed, seeds
        First seed and how many.
    gmt
        GMT file of gene sets to look for in the latents' programmes.
    qc
        Filter cells and genes.
    min_cells, min_genes, max_genes, max_mito
        See `scarce.preprocess.Thresholds`.
    """

    data: str = "pbmc68k_reduced"
    layer: str | None = None
    labels: str | None = None
    batch: str | None = None
    covariates: tuple[str, ...] = ()
    preset: str = "default"
    models: tuple[str, ...] = MODELS
    genes: int | str | None = None
    latent: int | None = None
    beta: float | None = None
    alpha: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    likelihood: str | None = None
    scaled: bool = False
    path: str = "auto"
    seed: int = 0
    seeds: int = 1
    gmt: str | None = None
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
        check.a_list("models", self.models)
        check.a_list("covariates", self.covariates)
        for model in self.models:
            check.one_of("model", model, (*ALL_MODELS, ENSEMBLE))
        check.no_repeats("models", self.models)
        if self.latent is not None:  # of PCA too, which no model below stands for
            check.in_range("latent", self.latent, least=1, whole=True)
        check.in_range("seeds", self.seeds, least=1, whole=True)
        check.in_range("seed", self.seed, least=0, most=_LARGEST_SEED - self.seeds, whole=True)
        for name in ("min_cells", "min_genes", "max_genes", "max_mito"):
            check.in_range(name, getattr(self, name), least=0)
        settings = self.settings
        likelihood = check.one_of("likelihood", settings.network.likelihood, LIKELIHOODS)
        for fit in self._to_fit():
            check_options(fit)
        return replace(
            self,
            genes=settings.genes or "all",
            latent=settings.n_latent,
            beta=settings.beta,
            alpha=settings.alpha,
            epochs=settings.training.epochs,
            batch_size=settings.training.batch_size,
            lr=settings.training.lr,
            likelihood=likelihood,
        )

    def _to_fit(self) -> Iterator[Estimator]:
        """Yield what would be fitted with the first seed."""
        for model in self.models:
            if model == ENSEMBLE:
                yield build_ensemble(self.settings, seed=self.seed).estimator
            else:
                yield build(model, self.settings, seed=self.seed)

    @classmethod
    def from_options(cls, options: dict[str, object]) -> "RunConfig":
        """Build from a mapping, such as a TOML file; an unknown key is an `InputError`."""
        known = [f.name for f in fields(cls)]
        for key in options:
            check.one_of("option", key, known)
        given = dict(options)
        for name, (kind, what) in _KINDS.items():
            value = given.get(name)
            if value is not None and not isinstance(value, kind):
                raise InputError(f"{name} must be {what}; found {value!r}.")
            if isinstance(value, str) and value.encode(errors="ignore").decode() != value:
                raise InputError(f"{name} must be UTF-8, as what a run writes; found {value!r}.")
            if isinstance(value, list):
                given[name] = tuple(value)
        return cls(**given)  # type: ignore[arg-type]

    @property
    def settings(self) -> Settings:
        """Settings of the models: the preset's, where this config gives none."""
        preset = PRESETS[self.preset]
        training = preset.training
        return replace(
            preset,
            genes=preset.genes if self.genes is None else _number_or_all(self.genes),
            n_latent=_given(self.latent, preset.n_latent),
            batch=self.batch,
            covariates=self.covariates,
            beta=_given(self.beta, preset.beta),
            alpha=preset.alpha if self.alpha is None else self.alpha,
            scaled=self.scaled,
            network=replace(
                preset.network, likelihood=_given(self.likelihood, preset.network.likelihood)
            ),
            training=replace(
                training,
                epochs=_given(self.epochs, training.epochs),
                batch_size=_given(self.batch_size, training.batch_size),
                lr=_given(self.lr, training.lr),
                path=self.path,  # type: ignore[arg-type]
            ),
        )


Option = TypeVar("Option", int, float, str)


def _given(value: Option | None, default: Option) -> Option:
    return default if value is None else value


def _number_or_all(genes: int | str) -> int | None:
    """Return how many genes to model; None for all of them."""
    if genes == "all":
        return None
    if not isinstance(genes, int) or genes < 2:
        raise InputError(f"genes must be 'all' or a whole number above 1; found {genes!r}.")
    return genes
