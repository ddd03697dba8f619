"""Maps repeat themselves, keep neighbours, and survive latent spaces that collapsed."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from scarce import layout
from scarce.layout import neighbourhood, tsne

BLOBS = np.concatenate(
    [np.random.default_rng(i).normal(8 * i, 1, (40, 6)) for i in range(4)]
).astype(np.float32)


@pytest.mark.parametrize(("n_components", "many"), [(2, 10_000), (2, 100), (3, 10_000)])
def test_same_seed_same_map(n_components: int, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MANY_CELLS", many)  # from which maps are drawn another way
    monkeypatch.setattr(layout, "_EARLY_STEPS", 50)
    monkeypatch.setattr(layout, "_STEPS", 50)
    maps = [tsne(neighbourhood(BLOBS, perplexity=15), n_components) for _ in range(2)]
    np.testing.assert_array_equal(*maps)
    assert maps[0].shape == (160, n_components)


@pytest.mark.parametrize("n_components", [2, 3])
def test_neighbours_on_the_map_share_a_blob(n_components: int) -> None:
    points = tsne(neighbourhood(BLOBS, perplexity=15), n_components)
    near = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(return_distance=False)
    assert (near // 40 == np.arange(160)[:, None] // 40).mean() > 0.98


@pytest.mark.parametrize(
    "z",
    [
        np.zeros((30, 3)),
        np.random.default_rng(0).normal(size=(30, 1)),
        np.random.default_rng(0).normal(size=(5, 3)),
    ],
    ids=["all cells alike", "one dimension", "five cells"],
)
def test_degenerate_spaces_still_give_finite_maps(z: np.ndarray) -> None:
    for n_components in (2, 3):
        points = tsne(neighbourhood(z), n_components)
        assert points.shape == (len(z), n_components)
        assert np.isfinite(points).all()
