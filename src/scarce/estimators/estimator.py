"""What all estimators share: fit, transform, reconstruct, save and load."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from scipy.sparse import csr_matrix
from torch import Tensor

from scarce import check, metrics
from scarce.covariates import Covariates
from scarce.data import write
from scarce.errors import InputError
from scarce.estimators import saved
from scarce.estimators.cells import Cells, matrix, select_genes, table
from scarce.estimators.options import check_options, missing
from scarce.estimators.start import start_from_cells
from scarce.generate import code_with_zeros, draw_codes
from scarce.likelihoods import LIKELIHOODS, Likelihood
from scarce.models.parts import Body, Decoder, Net, Network
from scarce.numerics import Numerics, tuned
from scarce.preprocess import Scaling, log_normalised
from scarce.sparse.batches import Arithmetic, Batch, Batches, choose_path
from scarce.train import TrainConfig, fit_module

__all__ = ["Estimator"]

_NAMED = 8
"""Most units that one note names."""
_SCALING = ("scaling.mean", "scaling.sd")
"""Names of these arrays beside the weights."""


@dataclass(kw_only=True, eq=False)
class Estimator(ABC):
    """What the models share: everything but their own options and their network.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    batch
        Column of the cell table with the batch of each cell: the decoder is told of it, so
        that the code need not be.
    covariates
        Columns of the cell table with numbers to be treated likewise.
    scaled
        Model each gene's z-score, at most 10 as in Seurat's ScaleData, rather than its
        log-normalised expression: rare genes then weigh as much as abundant ones.
    network
        Shape of encoder and decoder.
    training
        How to train.
    seed
        Of every random number used. Same seed, data and thread count: the same result.

    Notes
    -----
    Options are stored as given; `fit` checks, builds and trains. What was learned ends in
    an underscore: ``module_`` (the network), ``history_``, ``var_names_`` (genes, None if
    fitted on a matrix), ``scaling_`` (None unless `scaled`), ``covariates_`` (batches and
    numbers beside the genes), ``kl_units_`` (mean KL divergence of each unit in nats, None
    without a prior) and ``active_units_`` (whether its code varies), both over the training
    cells, ``path_`` (``"sparse"`` or ``"dense"`` arithmetic) and ``numerics_`` (threads and
    matrix products it was fitted with).
    """

    n_latent: int = 10
    batch: str | None = None
    covariates: tuple[str, ...] = ()
    scaled: bool = False
    network: Network = Network()
    training: TrainConfig = TrainConfig()
    seed: int = 0

    likelihoods: ClassVar[Mapping[str, type[Likelihood]]] = LIKELIHOODS
    """Those the model can have, by the name that `network` gives."""

    decoder: ClassVar[Decoder | None] = None
    """The only kind of decoder the model has; None where `network` chooses."""

    gated: ClassVar[bool] = False
    """Whether its units are on in some cells and off in others."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of what a fit learns
        raise missing(self, name)

    @abstractmethod
    def _build(self, body: Body) -> Net:
        """Return the untrained network around encoder and decoder."""

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
            CSR matrix, all of whose genes are modelled. Memory stays proportional to its
            nonzeros. A network with a likelihood of counts reads raw counts instead:
            ``layers["counts"]`` where there is such a layer, else ``X``.
        layer
            Layer of the AnnData to use instead.
        on_epoch
            Called after each epoch with its number, counted from 1.

        Raises
        ------
        InputError
            If the values are not finite and non-negative, look like raw counts (or are none,
            where the likelihood is one of counts), or an option is out of range. Whatever ends
            a fit early, what an earlier one learned stays.
        """
        check_options(self)
        fitted = replace(self, seed=int(self.seed))  # torch takes no NumPy integers
        fitted._fit(cells, layer, on_epoch)  # noqa: SLF001 - a copy of itself
        vars(self).update(vars(fitted))
        return self

    def _fit(self, cells: Cells, layer: str | None, on_epoch: Callable[[int], None]) -> None:
        x, self.var_names_ = matrix(cells, layer, self.network.likelihood, least_cells=2)
        self.covariates_ = Covariates.of(table(cells), self.batch, self.covariates)
        known = self.covariates_.columns(table(cells))
        train, held_out = self._split(x.shape[0])
        self.scaling_ = Scaling.of(x, train) if self.scaled else None
        self.path_ = self._choose_path(x, len(train))
        self.module_ = self._start(x, train)
        serve = self._server(x, known)
        in_steps = partial(serve, batch_size=self.training.batch_size, path=self.path_)
        # Dense products of the decoder's gene-sized layer, forward and backward.
        n_cells = min(self.training.batch_size, len(train))
        with tuned(6.0 * n_cells * x.shape[1] * self.network.n_hidden[0]) as self.numerics_:
            self.history_ = fit_module(
                self.module_,
                in_steps(rows=train),
                in_steps(rows=held_out) if len(held_out) else None,
                self.training,
                seed=self.seed,
                on_epoch=on_epoch,
            )
        self._take_stock(serve(rows=train, batch_size=1024))

    def transform(
        self, cells: Cells, *, layer: str | None = None, exact_zeros: bool = False
    ) -> NDArray[np.float32]:
        r"""Return the code of each cell: the posterior mean, never a sample.

        Parameters
        ----------
        cells
            As in `fit`. The genes of an AnnData are matched by name, in any order; genes
            it lacks count as zero, with a warning that says how many.
        layer
            Layer of the AnnData to use instead.
        exact_zeros
            Of a model with gates: its mean where on, :math:`\mu`, for every unit that is more
            likely on than off, and exactly 0 for the others. The posterior mean
            :math:`\gamma\mu` is small there, but never 0.

        Returns
        -------
        Array of shape (n_cells, n_latent).

        Raises
        ------
        InputError
            If exact zeros are asked of a model without gates.
        """
        encode = partial(code_with_zeros, self.module_) if exact_zeros else self.module_.encode
        return self._encode(cells, layer, encode)

    def inclusion_probabilities(
        self, cells: Cells, *, layer: str | None = None
    ) -> NDArray[np.float32]:
        """Return how likely each unit is on in each cell, shape (n_cells, n_latent).

        Always 1 in a model without gates.

        Raises
        ------
        InputError
            If the model has no distribution over codes.
        """
        return self._encode(cells, layer, self.module_.inclusion)

    def uncertainty(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Return the posterior standard deviation of each code, shape (n_cells, n_latent).

        Raises
        ------
        InputError
            If the model has no distribution over codes.
        """
        return self._encode(cells, layer, lambda batch: self.module_.code(batch).sd)

    def fit_transform(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Fit, then transform the same cells."""
        return self.fit(cells, layer=layer).transform(cells, layer=layer)

    def reconstruct(
        self, cells: Cells, *, layer: str | None = None, batch: str | None = None
    ) -> NDArray[np.float32]:
        """Return the expected log-normalised expression, a dense (n_cells, n_genes) array.

        Where the model is of z-scores, they are turned back; what the upper clip took is lost.
        Where it is of counts, this is the logarithm of 1 + what is expected of 10,000 counts
        over the modelled genes.
        `scarce.denoise.denoise` writes it to disk without ever holding it.

        Parameters
        ----------
        cells, layer
            As in `transform`.
        batch
            Show every cell as if it had been measured in this batch, one of
            ``covariates_.levels``; each in its own if None.

        Raises
        ------
        InputError
            If the fit knew of no such batch.
        """
        return np.concatenate(list(self.reconstruct_blocks(cells, layer=layer, batch=batch)))

    def reconstruct_blocks(
        self, cells: Cells, *, layer: str | None = None, batch: str | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield what `reconstruct` returns in blocks of cells, first to last."""
        place = None if batch is None else torch.from_numpy(self.covariates_.as_if(batch))
        for block in self._batches(cells, layer).ordered():
            known = block.covariates
            if place is not None:
                known = torch.cat([place.expand(len(known), -1), known[:, len(place) :]], 1)
            with torch.no_grad():
                x_hat = self.module_.reconstruct(block, known)
            yield self._unscaled(x_hat)

    def expression(self, cells: Cells, *, layer: str | None = None) -> csr_matrix:
        """Return the log-normalised expression of the genes of the fit, in their order.

        It may share the memory of the cells.
        Genes the cells lack are zero. Counts are scaled to 10,000 over these genes.
        """
        x = self._aligned(cells, layer)
        return log_normalised(x) if self.module_.body.likelihood.counts else x

    def decode(
        self,
        z: NDArray[np.floating],
        *,
        table: pd.DataFrame | None = None,
        log_ratios: bool = False,
    ) -> NDArray[np.float32]:
        """Return the expected log-normalised expression of codes, shape (n_codes, n_genes).

        Of `VASC`: shares of a cell's largest value, which codes alone do not tell.

        Parameters
        ----------
        z
            Codes, shape (n_codes, n_latent).
        table
            Cell table with a row of covariates for each code. Without it every code belongs
            in equal shares to all batches, and every number is at its mean.
        log_ratios
            Of a model of counts, the logarithms of the genes' proportions instead, centred over
            the genes: a gene then does not fall because another one rises.

        Raises
        ------
        InputError
            If the codes are not of that shape, or not finite.
        """
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.n_latent or not np.isfinite(z).all():
            raise InputError(
                f"codes must be finite, of shape (n_codes, {self.n_latent}); found shape {z.shape} "
                f"with {np.count_nonzero(~np.isfinite(z))} values that are not."
            )
        if table is not None and len(table) != len(z):
            raise InputError(
                f"table must have a row for each code; found {len(table)} rows, {len(z)} codes."
            )
        if table is None:
            known = np.tile(self.covariates_.average, (len(z), 1))
        else:
            known = self.covariates_.columns(table)
        with torch.no_grad():
            code = torch.from_numpy(np.ascontiguousarray(z, dtype=np.float32))
            body, beside = self.module_.body, torch.from_numpy(known)
            if log_ratios and body.likelihood.counts:
                return body.likelihood.log_ratios(body.hidden(code, beside)).numpy()
            return self._unscaled(body.decode(code, beside))

    def sample(self, n_cells: int, *, seed: int = 0) -> NDArray[np.float32]:
        """Draw codes of new cells from the prior; return their expected expression.

        Parameters
        ----------
        n_cells
            How many.
        seed
            Of the codes.

        Returns
        -------
        Expected log-normalised expression, a dense (n_cells, n_genes) array, without the noise
        that the likelihood adds to it; see `decode` for the covariates.

        Raises
        ------
        InputError
            If the model has no prior.
        """
        check.in_range("n_cells", n_cells, least=1, whole=True)
        with torch.no_grad():
            z = draw_codes(self.module_, n_cells, self.n_latent, seed)
        return self.decode(z.numpy())

    @property
    def n_parameters_(self) -> int:
        """Number of learned values."""
        return sum(p.numel() for p in self.module_.parameters() if p.requires_grad)

    def save(self, directory: str | Path) -> None:
        """Write ``weights.safetensors`` and ``model.json`` into a directory.

        Each file is complete or absent; ``model.json`` comes last.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        about = {
            "format": saved.FORMAT,
            "model": type(self).__name__,
            "n_genes": self._n_genes,
            "options": self.options,
            "var_names": self.var_names_,
            "covariates": asdict(self.covariates_),
            "path": self.path_,
            "numerics": asdict(self.numerics_),
            "kl_units": None if self.kl_units_ is None else self.kl_units_.tolist(),
            "active_units": self.active_units_.tolist(),
            "history": asdict(self.history_),
        }
        with write.atomic_path(directory / "weights.safetensors") as path:
            path.write_bytes(save({**self.module_.state_dict(), **self._scaling_state()}))
        write.json(directory / "model.json", about)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the directory holds no model, another model, a newer format, or damaged files.
        """
        about = saved.about(Path(directory), cls.__name__)
        with saved.intact(Path(directory)):
            return cls._restored(about, load_file(Path(directory) / "weights.safetensors"))

    @classmethod
    def _restored(cls, about: dict[str, Any], state: dict[str, Tensor]) -> Self:
        model = cls(**saved.options(about, cls))
        model.covariates_ = Covariates(**saved.tuples(about["covariates"]))
        model.module_ = model._net(about["n_genes"])
        model.scaling_ = None
        if model.scaled:
            mean, sd = (state.pop(name).numpy() for name in _SCALING)
            model.scaling_ = Scaling(mean, sd)
        model.module_.load_state_dict(state)
        model.module_.eval()
        model.history_ = saved.history(about)
        model.numerics_ = Numerics(**about["numerics"])
        kl = about["kl_units"]
        model.kl_units_ = None if kl is None else np.array(kl)
        model.active_units_ = np.array(about["active_units"])
        model.var_names_, model.path_ = about["var_names"], about["path"]
        return model

    @property
    def options(self) -> dict[str, Any]:
        """Constructor arguments, as plain data."""
        return asdict(self)

    @property
    def _n_genes(self) -> int:
        return len(self.module_.body.likelihood.weight)

    def _net(self, n_genes: int) -> Net:
        network = replace(self.network, decoder=self.decoder or self.network.decoder)
        kind = self.likelihoods[network.likelihood]
        n_covariates = self.covariates_.n_columns
        return self._build(Body(n_genes, self.n_latent, network, n_covariates, kind))

    def _scaling_state(self) -> dict[str, Tensor]:
        if self.scaling_ is None:
            return {}
        arrays = (self.scaling_.mean, self.scaling_.sd)
        return {name: torch.from_numpy(a) for name, a in zip(_SCALING, arrays, strict=True)}

    def _split(self, n_cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of training and of held-out cells, drawn by the seed: the same for every model."""
        n_held_out = min(round(self.training.held_out * n_cells), n_cells - 1)
        order = np.random.default_rng(self.seed).permutation(n_cells)
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def _choose_path(self, x: csr_matrix, n_train: int) -> Arithmetic:
        if self.training.path != "auto":
            return self.training.path
        if LIKELIHOODS[self.network.likelihood].counts:
            return "sparse"  # their decoder costs the same on both, and the encoder less
        return choose_path(
            n_cells=min(self.training.batch_size, n_train),
            n_genes=x.shape[1],
            width=self.network.n_hidden[0],
            density=x.nnz / max(1, x.shape[0] * x.shape[1]),
        )

    def _server(self, x: csr_matrix, known: NDArray[np.float32]) -> Callable[..., Batches]:
        """Return what serves rows of x, scaled where the model asks for it."""
        scaling = self.scaling_
        return partial(
            Batches,
            x if scaling is None else scaling.entries(x),
            base=None if scaling is None else scaling.base,
            covariates=known,
        )

    def _start(self, x: csr_matrix, rows: NDArray[np.int64]) -> Net:
        """Build the network from the seed, without touching the user's random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = self._net(x.shape[1])
        start_from_cells(module.body, x, rows, self.scaling_, seed=self.seed)
        return module

    def _encode(
        self, cells: Cells, layer: str | None, encode: Callable[[Batch], Tensor]
    ) -> NDArray[np.float32]:
        with torch.no_grad():
            return torch.cat([encode(b) for b in self._batches(cells, layer).ordered()]).numpy()

    def _batches(self, cells: Cells, layer: str | None) -> Batches:
        x = self._aligned(cells, layer)
        known = self.covariates_.columns(table(cells))
        return self._server(x, known)(batch_size=max(self.training.batch_size, 1024))

    def _aligned(self, cells: Cells, layer: str | None) -> csr_matrix:
        """Return what the model reads of the genes of the fit, in their order."""
        return self._align(*matrix(cells, layer, self.network.likelihood))

    def _unscaled(self, x_hat: Tensor) -> NDArray[np.float32]:
        x: NDArray[np.float32] = x_hat.numpy()
        return x if self.scaling_ is None else self.scaling_.undo(x).astype(np.float32)

    def _take_stock(self, cells: Batches) -> None:
        """Record how much the cells of the fit use each unit, and note units that are dead."""
        module, codes, prices = self.module_, [], []
        with torch.no_grad():
            for batch in cells.ordered():
                codes.append(module.encode(batch))
                if module.posterior is not None:
                    prices.append(module.unit_kl(batch).double().sum(0))
        self.active_units_ = metrics.are_active(torch.cat(codes).numpy())
        self.kl_units_ = torch.stack(prices).sum(0).numpy() / cells.n_cells if prices else None
        dead = [str(unit + 1) for unit in np.flatnonzero(~self.active_units_)]
        if dead:
            named = ", ".join(dead[:_NAMED]) + ", ..." * (len(dead) > _NAMED)
            self.history_.notes.append(
                f"{len(dead)} of {self.n_latent} units ({named}) "
                f"{'are' if len(dead) > 1 else 'is'} not used: the code hardly varies there"
            )

    def _align(self, x: csr_matrix, names: list[str] | None) -> csr_matrix:
        """Put the columns of `x` in the order of the fitted genes; absent genes are zero."""
        n_genes = self._n_genes
        if names == self.var_names_ and x.shape[1] == n_genes:
            return x
        if names is None or self.var_names_ is None:
            raise InputError(
                f"cells must have the {n_genes} genes of the fit; found {x.shape[1]} without "
                "names. Pass an AnnData to fit and transform, so that genes match by name."
            )
        return select_genes(x, names, self.var_names_)
