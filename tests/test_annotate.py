"""Reference clustering: every step against its formula, computed another way."""

import random
from dataclasses import replace

import anndata as ad
import igraph
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from scarce.annotate import annotate, dots, marker_genes
from scarce.annotate.communities import climb, communities, join_single_cells, to_graph
from scarce.annotate.components import components
from scarce.annotate.graph import neighbours, shared_neighbours
from scarce.annotate.stability import recommend, sweep
from scarce.errors import InputError
from scarce.preprocess import normalise, variable_genes
from scarce.summary import Stability


def scaled(x: np.ndarray) -> np.ndarray:
    """Seurat's ScaleData, as its manual says it, on the dense table."""
    deviation = x.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.minimum((x - x.mean(axis=0)) / deviation, 10), nan=0.0)


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """Three types of 150, 90 and 60 cells, each with sixty genes of its own."""
    kinds = np.repeat([0, 1, 2], [150, 90, 60])
    own = np.arange(200) // 60 == kinds[:, None]
    x = np.random.default_rng(0).poisson(np.where(own, 2.0, 0.5)).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(x))
    adata.obs["cell_type"] = np.array(["a", "b", "c"])[kinds]
    normalise(adata)
    return adata


def test_components_are_the_svd_without_centring_again() -> None:
    x = np.random.default_rng(0).poisson(0.4, (300, 40)).astype(float)
    x[0, 0] = 400  # clipped, so that the column means are no longer zero
    x[:, 3] = 0
    u, d, _ = np.linalg.svd(scaled(x), full_matrices=False)
    found = components(sp.csr_matrix(x), 5)
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :5] * d[:5]), atol=1e-8)


def test_no_more_components_than_genes() -> None:
    assert components(sp.csr_matrix(np.eye(6)[:, :4]), 10).shape == (6, 4)


def test_neighbours_are_those_of_brute_force_and_the_cell_itself() -> None:
    points = np.random.default_rng(0).normal(size=(200, 10))
    _, expected = NearestNeighbors(n_neighbors=20, algorithm="brute").fit(points).kneighbors(points)
    np.testing.assert_array_equal(np.sort(neighbours(points), axis=1), np.sort(expected, axis=1))


def test_identical_cells_are_still_their_own_neighbours() -> None:
    found = neighbours(np.zeros((50, 3)))
    assert all(cell in row for cell, row in enumerate(found))
    assert all(len(set(row)) == 20 for row in found.tolist())


@given(st.integers(5, 25), st.integers(2, 20), st.integers(0, 100))
def test_weights_are_jaccards_index_of_neighbour_sets(n: int, k: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, 3))
    nearest = neighbours(points, k)
    found = shared_neighbours(nearest).toarray()
    sets = [set(row) for row in nearest.tolist()]
    for i in range(n):
        for j in range(n):
            index = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
            expected = index if j > i and index >= 1 / 15 else 0
            assert found[i, j] == pytest.approx(expected)


def test_blocks_of_cells_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = neighbours(np.random.default_rng(0).normal(size=(100, 3)))
    whole = shared_neighbours(nearest)
    monkeypatch.setattr("scarce.annotate.graph._BLOCK", 7)
    np.testing.assert_array_equal(shared_neighbours(nearest).toarray(), whole.toarray())


def two_cliques() -> igraph.Graph:
    weights = np.kron(np.diag([1.0, 0.5]), np.ones((6, 6)))
    weights = np.delete(weights, 11, axis=0)
    weights = np.delete(weights, 11, axis=1)
    weights[0, 10] = 0.1
    return to_graph(sp.coo_matrix(np.triu(weights, 1)))


def test_cliques_are_found_largest_first_with_their_modularity() -> None:
    found = communities(two_cliques(), resolution=0.5)
    np.testing.assert_array_equal(found.clusters, [0] * 6 + [1] * 5)
    # 15 edges of weight 1, 10 of 0.5 and one of 0.1 between; degrees 30.1 and 10.1 of 40.2.
    inside, degrees, total = np.array([30.0, 10.0]), np.array([30.1, 10.1]), 40.2
    expected = ((inside - 0.5 * degrees**2 / total) / total).sum()
    assert found.modularity == pytest.approx(expected)


def test_no_single_start_is_better_than_the_best() -> None:
    graph = to_graph(shared_neighbours(neighbours(np.random.default_rng(0).normal(size=(200, 5)))))
    best = communities(graph, resolution=1, seed=3)
    for seed in range(5):
        assert climb(graph, resolution=1, seed=seed).modularity <= best.modularity
    np.testing.assert_array_equal(communities(graph, resolution=1, seed=3).clusters, best.clusters)


def test_global_random_numbers_are_left_alone() -> None:
    before, state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    communities(two_cliques(), resolution=0.5, seed=5)
    assert random.getstate() == before
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_single_cell_joins_the_cluster_around_it() -> None:
    clusters = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    nearest = np.array([[i, i] for i in range(6)] + [[6, 5], [7, 6]])
    # The last cell's only neighbour is alone as well, so it stays.
    np.testing.assert_array_equal(join_single_cells(clusters, nearest), [0, 0, 0, 0, 1, 1, 1, 2])


def test_planted_types_are_found_stable_and_come_back(
    cells: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scarce.annotate.stability._N_PARTS", 3)
    first, second = annotate(cells, seed=2), annotate(cells, seed=2)
    assert adjusted_rand_score(cells.obs["cell_type"], first.clusters) > 0.95
    assert (first.resolution, first.stability[3].n_clusters) == (0.5, 3)
    assert first.recommended is not None
    assert first.recommended >= 0.5
    assert first.clusters.equals(second.clusters)
    assert first.stability == second.stability
    assert list(first.clusters.index) == list(cells.obs_names)


def test_without_a_single_marker_gene_clusters_stay_numbered(cells: ad.AnnData) -> None:
    found = annotate(cells, resolution=0.5)
    assert {n.cell_type for n in found.naming} == {f"unknown {n.cluster}" for n in found.naming}
    assert all(n.best == n.runner_up == "" and n.reason for n in found.naming)
    assert (found.cell_types == "unknown " + found.clusters.astype(str)).all()


def test_a_resolution_the_user_gives_is_used_and_no_other_is_tried(cells: ad.AnnData) -> None:
    coarse, fine = (annotate(cells, resolution=r) for r in (0.01, 3.0))
    assert coarse.clusters.nunique() < fine.clusters.nunique()
    assert (fine.resolution, fine.stability, fine.recommended) == (3.0, (), None)
    with pytest.raises(InputError, match="resolution must be above 0; found 0"):
        annotate(cells, resolution=0)


def test_the_input_is_left_alone(cells: ad.AnnData) -> None:
    before = cells.copy()
    annotate(cells, resolution=0.5)
    assert list(cells.var) == list(before.var)
    assert list(cells.obs) == list(before.obs)
    np.testing.assert_array_equal(cells.X.toarray(), before.X.toarray())


def test_separate_groups_are_stable_and_groups_cut_at_random_are_not() -> None:
    generator = np.random.default_rng(0)
    points = 20 * np.eye(5)[np.arange(400) % 4] + generator.normal(size=(400, 5))
    coarse, fine = sweep(points, resolutions=(0.1, 6.0))
    assert (coarse.n_clusters, coarse.restarts, coarse.subsamples) == (4, 1, 1)
    assert fine.n_clusters > 4
    assert fine.subsamples < 0.8


STABLE = Stability(0.1, 3, 1.0, 0.95)


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ([(0.5, 5, 0.95, 0.92)], 0.5),
        ([(0.5, 5, 0.95, 0.85)], 0.1),
        ([(0.5, 5, 0.85, 0.95)], 0.1),
        ([(0.5, 5, 0.95, 0.85), (0.8, 7, 1.0, 1.0)], 0.1),
    ],
)
def test_the_last_resolution_before_agreement_breaks_is_recommended(
    then: list[tuple[float, int, float, float]], expected: float
) -> None:
    assert recommend([STABLE, *(Stability(*entry) for entry in then)]) == expected


def test_undivided_cells_are_recommended_only_where_nothing_divides_them() -> None:
    one = replace(STABLE, resolution=0.05, n_clusters=1, subsamples=1.0)
    shaky = Stability(0.5, 4, 0.6, 0.6)
    assert recommend([one, shaky]) == 0.5
    assert recommend([one]) == 0.05


def test_marker_scores_are_rank_sums_and_the_planted_gene_is_first() -> None:
    rates = np.ones((90, 30))
    rates[:30, 4] = rates[30:60, 7] = 8
    x = np.random.default_rng(0).poisson(rates).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(x))
    adata.var_names = [f"g{i}" for i in range(30)]
    normalise(adata)
    groups = np.repeat(["a", "b", "c"], 30)
    found = marker_genes(adata, groups)
    first = {marker.group: marker for marker in reversed(found)}
    assert (first["a"].gene, first["b"].gene) == ("g4", "g7")
    values = adata.X.toarray()[:, 4]
    expected = stats.ranksums(values[:30], values[30:]).statistic
    assert first["a"].score == pytest.approx(expected, rel=1e-5)
    assert first["a"].fraction_in == (x[:30, 4] > 0).mean()
    assert first["a"].fraction_out == pytest.approx((x[30:, 4] > 0).mean())
    change = np.log2(np.expm1(values[:30].mean()) / np.expm1(values[30:].mean()))
    assert first["a"].log2_fold_change == pytest.approx(change, rel=1e-3)
    assert all(marker.p_adjusted < 0.05 and marker.score > 0 for marker in found)


def test_a_group_of_one_cell_and_a_single_group_have_no_markers(cells: ad.AnnData) -> None:
    kinds = cells.obs["cell_type"].to_numpy(str)
    kinds[0] = "alone"
    assert "alone" not in {marker.group for marker in marker_genes(cells, kinds)}
    assert marker_genes(cells, np.full(300, "all")) == ()


def test_the_test_of_large_groups_looks_at_some_of_their_cells(
    cells: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = cells.obs["cell_type"].to_numpy(str)
    monkeypatch.setattr("scarce.annotate.markers._MOST_CELLS", 20)
    some, again = (marker_genes(cells, kinds, seed=1) for _ in range(2))
    assert some == again
    shares = {round(20 * marker.fraction_in, 6) for marker in some}
    assert all(share.is_integer() for share in shares)


def test_dots_hold_shares_and_means_of_the_largest_groups_first(cells: ad.AnnData) -> None:
    kinds = cells.obs["cell_type"].to_numpy(str)
    found = dots(cells, kinds, marker_genes(cells, kinds), n_genes=2)
    assert found is not None
    sizes = [(kinds == group).sum() for group in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    assert len(found.genes) == len(set(found.genes)) <= 6
    for i, group in enumerate(found.groups):
        part = cells[kinds == group, list(found.genes)].X.toarray()
        np.testing.assert_allclose(found.mean[i], part.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found.fraction[i], (part > 0).mean(axis=0))
    assert dots(cells, kinds, ()) is None


def test_many_genes_of_one_mean_do_not_stop_the_choice_of_variable_genes() -> None:
    generator = np.random.default_rng(0)
    x = generator.poisson(np.geomspace(0.02, 5, 300), (400, 300)).astype(np.float32)
    once = np.zeros((400, 3000), np.float32)
    once[generator.integers(400, size=3000), np.arange(3000)] = 1
    adata = ad.AnnData(sp.csr_matrix(np.hstack([x, once])))
    normalise(adata)
    note = variable_genes(adata, 100)
    assert note is not None
    assert "found in at least 3 cells" in note
    assert adata.var["highly_variable"].sum() == 100
    assert not adata.var["highly_variable"].to_numpy()[300:].any()
