"""Several fits of one model side by side: steadier than any of them, at their joint cost."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from scipy.linalg import block_diag
from scipy.sparse import csr_matrix

from scarce import check
from scarce.data import write
from scarce.estimators import saved
from scarce.estimators.cells import Cells
from scarce.estimators.estimator import Estimator
from scarce.estimators.models import BetaVAE, load_single
from scarce.estimators.options import missing

__all__ = ["Ensemble", "load_model"]

_KIND = "Ensemble"
"""What it is called where it is saved."""
_LITTLE = 0.1
"""Of a code's mean variance: where a direction has so much, it is given half of the others', or
a unit out of use would count as much as they."""
_TINY = float(np.finfo(np.float32).tiny)


class Ensemble:
    """Fits of one model from different seeds, whose code is what they have in common.

    The units of a code are its own, so each member's is first given the same spread in every
    direction, or less where it hardly varies. Of all codes side by side, the leading principal
    components of the cells of the fit are the code, each times its share of the first's
    variance: a direction that every member finds counts fully, one that a single member finds
    hardly. The members' own axes are lost in it.

    Parameters
    ----------
    estimator
        What to fit; it is not changed. The size of its code is that of the ensemble's.
    n_members
        How many fits.

    Attributes
    ----------
    members_
        The fitted estimators, of seeds that follow from that of `estimator`.
    """

    def __init__(self, estimator: Estimator | None = None, *, n_members: int = 5) -> None:
        self.estimator = BetaVAE() if estimator is None else estimator
        self.n_members = n_members

    members_: list[Estimator]
    mean_: NDArray[np.float32]
    """Mean of the codes side by side, shape (n_members * n_latent,)."""
    components_: NDArray[np.float32]
    """From these codes without their mean to the code, (n_latent, n_members * n_latent)."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of what a fit learns
        raise missing(self, name)

    def fit(
        self,
        cells: Cells,
        *,
        layer: str | None = None,
        on_fit: Callable[[int], object] | None = None,
    ) -> Self:
        """Fit every member on the same cells.

        Parameters
        ----------
        cells, layer
            See `Estimator.fit`.
        on_fit
            Told how many members are fitted, after each.

        Raises
        ------
        InputError
            As `Estimator.fit`, or if there are fewer than two members.
        """
        check.in_range("n_members", self.n_members, least=2, whole=True)
        check.in_range("seed", self.estimator.seed, least=0, whole=True)
        first, members = int(self.estimator.seed) * self.n_members, []
        for seed in range(first, first + self.n_members):
            members.append(replace(self.estimator, seed=seed).fit(cells, layer=layer))
            if on_fit:
                on_fit(len(members))
        codes = [member.transform(cells, layer=layer).astype(np.float64) for member in members]
        shared = np.ascontiguousarray(_in_common(codes), np.float32)  # as it is saved
        self.members_, self.components_ = members, shared
        self.mean_ = np.hstack(codes).mean(0).astype(np.float32)
        return self

    def transform(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Return the code of each cell, shape (n_cells, n_latent)."""
        z = (self._codes(cells, layer) - self.mean_) @ self.components_.T
        return z.astype(np.float32, copy=False)

    def fit_transform(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Fit, then transform the same cells."""
        return self.fit(cells, layer=layer).transform(cells, layer=layer)

    def expression(self, cells: Cells, *, layer: str | None = None) -> csr_matrix:
        """Return log-normalised expression of the genes of the fit, see `Estimator.expression`."""
        return self.members_[0].expression(cells, layer=layer)

    def reconstruct(self, cells: Cells, *, layer: str | None = None) -> NDArray[np.float32]:
        """Return the mean of the members' expected expression, dense, (n_cells, n_genes)."""
        return np.concatenate(list(self.reconstruct_blocks(cells, layer=layer)))

    def reconstruct_blocks(
        self, cells: Cells, *, layer: str | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield what `reconstruct` returns, some cells at a time."""
        blocks = (member.reconstruct_blocks(cells, layer=layer) for member in self.members_)
        for of_members in zip(*blocks, strict=True):
            yield np.mean(of_members, axis=0)

    @property
    def var_names_(self) -> list[str] | None:
        """Genes of the fit; None if it was on a bare matrix."""
        return self.members_[0].var_names_

    @property
    def n_parameters_(self) -> int:
        """Number of learned values."""
        return sum(m.n_parameters_ for m in self.members_) + self.components_.size

    def save(self, directory: str | Path) -> None:
        """Write each member into a directory of its own, and last how they are put together."""
        directory = Path(directory)
        for i, member in enumerate(self.members_):
            member.save(directory / f"member{i}")
        arrays = {"mean": self.mean_, "components": self.components_}
        with write.atomic_path(directory / "weights.safetensors") as path:
            path.write_bytes(save(arrays))
        write.json(directory / "model.json", {"format": saved.FORMAT, "model": _KIND})

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the directory holds no model, or another one.
        """
        directory = Path(directory)
        saved.about(directory, _KIND)
        with saved.intact(directory):
            arrays = load_file(directory / "weights.safetensors")
            mean, components = arrays["mean"], arrays["components"]
        first = load_single(directory / "member0")
        n_members = len(mean) // first.n_latent
        others = (load_single(directory / f"member{i}") for i in range(1, n_members))
        ensemble = cls(replace(first, seed=first.seed // n_members), n_members=n_members)
        ensemble.members_ = [first, *others]
        ensemble.mean_, ensemble.components_ = mean, components
        return ensemble

    def _codes(self, cells: Cells, layer: str | None) -> NDArray[np.float32]:
        return np.hstack([member.transform(cells, layer=layer) for member in self.members_])


def load_model(directory: str | Path) -> Estimator | Ensemble:
    """Read what any ``save`` wrote.

    Raises
    ------
    InputError
        If the directory holds no model, a newer format, or damaged files.
    """
    several = saved.about(Path(directory))["model"] == _KIND
    return Ensemble.load(directory) if several else load_single(directory)


def _in_common(codes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the directions that codes share, (n_latent, all their columns), weighted by it.

    With an even spread and no last scaling this is the generalised canonical correlation
    analysis of Kettenring, Biometrika 1971 (MAXVAR).
    """
    even = [_evening(z) for z in codes]
    n_latent = min(codes[0].shape[1], len(codes[0]) - 1)
    variance, axes = _principal(np.hstack([z @ e for z, e in zip(codes, even, strict=True)]))
    share = variance[:n_latent] / max(variance[0], _TINY)
    shared: NDArray[np.float64] = block_diag(*even) @ axes[:, :n_latent] * share
    return shared.T


def _evening(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix after which a code has variance 1, or less in directions of little."""
    variance, axes = _principal(z)
    even: NDArray[np.float64] = axes / np.sqrt(variance + max(_LITTLE * variance.mean(), _TINY))
    return even


def _principal(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variance along the principal axes, and these as columns, largest first."""
    variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(z, rowvar=False)))
    return variance[::-1].clip(0), axes[:, ::-1]
