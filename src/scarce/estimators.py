"""The models as estimators: ``fit`` and ``transform`` on AnnData or CSR, ``save`` and ``load``."""

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from scipy.sparse import csr_matrix
from torch import Tensor

from scarce import check
from scarce.data import write
from scarce.errors import InputError
from scarce.models.autoencoder import AutoencoderNet
from scarce.models.beta_vae import BetaVAENet
from scarce.models.beta_vsc import BetaVSCNet
from scarce.models.parts import Net, Network
from scarce.sparse.batches import Batch, Batches, choose_path
from scarce.sparse.stats import mean_and_variance
from scarce.train import History, TrainConfig, fit_module, threads_for

__all__ = ["BetaVAE", "BetaVSC", "DeepAutoencoder", "Estimator"]

_FORMAT = 1
"""Version of the saved format; a reader accepts every version up to its own."""

Cells: TypeAlias = AnnData | csr_matrix
"""Log-normalised expression, cells x genes."""


class Estimator(ABC):
    """What the models share: everything but their options and their network.

    Options are stored as given; `fit` checks, builds and trains. What was learned ends in
    an underscore: ``module_`` (the network), ``history_``, ``var_names_`` (genes, None if
    fitted on a matrix) and ``path_`` (``"sparse"`` or ``"dense"`` arithmetic).
    """

    n_latent: int
    network: Network
    training: TrainConfig
    seed: int

    module_: Net
    history_: History
    var_names_: list[str] | None
    path_: str

    @abstractmethod
    def _build(self, n_genes: int) -> Net:
        """Return the untrained network."""

    def fit(
        self,
        cells: Cells,
        *,
        layer: str | None = None,
        on_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> Self:
        """Train on cells.

        Parameters
        ----------
        cells
            Log-normalised expression, n_cells x n_genes: an AnnData (never modified) or a
            CSR matrix. Memory stays proportional to its nonzeros.
        layer
            Layer of the AnnData to use instead of ``X``.
        on_epoch
            Called after each epoch with its number, counted from 1.

        Raises
        ------
        InputError
            If the values are not finite and non-negative, look like raw counts, or an
            option is out of range.
        """
        _check_options(self)
        x, self.var_names_ = _matrix(cells, layer)
        train, held_out = self._split(x)
        self.path_ = train.path
        self.module_ = self._start(x, train.n_genes)
        # Dense products of the two gene-sized layers, forward and backward.
        n_cells = min(self.training.batch_size, train.n_cells)
        with threads_for(6.0 * n_cells * train.n_genes * self.network.n_hidden[0]):
            self.history_ = fit_module(
                self.module_, train, held_out, self.training, seed=self.seed, on_epoch=on_epoch
            )
        return self

    def transform(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Return the code of each cell: the posterior mean, never a sample.

        Parameters
        ----------
        cells
            As in `fit`. The genes of an AnnData are matched by name, in any order; genes
            it lacks count as zero, with a warning that says how many.
        layer
            Layer of the AnnData to use instead of ``X``.

        Returns
        -------
        Array of shape (n_cells, n_latent).
        """
        return self._encode(cells, layer, self.module_.encode)

    def fit_transform(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Fit, then transform the same cells."""
        return self.fit(cells, layer=layer).transform(cells, layer=layer)

    def reconstruct(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Return the expected log-normalised expression, a dense (n_cells, n_genes) array."""
        z = torch.from_numpy(self.transform(cells, layer=layer))
        with torch.no_grad():
            size = self.training.batch_size
            blocks = [self.module_.decode(z[i : i + size]) for i in range(0, len(z), size)]
        return torch.cat(blocks).numpy()

    @property
    def n_parameters_(self) -> int:
        """Number of learned values."""
        return sum(p.numel() for p in self.module_.parameters())

    def save(self, directory: str | Path) -> None:
        """Write ``weights.safetensors`` and ``model.json`` into a directory.

        Each file is complete or absent; ``model.json`` comes last.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        about = {
            "format": _FORMAT,
            "model": type(self).__name__,
            "n_genes": self.module_.body.ends.table.shape[0],
            "options": self.options,
            "var_names": self.var_names_,
            "path": self.path_,
            "history": asdict(self.history_),
        }
        with write.atomic_path(directory / "weights.safetensors") as path:
            path.write_bytes(save(self.module_.state_dict()))
        write.json(directory / "model.json", about)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the directory holds no model, another model, or a newer format.
        """
        about = _read_about(Path(directory), cls.__name__)
        options = about["options"]
        options["network"] = Network(
            **{**options["network"], "n_hidden": tuple(options["network"]["n_hidden"])}
        )
        options["training"] = TrainConfig(**options["training"])
        if "sharpness" in options:
            options["sharpness"] = tuple(options["sharpness"])
        model = cls(**options)
        model.module_ = model._build(about["n_genes"])
        model.module_.load_state_dict(load_file(Path(directory) / "weights.safetensors"))
        model.module_.eval()
        model.history_ = History(**about["history"])
        model.var_names_, model.path_ = about["var_names"], about["path"]
        return model

    @property
    def options(self) -> dict[str, Any]:
        """Constructor arguments, as plain data."""
        return {
            name: asdict(value) if isinstance(value, Network | TrainConfig) else value
            for name, value in vars(self).items()
            if not name.endswith("_")
        }

    def _split(self, x: csr_matrix) -> tuple[Batches, Batches | None]:
        """Training and held-out cells, drawn by the seed: the same for every model."""
        config = self.training
        n_held_out = round(config.held_out * x.shape[0])
        order = np.random.default_rng(self.seed).permutation(x.shape[0])
        path = choose_path(
            n_cells=min(config.batch_size, x.shape[0]),
            n_genes=x.shape[1],
            width=self.network.n_hidden[0],
            density=x.nnz / max(1, x.shape[0] * x.shape[1]),
        )

        def batches(rows: NDArray[np.int64]) -> Batches:
            return Batches(x[np.sort(rows)], batch_size=config.batch_size, path=path)

        train = batches(order[n_held_out:])
        return train, batches(order[:n_held_out]) if n_held_out else None

    def _start(self, x: csr_matrix, n_genes: int) -> Net:
        """Build the network from the seed, without touching the user's random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = self._build(n_genes)
        mean, variance = (torch.from_numpy(a).float() for a in mean_and_variance(x))
        module.body.start_from(mean, variance)
        return module

    def _encode(
        self, cells: Cells, layer: str | None, encode: Callable[[Batch], Tensor]
    ) -> NDArray[np.float32]:
        x, names = _matrix(cells, layer)
        x = self._align(x, names)
        batches = Batches(x, batch_size=max(self.training.batch_size, 1024), path="sparse")
        with torch.no_grad():
            return torch.cat([encode(batch) for batch in batches.ordered()]).numpy()

    def _align(self, x: csr_matrix, names: list[str] | None) -> csr_matrix:
        """Put the columns of `x` in the order of the fitted genes; absent genes are zero."""
        n_genes = self.module_.body.ends.table.shape[0]
        if names == self.var_names_ and x.shape[1] == n_genes:
            return x
        if names is None or self.var_names_ is None:
            raise InputError(
                f"cells must have the {n_genes} genes of the fit; found {x.shape[1]} without "
                "names. Pass an AnnData to fit and transform, so that genes match by name."
            )
        return _select_genes(x, names, self.var_names_)


class DeepAutoencoder(Estimator):
    """Deep autoencoder.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    relu_code
        Apply ReLU to the code, see `AutoencoderNet`.
    network
        Shape of encoder and decoder.
    training
        How to train.
    seed
        Of every random number used. Same seed, data and thread count: the same result.
    """

    def __init__(
        self,
        *,
        n_latent: int = 10,
        relu_code: bool = False,
        network: Network = Network(),
        training: TrainConfig = TrainConfig(),
        seed: int = 0,
    ) -> None:
        self.n_latent = n_latent
        self.relu_code = relu_code
        self.network = network
        self.training = training
        self.seed = seed

    def _build(self, n_genes: int) -> Net:
        return AutoencoderNet(n_genes, self.n_latent, self.network, relu_code=self.relu_code)


class BetaVAE(Estimator):
    """Beta-VAE.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    beta
        Weight of the KL divergence, see `BetaVAENet`.
    warm_up
        Share of training over which that weight rises from 0.
    network, training, seed
        See `DeepAutoencoder`.
    """

    def __init__(
        self,
        *,
        n_latent: int = 10,
        beta: float = 1.0,
        warm_up: float = 0.3,
        network: Network = Network(),
        training: TrainConfig = TrainConfig(),
        seed: int = 0,
    ) -> None:
        self.n_latent = n_latent
        self.beta = beta
        self.warm_up = warm_up
        self.network = network
        self.training = training
        self.seed = seed

    def _build(self, n_genes: int) -> Net:
        return BetaVAENet(
            n_genes, self.n_latent, self.network, beta=self.beta, warm_up=self.warm_up
        )


class BetaVSC(Estimator):
    """Beta-VSC, variational sparse coding: few active units per cell.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    beta, alpha, warm_up, hard, sharpness
        See `BetaVSCNet`.
    network, training, seed
        See `DeepAutoencoder`.
    """

    module_: BetaVSCNet

    def __init__(
        self,
        *,
        n_latent: int = 10,
        beta: float = 1.0,
        alpha: float = 0.5,
        warm_up: float = 0.3,
        hard: bool = True,
        sharpness: tuple[float, float] = (50.0, 200.0),
        network: Network = Network(),
        training: TrainConfig = TrainConfig(),
        seed: int = 0,
    ) -> None:
        self.n_latent = n_latent
        self.beta = beta
        self.alpha = alpha
        self.warm_up = warm_up
        self.hard = hard
        self.sharpness = sharpness
        self.network = network
        self.training = training
        self.seed = seed

    def inclusion_probabilities(
        self, cells: Cells, *, layer: str | None = None
    ) -> NDArray[np.float32]:
        """Return how likely each unit is on in each cell, shape (n_cells, n_latent)."""
        return self._encode(cells, layer, self.module_.inclusion)

    def _build(self, n_genes: int) -> Net:
        return BetaVSCNet(
            n_genes,
            self.n_latent,
            self.network,
            beta=self.beta,
            alpha=self.alpha,
            warm_up=self.warm_up,
            hard=self.hard,
            sharpness=self.sharpness,
        )


def _matrix(cells: Cells, layer: str | None) -> tuple[csr_matrix, list[str] | None]:
    """Return checked expression as CSR, and the gene names where they are known."""
    if not isinstance(cells, AnnData):
        return check.log_normalised(cells), None
    if layer is not None and layer not in cells.layers:
        raise InputError(
            f"layer must be one of the layers {sorted(cells.layers)}; found {layer!r}."
        )
    values = cells.X if layer is None else cells.layers[layer]
    return check.log_normalised(values, cells.obs_names, cells.var_names), list(cells.var_names)


def _select_genes(x: csr_matrix, names: list[str], wanted: list[str]) -> csr_matrix:
    position = {name: i for i, name in enumerate(names)}
    columns = np.array([position.get(name, -1) for name in wanted])
    present = columns >= 0
    if not present.any():
        raise InputError(
            f"cells must share genes with the fit; found none of its {len(wanted)} genes "
            f"(the fit has {wanted[0]!r}, the cells have {names[0]!r}). Use the same gene names."
        )
    if not present.all():
        warnings.warn(
            f"{present.sum()} of the {len(wanted)} genes of the fit were found; "
            "the others count as zero.",
            stacklevel=4,
        )
    picked = x[:, columns[present]].tocoo()
    genes = np.flatnonzero(present)[picked.col]
    aligned = csr_matrix((picked.data, (picked.row, genes)), shape=(x.shape[0], len(wanted)))
    aligned.sort_indices()
    return aligned


def _check_options(model: Estimator) -> None:
    """Raise `InputError` for the first option out of range."""
    training, network = model.training, model.network
    check.in_range("n_latent", model.n_latent, least=1)
    check.in_range("epochs", training.epochs, least=1)
    check.in_range("batch_size", training.batch_size, least=2)
    check.in_range("lr", training.lr, above=0)
    check.in_range("held_out", training.held_out, least=0, below=1)
    check.in_range("input_dropout", network.input_dropout, least=0, below=1)
    for name, limits in {"beta": {"least": 0}, "alpha": {"above": 0, "below": 1}}.items():
        if hasattr(model, name):
            check.in_range(name, getattr(model, name), **limits)


def _read_about(directory: Path, model: str) -> dict[str, Any]:
    """Return the content of ``model.json`` after checking that it is the right one."""
    path = directory / "model.json"
    if not path.is_file():
        raise InputError(f"a saved model must hold model.json; found none in {directory}.")
    about: dict[str, Any] = json.loads(path.read_text())
    if about["model"] != model:
        raise InputError(f"the model must be a {model}; {directory} holds a {about['model']}.")
    if about["format"] > _FORMAT:
        raise InputError(
            f"the format must be at most {_FORMAT}; {directory} has {about['format']}. "
            "Install a newer scarce."
        )
    return about
