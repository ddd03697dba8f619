"""t-SNE maps in two and three dimensions, by the recipe of Kobak & Berens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import openTSNE
from numpy.typing import NDArray
from openTSNE.nearest_neighbors import Annoy, Sklearn
from sklearn.utils.extmath import svd_flip

__all__ = ["Neighbourhood", "neighbourhood", "tsne"]

_EARLY_STEPS, _STEPS = 250, 500
_EXAGGERATION = 12
_SEARCHED_CELLS = 1_000
"""From here on neighbours are searched approximately."""
_MANY_CELLS = 10_000
"""From here on interpolating the repulsive forces on a grid beats the Barnes-Hut tree."""


@dataclass(frozen=True)
class Neighbourhood:
    """Who is near whom in a latent space: computed once, drawn in 2-D and in 3-D."""

    z: NDArray[np.float64]
    """The points, shape (n_cells, n_latent)."""
    affinities: Any
    """Symmetric neighbour probabilities, as openTSNE holds them."""
    n_jobs: int
    """Threads that found them, and draw the maps."""


def neighbourhood(
    z: NDArray[np.floating], *, perplexity: float = 40.0, seed: int = 0, n_jobs: int = -1
) -> Neighbourhood:
    """Find the neighbours of every cell.

    Parameters
    ----------
    z
        Latent space, shape (n_cells, n_latent).
    perplexity
        Effective number of neighbours; at most a third of the other cells.
    seed
        Of the approximate search, which replaces the exact one from 1,000 cells on.
    n_jobs
        Threads, of the maps as well; -1 for one on every core of the machine.
    """
    points: NDArray[np.float64] = np.ascontiguousarray(z, dtype=np.float64)
    perplexity = min(perplexity, (len(z) - 1) / 3)
    # What openTSNE would choose, after a second spent on importing a library it would not.
    search = Sklearn if len(z) < _SEARCHED_CELLS else Annoy
    nearest = search(points, int(3 * perplexity), n_jobs=n_jobs, random_state=seed)
    affinities = openTSNE.affinity.PerplexityBasedNN(
        knn_index=nearest, perplexity=perplexity, n_jobs=n_jobs
    )
    return Neighbourhood(points, affinities, n_jobs)


def tsne(near: Neighbourhood, n_components: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return a t-SNE map.

    Starts from the principal components scaled to standard deviation 1e-4; learning rate
    max(200, n / 12); 250 steps with exaggeration 12, then 500 without.

    Parameters
    ----------
    near
        From `neighbourhood`.
    n_components
        2 or 3.
    seed
        Breaks ties among identical cells.

    Returns
    -------
    Array of shape (n_cells, n_components).

    References
    ----------
    Kobak & Berens, "The art of using t-SNE for single-cell transcriptomics", Nat. Commun.
    2019. Forces are those of openTSNE: Barnes-Hut, and interpolation for large 2-D maps.
    """
    interpolate = n_components == 2 and len(near.z) >= _MANY_CELLS
    embedding = openTSNE.TSNEEmbedding(
        _start(near.z, n_components, seed),
        near.affinities,
        negative_gradient_method="fft" if interpolate else "bh",
        learning_rate=max(200, len(near.z) / 12),
        n_jobs=near.n_jobs,
        random_state=seed,
    )
    embedding.optimize(_EARLY_STEPS, exaggeration=_EXAGGERATION, momentum=0.5, inplace=True)
    embedding.optimize(_STEPS, momentum=0.8, inplace=True)
    return np.array(embedding, dtype=np.float64)


def _start(z: NDArray[np.float64], n_components: int, seed: int) -> NDArray[np.float64]:
    """Principal components where the latent space has them, small noise where it has not."""
    noise = np.random.default_rng(seed).normal(size=(len(z), n_components))
    centred = z - z.mean(0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    u, _ = svd_flip(u, v)  # so that maps do not turn over
    rank = min(n_components, int((s > 1e-9 * max(s[0], 1e-300)).sum())) if s[0] > 0 else 0
    start = noise * 1e-2
    start[:, :rank] = u[:, :rank] * s[:rank] / (s[0] / np.sqrt(len(z)))
    return start * 1e-4
