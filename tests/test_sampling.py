"""A part of the cells stands for all of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scarce.sampling import keep_shares


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 120))
def test_a_part_of_the_cells_keeps_the_share_of_every_type(sizes: list[int], most: int) -> None:
    labels = np.repeat([f"type {i}" for i in range(len(sizes))], sizes)
    drawn = keep_shares(labels, most)
    assert len(drawn) == min(most, len(labels))
    assert (np.diff(drawn) > 0).all()
    for kind, size in zip(np.unique(labels), sizes, strict=True):
        n_drawn = int((labels[drawn] == kind).sum())
        assert abs(n_drawn - size * len(drawn) / len(labels)) < 1


def test_a_part_of_the_cells_keeps_densities_on_a_map() -> None:
    points = np.random.default_rng(0).normal(size=60_000)
    drawn = keep_shares(np.repeat("one", 60_000), 20_000)
    bins = np.linspace(-2, 2, 9)
    of_all, of_part = (np.histogram(x, bins)[0] / len(x) for x in (points, points[drawn]))
    # Four standard deviations of a share of 0.2 among 20,000 draws.
    np.testing.assert_allclose(of_part, of_all, atol=4 * np.sqrt(0.2 * 0.8 / 20_000))
