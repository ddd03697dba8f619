"""k-means finds separated groups, repeats itself, and orders clusters by size."""

import numpy as np

from scarce.cluster import kmeans


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
