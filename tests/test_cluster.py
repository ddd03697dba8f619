"""k-means and Leiden find separated groups, repeat themselves, and order clusters by size."""

import random

import numpy as np
import pytest

from scarce.cluster import kmeans, leiden


def blobs() -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([0, 1, 2], [10, 50, 30])
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    return centres[truth] + np.random.default_rng(0).normal(size=(90, 2)), truth


def test_finds_separated_groups_largest_first() -> None:
    z, truth = blobs()
    found = kmeans(z, 3)
    np.testing.assert_array_equal(found.labels, np.array([2, 0, 1])[truth])
    for k in range(3):
        np.testing.assert_allclose(found.centroids[k], z[found.labels == k].mean(0))


def test_same_seed_same_clusters() -> None:
    z, _ = blobs()
    first, second = kmeans(z, 5, seed=3), kmeans(z, 5, seed=3)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.centroids, second.centroids)


def test_no_more_clusters_than_distinct_points() -> None:
    found = kmeans(np.array([[0.0, 0], [0, 0], [1, 1]]), 3)
    assert len(found.centroids) == 2


def test_leiden_finds_separated_groups_largest_first() -> None:
    z, truth = blobs()
    found = leiden(z, 3)
    np.testing.assert_array_equal(found.labels, np.array([2, 0, 1])[truth])
    for k in range(3):
        np.testing.assert_allclose(found.centroids[k], z[found.labels == k].mean(0))


@pytest.mark.parametrize("n_clusters", [2, 3, 5, 8])
def test_leiden_gives_the_number_of_clusters_asked_for(n_clusters: int) -> None:
    z = np.random.default_rng(0).normal(size=(400, 5))
    assert len(leiden(z, n_clusters).centroids) == n_clusters


def test_leiden_repeats_itself_and_leaves_the_random_state_alone() -> None:
    z = np.random.default_rng(0).normal(size=(200, 4))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first = leiden(z, 6, seed=1)
    assert random.random() == expected
    np.testing.assert_array_equal(first.labels, leiden(z, 6, seed=1).labels)


def test_identical_cells_are_one_cluster() -> None:
    assert len(leiden(np.ones((30, 2)), 3).centroids) == 1
