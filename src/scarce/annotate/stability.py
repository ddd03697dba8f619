"""Which resolution gives clusters that come back, without looking at any label."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from scarce.annotate.communities import climb, to_graph
from scarce.annotate.graph import neighbours, shared_neighbours
from scarce.summary import Stability

__all__ = ["RESOLUTIONS", "recommend", "sweep"]

RESOLUTIONS = (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0)
_N_STARTS = 5
_N_PARTS = 10
_PART = 0.8
_MOST_CELLS = 5_000
_STABLE = 0.9


def sweep(
    points: NDArray[np.float64], *, resolutions: Sequence[float] = RESOLUTIONS, seed: int = 0
) -> tuple[Stability, ...]:
    """Cluster at several resolutions, and again from other starts and with fewer cells.

    Parameters
    ----------
    points
        Components, shape (n_cells, n_components). Of more than 5,000 cells a random sample of
        so many stands for all.
    resolutions
        To try.
    seed
        Of starts and samples.

    Returns
    -------
    One entry per resolution: how well the best of 5 starts agrees with each of the others, and
    with the clusters of 10 random parts of 80 % of the cells, each part with neighbours, graph
    and start of its own. The components are not found again, so a part is a little too like
    the whole.
    """
    generator = np.random.default_rng(seed)
    points = points[_choose(len(points), _MOST_CELLS, generator)]
    n_part = max(2, round(_PART * len(points)))
    parts = [_choose(len(points), n_part, generator) for _ in range(_N_PARTS)]
    whole, *graphs = (
        to_graph(shared_neighbours(neighbours(points[cells])))
        for cells in (np.arange(len(points)), *parts)
    )

    def measure(resolution: float) -> Stability:
        starts = [climb(whole, resolution=resolution, seed=seed + i) for i in range(_N_STARTS)]
        best = max(starts, key=lambda found: found.modularity).clusters
        again = [
            adjusted_rand_score(
                best[cells], climb(graph, resolution=resolution, seed=seed + i).clusters
            )
            for i, (cells, graph) in enumerate(zip(parts, graphs, strict=True))
        ]
        others = [adjusted_rand_score(best, s.clusters) for s in starts if s.clusters is not best]
        return Stability(
            resolution, int(best.max()) + 1, float(np.mean(others)), float(np.mean(again))
        )

    return tuple(measure(resolution) for resolution in resolutions)


def recommend(found: Sequence[Stability]) -> float:
    """Return the highest resolution up to which all clusterings come back.

    That is: restarts and subsamples agree at 0.9 or more there and at every lower resolution
    that has more than one cluster. If none does, the one that agrees best.
    """
    ordered = sorted(found, key=lambda s: s.resolution)
    divided = [s for s in ordered if s.n_clusters > 1] or ordered
    best = max(divided, key=_score).resolution
    for entry in divided:
        if _score(entry) < _STABLE:
            break
        best = entry.resolution
    return best


def _score(entry: Stability) -> float:
    return min(entry.restarts, entry.subsamples)


def _choose(n: int, n_chosen: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(generator.permutation(n)[:n_chosen])
