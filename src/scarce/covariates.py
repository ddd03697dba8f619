"""What is known of each cell beside its genes: the batch of the experiment, and numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scarce.errors import InputError

__all__ = ["Covariates", "check_covariates"]


@dataclass(frozen=True)
class Covariates:
    """How columns of a cell table become numbers for a model; learned on the cells of a fit.

    A batch becomes one column per level, 1 where a cell belongs to it; a continuous
    covariate becomes its z-score.
    """

    batch: str | None = None
    levels: tuple[str, ...] = ()
    """Sorted levels of the batch."""
    continuous: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    sds: tuple[float, ...] = ()

    @classmethod
    def of(cls, obs: pd.DataFrame, batch: str | None, continuous: tuple[str, ...]) -> Self:
        """Learn levels, means and standard deviations.

        Raises
        ------
        InputError
            If a column is absent, has a missing value, a batch has a single level, or a
            continuous covariate is not a finite number or does not vary.
        """
        levels: tuple[str, ...] = ()
        if batch is not None:
            levels = tuple(sorted(set(_levels(obs, batch).tolist())))
            if len(levels) < 2:
                raise InputError(
                    f"batch must have at least two levels; column {batch!r} has only "
                    f"{levels[0]!r}. Leave it out."
                )
        numbers = [_numbers(obs, name) for name in continuous]
        means = tuple(float(values.mean()) for values in numbers)
        sds = tuple(float(values.std()) for values in numbers)
        for name, values in zip(continuous, numbers, strict=True):
            if values.min() == values.max():
                raise InputError(f"a covariate must vary; column {name!r} does not. Leave it out.")
        return cls(batch, levels, continuous, means, sds)

    @property
    def n_columns(self) -> int:
        """C."""
        return len(self.levels) + len(self.continuous)

    def as_if(self, level: str) -> NDArray[np.float32]:
        """Return the numbers that say a cell is of this batch, shape (n_levels,).

        They take the place of a cell's first columns, see `columns`.

        Raises
        ------
        InputError
            If there is no such level.
        """
        if level not in self.levels:
            raise InputError(
                f"batch must be among those of the fit, {list(self.levels)}; found {level!r}."
            )
        return np.array([known == level for known in self.levels], np.float32)

    @property
    def average(self) -> NDArray[np.float32]:
        """A cell in equal shares of every batch, every number at its mean, (n_columns,)."""
        shares = [1 / len(self.levels) for _ in self.levels]
        return np.array([*shares, *[0.0] * len(self.continuous)], np.float32)

    def columns(self, obs: pd.DataFrame) -> NDArray[np.float32]:
        """Return the numbers of these cells, shape (n_cells, n_columns).

        Raises
        ------
        InputError
            If a column is absent or malformed, or a level was not among those of the fit.
        """
        columns: list[NDArray[np.floating]] = []
        if self.batch is not None:
            found = _levels(obs, self.batch)
            unknown = sorted(set(found.tolist()) - set(self.levels))
            if unknown:
                raise InputError(
                    f"batches must be among those of the fit, {list(self.levels)}; "
                    f"found {unknown[0]!r} in column {self.batch!r}."
                )
            columns += [(found == level).astype(np.float32) for level in self.levels]
        scales = zip(self.continuous, self.means, self.sds, strict=True)
        columns += [(_numbers(obs, name) - mean) / sd for name, mean, sd in scales]
        if not columns:
            return np.empty((len(obs), 0), np.float32)
        return np.column_stack(columns).astype(np.float32)


def check_covariates(
    obs: pd.DataFrame,
    batch: str | None,
    continuous: tuple[str, ...],
    *,
    not_among: Iterable[str | None],
) -> None:
    """Check columns before anything is trained.

    Parameters
    ----------
    obs
        The cell table.
    batch, continuous
        See `Covariates.of`.
    not_among
        Columns that would tell a model the cell types it is scored by.

    Raises
    ------
    InputError
        If one is among these, or `Covariates.of` would raise it.
    """
    told = {batch, *continuous} & set(not_among) - {None}
    if told:
        raise InputError(
            f"batch and covariates must not be the labels; found {min(map(str, told))!r}, which "
            "the models are scored by. Leave it out."
        )
    Covariates.of(obs, batch, continuous)


def _levels(obs: pd.DataFrame, name: str) -> NDArray[np.str_]:
    values = _column(obs, name)
    return values.astype(str).to_numpy(dtype=str)


def _numbers(obs: pd.DataFrame, name: str) -> NDArray[np.float64]:
    values = _column(obs, name)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError(
            f"a continuous covariate must be finite numbers; found {values.iloc[first]!r} for cell "
            f"{obs.index[first]!r} in column {name!r} ({bad.sum()} of {len(obs)} cells)."
        )
    return numbers


def _column(obs: pd.DataFrame, name: str) -> pd.Series:
    if name not in obs:
        raise InputError(
            f"a covariate must be a column of the cell table; found {name!r}, "
            f"and the columns {list(obs.columns)}."
        )
    column = obs[name]
    if column.isna().any():
        raise InputError(
            f"a covariate must be known for every cell; column {name!r} is empty for cell "
            f"{obs.index[column.isna()][0]!r} ({column.isna().sum()} of {len(obs)} cells)."
        )
    return column
