"""Scores equal scikit-learn's, and mean what their docstrings say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from scarce.metrics import active_units, agreement, neighbour_agreement, silhouette

partitions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30)


@given(partitions)
def test_agreement_equals_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, clusters = np.array(pairs).T
    ours = agreement(labels, clusters)
    arithmetic = sk.normalized_mutual_info_score(labels, clusters, average_method="arithmetic")
    assert ours["nmi"] == pytest.approx(arithmetic, abs=1e-12)
    assert ours["ari"] == pytest.approx(sk.adjusted_rand_score(labels, clusters), abs=1e-12)
    assert ours["homogeneity"] == pytest.approx(sk.homogeneity_score(labels, clusters), abs=1e-12)
    assert ours["completeness"] == pytest.approx(sk.completeness_score(labels, clusters), abs=1e-12)


@given(partitions)
def test_renaming_clusters_changes_nothing(pairs: list[tuple[int, int]]) -> None:
    labels, clusters = np.array(pairs).T
    renamed = np.array(["d", "a", "c", "b"])[clusters]
    assert agreement(labels, clusters) == pytest.approx(agreement(labels, renamed))


def test_the_same_partition_scores_one() -> None:
    assert agreement(["a", "a", "b"], [1, 1, 0]) == pytest.approx(
        {"nmi": 1, "ari": 1, "homogeneity": 1, "completeness": 1}
    )


def test_silhouette_equals_scikit_learn_and_is_undefined_for_one_label() -> None:
    z = np.random.default_rng(0).normal(size=(40, 3))
    labels = np.repeat(["a", "b"], 20)
    assert silhouette(z, labels) == pytest.approx(sk.silhouette_score(z, labels))
    assert np.isnan(silhouette(z, np.repeat("a", 40)))


def test_silhouette_of_many_cells_is_a_repeatable_sample() -> None:
    z = np.random.default_rng(0).normal(size=(10_500, 2))
    labels = (z[:, 0] > 0).astype(int)
    assert silhouette(z, labels) == silhouette(z, labels) == pytest.approx(0.3, abs=0.1)


def test_silhouette_is_undefined_where_the_sample_misses_a_type() -> None:
    rare = np.repeat("a", 300_000)
    rare[-1] = "b"
    assert np.isnan(silhouette(np.zeros((300_000, 2)), rare))


def test_neighbour_agreement_equals_scikit_learn_leaving_one_out() -> None:
    generator = np.random.default_rng(2)
    labels = np.repeat(["b", "a", "rare"], [60, 40, 9])
    z = generator.normal(size=(109, 3)) + 1.5 * (labels == "a")[:, None]
    for k in (15, 6):
        found = cross_val_predict(KNeighborsClassifier(k), z, labels, cv=LeaveOneOut())
        ours = neighbour_agreement(z, labels, n_neighbors=k)
        balanced = sk.balanced_accuracy_score(labels, found)
        assert ours["knn_balanced_accuracy"] == pytest.approx(balanced)
        assert ours["knn_macro_f1"] == pytest.approx(sk.f1_score(labels, found, average="macro"))


def test_neighbours_tell_of_a_rare_type_that_accuracy_hides() -> None:
    labels = np.repeat(["common", "rare"], [980, 20])
    z = np.random.default_rng(0).normal(size=(1000, 2))
    assert neighbour_agreement(z, labels)["knn_balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
    z[labels == "rare"] += 10
    assert neighbour_agreement(z, labels)["knn_macro_f1"] == pytest.approx(1)


def test_active_units_are_those_that_vary() -> None:
    z = np.random.default_rng(0).normal(size=(500, 4)) * [1.0, 0.2, 0.05, 0.0]
    assert active_units(z) == 2
