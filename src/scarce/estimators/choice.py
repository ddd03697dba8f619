"""Which of several models to use: the one that best explains cells it never saw."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scarce import check, held_out
from scarce.errors import InputError
from scarce.estimators.cells import Cells
from scarce.estimators.estimator import Estimator
from scarce.sampling import seen_cells

__all__ = ["Choice", "choose"]


class Choice(NamedTuple):
    """What was chosen, and by which numbers."""

    best: Estimator
    """As it was given, not fitted."""
    explained: tuple[float, ...]
    """Of each candidate, the share of the variance of unseen cells that it explains."""


def choose(
    candidates: Sequence[Estimator],
    cells: Cells,
    *,
    layer: str | None = None,
    unseen: float = 0.1,
    seed: int = 0,
    on_fit: Callable[[int], object] | None = None,
) -> Choice:
    """Fit each candidate on some of the cells, and choose by how well it explains the others.

    No label is looked at. Explained variance of log-normalised expression is defined for every
    model and likelihood, where their losses cannot be compared.

    Parameters
    ----------
    candidates
        Unfitted; with codes of the same size, or the larger one has the advantage.
    cells, layer
        As in `Estimator.fit`, n_cells x n_genes.
    unseen
        Share of cells kept from the fits.
    seed
        Of the draw of these cells. The candidates have seeds of their own.
    on_fit
        Told how many candidates are fitted, after each.

    Raises
    ------
    InputError
        As `Estimator.fit`, or if there is no candidate, or too few cells to keep one back.
    """
    if not candidates:
        raise InputError("a choice must be among at least one estimator; found none.")
    check.in_range("unseen", unseen, above=0, below=1)
    seen = seen_cells(cells.shape[0], unseen, seed)
    if seen.all():
        raise InputError(
            f"a choice must keep at least one cell from the fits; found {len(seen)} cells, of "
            f"which a share of {unseen:g} is none. Pass more cells or name one estimator."
        )
    explained: list[float] = []
    for candidate in candidates:
        explained.append(_explained(candidate, cells, seen, layer))
        if on_fit:
            on_fit(len(explained))
    return Choice(candidates[int(np.argmax(explained))], tuple(explained))


def _explained(
    candidate: Estimator, cells: Cells, seen: NDArray[np.bool_], layer: str | None
) -> float:
    model = replace(candidate).fit(cells[seen], layer=layer)
    others = cells[~seen]
    mean = np.asarray(model.expression(cells[seen], layer=layer).mean(axis=0)).ravel()
    return held_out.explained_variance(
        model.expression(others, layer=layer),
        mean,
        lambda rows: model.reconstruct(others[rows], layer=layer),
    )
