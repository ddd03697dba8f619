"""What the models are measured against: principal components, gene means, chance, scvi-tools.

Each contender is fitted on some cells and gives all of them a code of the same size.
"""

import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA

from scarce.errors import InputError
from scarce.preprocess import Scaling
from scarce.sparse.stats import mean_and_variance

__all__ = ["BASELINES", "PEERS", "Contender", "contend", "require_installed"]

BASELINES = ("pca", "pca_scaled", "mean", "random")
PEERS = ("scvi", "ldvae")

Rows: TypeAlias = NDArray[np.bool_]
"""Cells to fit on, shape (n_cells,)."""


_Reconstruct: TypeAlias = Callable[[csr_matrix], NDArray[np.floating]]


class Contender(NamedTuple):
    """What came out of fitting one contender."""

    z: NDArray[np.floating]
    """Code of all cells, shape (n_cells, n_latent)."""
    seconds: float
    """Of the fit and of coding all cells."""
    n_parameters: int
    epochs: int = 0
    reconstruct: _Reconstruct | None = None
    """Log-normalised cells, as seen through the code; None where that is not defined."""


def contend(
    name: str, cells: AnnData, rows: Rows, n_latent: int, seed: int, batch: str | None = None
) -> Contender:
    """Fit a contender on some cells and code all of them.

    Parameters
    ----------
    name
        One of `BASELINES` or `PEERS`.
    cells
        Log-normalised expression of the genes it sees, and ``layers["counts"]``.
    rows
        Cells to fit on.
    n_latent
        Dimensions of the code; the gene means need one.
    seed
        Of every random number.
    batch
        Column of the cell table that scvi-tools is told of; the baselines know of none.
    """
    x = csr_matrix(cells.X)
    if name == "pca":
        return _principal_components(x, rows, n_latent, seed)
    if name == "pca_scaled":
        return _scaled_components(x, rows, n_latent, seed)
    if name == "mean":
        return _gene_means(x, rows)
    if name == "random":
        return Contender(np.random.default_rng(seed).normal(size=(x.shape[0], n_latent)), 0.0, 0)
    return _scvi(cells, rows, n_latent, seed, batch, linear=name == "ldvae")


def require_installed(name: str) -> None:
    """Check that a peer can be run.

    Raises
    ------
    InputError
        If scvi-tools is not installed.
    """
    if name in PEERS and find_spec("scvi") is None:
        raise InputError(
            f"model {name!r} needs scvi-tools; it is not installed: pip install scvi-tools, or "
            "leave that model out."
        )


def _principal_components(x: csr_matrix, rows: Rows, n_latent: int, seed: int) -> Contender:
    """Exact (Lanczos) and centred implicitly: the matrix stays sparse."""
    start = time.perf_counter()
    x = x.astype(np.float64)
    train = x if rows.all() else x[rows]
    model = PCA(min(n_latent, min(train.shape) - 1), svd_solver="arpack", random_state=seed)
    z = model.fit_transform(train) if rows.all() else model.fit(train).transform(x)

    def reconstruct(block: csr_matrix) -> NDArray[np.floating]:
        projected = model.transform(block.astype(np.float64))
        return model.inverse_transform(projected)  # type: ignore[no-any-return]

    n_parameters = (z.shape[1] + 1) * x.shape[1]
    return Contender(z, time.perf_counter() - start, n_parameters, reconstruct=reconstruct)


def _scaled_components(x: csr_matrix, rows: Rows, n_latent: int, seed: int) -> Contender:
    """Seurat's: of z-scores, cut at ten; the row that makes them sparse is centred away."""
    start = time.perf_counter()
    scaling = Scaling.of(x, np.flatnonzero(rows))

    def entries(cells: csr_matrix) -> csr_matrix:
        return scaling.entries(csr_matrix(cells, dtype=np.float64))

    fitted = _principal_components(entries(x), rows, n_latent, seed)
    seconds, inner = time.perf_counter() - start, cast(_Reconstruct, fitted.reconstruct)

    def reconstruct(block: csr_matrix) -> NDArray[np.floating]:
        return scaling.undo(inner(entries(block)) + scaling.base)

    return fitted._replace(seconds=seconds, reconstruct=reconstruct)


def _gene_means(x: csr_matrix, rows: Rows) -> Contender:
    """Every cell is the mean cell: what a model explains beyond it, it has learned."""
    mean, _ = mean_and_variance(x, rows=np.flatnonzero(rows))
    z = np.zeros((x.shape[0], 1))
    return Contender(z, 0.0, len(mean), reconstruct=lambda b: np.tile(mean, (b.shape[0], 1)))


def _scvi(
    cells: AnnData, rows: Rows, n_latent: int, seed: int, batch: str | None, *, linear: bool
) -> Contender:
    """SCVI or LinearSCVI with the settings of scvi-tools, on raw counts.

    References
    ----------
    Lopez et al., Nat. Methods 2018; Svensson et al., Bioinformatics 2020 (LinearSCVI).
    """
    import scvi

    kind = scvi.model.LinearSCVI if linear else scvi.model.SCVI
    known = cells.obs[[] if batch is None else [batch]]
    counts = AnnData(csr_matrix(cells.layers["counts"]), obs=known, var=cells.var[[]])
    start = time.perf_counter()
    loggers = ("scvi", "lightning.fabric", "lightning.pytorch")
    with _quiet(*loggers), _seeded(scvi.settings, seed):
        train = counts[rows].copy()
        kind.setup_anndata(train, batch_key=batch)
        model = kind(train, n_latent=n_latent)
        model.train(accelerator="cpu", enable_progress_bar=False, logger=False)
        z = np.asarray(model.get_latent_representation(counts))
    seconds = time.perf_counter() - start
    n_parameters = sum(p.numel() for p in model.module.parameters())
    return Contender(z, seconds, n_parameters, epochs=int(model.trainer.current_epoch))


@contextmanager
def _seeded(settings: Any, seed: int) -> Iterator[None]:  # noqa: ANN401 - scvi-tools is optional
    """Seed scvi-tools and the global generators it draws from, and put them back."""
    import torch

    before = settings.seed
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            settings.seed = seed
            yield
        finally:
            settings.seed = before
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Hear only errors from these loggers, and no warning of the libraries behind them."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
