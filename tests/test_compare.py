"""Verdicts hold their promises on planted differences; intervals and ranks equal the textbook's."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scarce.compare import (
    ALL,
    COLUMNS,
    critical_difference,
    differences,
    estimates,
    mean_ranks,
    wins,
)

FLOOR = 0.02


def scores(values: np.ndarray, models: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """Results of an array of models x data sets x seeds."""
    indices = itertools.product(*(range(n) for n in values.shape))
    rows = [
        (f"d{d}", models[m], "default", s, "latent", "ari", values[m, d, s], "column 'x'")
        for m, d, s in indices
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def planted(
    effect: float, seed: int, *, n_datasets: int = 6, n_seeds: int = 5, sd: float = 0.02
) -> pd.DataFrame:
    """Two methods on data sets of different difficulty; the first is better by `effect`.

    The difference varies by `sd` between data sets, every score by `sd` between seeds.
    """
    generator = np.random.default_rng(seed)
    difficulty = generator.uniform(0.3, 0.8, (1, n_datasets, 1))
    values = np.repeat(np.repeat(difficulty, 2, axis=0), n_seeds, axis=2)
    values = values + generator.normal(0, sd, values.shape)
    values[0] += effect + generator.normal(0, sd, (n_datasets, 1))
    return scores(values)


def verdict(results: pd.DataFrame) -> str:
    table = differences(results, floor=FLOOR)
    return str(table.loc[table["dataset"] == ALL, "verdict"].item())


def test_equal_methods_are_called_a_tie() -> None:
    verdicts = [verdict(planted(0.0, seed)) for seed in range(200)]
    assert verdicts.count("tie") >= 180


def test_a_planted_difference_is_found() -> None:
    verdicts = [verdict(planted(0.05, seed)) for seed in range(200)]
    assert verdicts.count("better") >= 180
    assert "worse" not in verdicts


def test_the_difference_of_swapped_methods_is_the_negative() -> None:
    results = planted(0.05, 1)
    swapped = results.replace({"model": {"a": "b", "b": "a"}}).sort_values(
        ["model", "dataset", "seed"], kind="stable"
    )
    one, other = (differences(r, floor=FLOOR) for r in (results, swapped))
    np.testing.assert_allclose(one["difference"], -other["difference"])
    np.testing.assert_allclose(one["low"], -other["high"])
    turned = one["verdict"].replace({"better": "worse"})
    assert turned.tolist() == other["verdict"].tolist()
    assert "worse" in turned.tolist()


def test_on_one_data_set_the_interval_is_the_paired_t_test() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.05, (2, 1, 8))
    table = differences(scores(values), floor=0.0)
    test = stats.ttest_rel(values[0, 0], values[1, 0]).confidence_interval(0.95)
    assert len(table) == 1
    assert (table["low"].item(), table["high"].item()) == pytest.approx((test.low, test.high))


@pytest.mark.parametrize("n_datasets", [3, 6])
def test_equal_methods_are_rarely_told_apart_however_few_the_data_sets(n_datasets: int) -> None:
    planted_ones = (planted(0.0, s, n_datasets=n_datasets, n_seeds=1, sd=0.1) for s in range(200))
    verdicts = [verdict(results) for results in planted_ones]
    decided = verdicts.count("better") + verdicts.count("worse")
    assert decided <= 20  # 5 %, and three standard deviations of a binomial


def test_more_seeds_do_not_narrow_the_interval_over_data_sets() -> None:
    widths = []
    for n_seeds in (2, 50):
        generator = np.random.default_rng(3)
        gaps = generator.normal(0, 0.05, (6, 1))
        values = np.stack([0.5 + np.repeat(gaps, n_seeds, 1), np.full((6, n_seeds), 0.5)])
        pooled = differences(scores(values), floor=FLOOR).iloc[-1]
        widths.append(pooled["high"] - pooled["low"])
    assert widths[0] == pytest.approx(widths[1])


def test_wilcoxon_needs_six_data_sets_and_holm_corrects_for_the_pairs() -> None:
    generator = np.random.default_rng(0)
    effects = np.array([0.2, 0.1, 0.0])[:, None, None]
    values = 0.4 + effects + generator.normal(0, 0.01, (3, 8, 2))
    table = differences(scores(values, ("a", "b", "c")), floor=FLOOR)
    pooled = table[table["dataset"] == ALL]
    for row, (i, j) in zip(pooled.to_dict("records"), [(0, 1), (0, 2), (1, 2)], strict=True):
        gaps = values[i].mean(1) - values[j].mean(1)
        assert row["p_wilcoxon"] == pytest.approx(stats.wilcoxon(gaps).pvalue)
    expected = [1.0] * 3
    order = np.argsort(pooled["p_wilcoxon"].to_numpy(), kind="stable")
    ascending = pooled["p_wilcoxon"].to_numpy()[order]
    for rank, place in enumerate(order):
        expected[place] = max((3 - k) * ascending[k] for k in range(rank + 1))
    np.testing.assert_allclose(pooled["p_holm"], expected)
    few = differences(scores(values[:, :5], ("a", "b", "c")), floor=FLOOR)
    assert few["p_wilcoxon"].isna().all()


def test_a_large_difference_that_is_not_sure_is_undecided_not_a_tie() -> None:
    generator = np.random.default_rng(0)
    values = np.stack([0.5 + generator.normal(0.1, 0.4, (4, 3)), np.full((4, 3), 0.5)])
    pooled = differences(scores(values), floor=FLOOR).iloc[-1]
    assert abs(pooled["difference"]) > FLOOR
    assert pooled["verdict"] == "undecided"


def test_methods_are_paired_by_seed_and_missing_trials_drop_out() -> None:
    values = np.zeros((2, 1, 4))
    values[0, 0] = [0.5, 0.6, 0.7, 0.8]
    values[1, 0] = [0.4, 0.5, 0.6, 0.0]
    results = scores(values)
    lost = (results["model"] == "b") & (results["seed"] == 3)
    results.loc[lost, "value"] = np.nan
    row = differences(results, floor=FLOOR).iloc[0]
    assert row["n"] == 3
    assert row["difference"] == pytest.approx(0.1)


def test_gene_means_and_random_codes_are_not_opponents() -> None:
    values = np.random.default_rng(0).uniform(size=(3, 2, 3))
    assert differences(scores(values, ("pca", "mean", "random")), floor=FLOOR).empty


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_estimates_are_means_with_students_interval(sample: list[float]) -> None:
    row = estimates(scores(np.array(sample)[None, None], ("a",))).iloc[0]
    assert row["mean"] == pytest.approx(np.mean(sample))
    spread = stats.sem(sample)
    if spread > 1e-9:
        low, high = stats.t.interval(0.95, len(sample) - 1, np.mean(sample), spread)
        assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    row = estimates(scores(np.full((1, 1, 1), 0.4), ("a",))).iloc[0]
    assert row["mean"] == 0.4
    assert np.isnan([row["sd"], row["low"], row["high"]]).all()


def test_ranks_are_means_over_data_sets_with_the_best_first() -> None:
    values = np.array([[0.9, 0.1], [0.5, 0.8], [0.2, 0.5]])[:, :, None]
    ranks, n_datasets = mean_ranks(estimates(scores(values, ("a", "b", "c"))), "latent", "ari")
    assert n_datasets == 2
    assert ranks.to_dict() == {("b", "default"): 1.5, ("a", "default"): 2.0, ("c", "default"): 2.5}


def test_critical_difference_equals_the_table_of_demsar() -> None:
    quantiles = {2: 1.960, 3: 2.343, 4: 2.569, 6: 2.850, 10: 3.164}
    for k, q in quantiles.items():
        expected = q * np.sqrt(k * (k + 1) / (6 * 14))
        assert critical_difference(k, 14) == pytest.approx(expected, rel=1e-3)


def test_wins_count_every_verdict_from_both_sides() -> None:
    generator = np.random.default_rng(0)
    effects = np.array([0.2, 0.0, 0.0])[:, None, None]
    values = 0.4 + effects + generator.normal(0, 0.005, (3, 4, 2))
    counts = wins(differences(scores(values, ("a", "b", "c")), floor=FLOOR), "latent", "ari")
    assert counts.loc[("a", "default")].tolist() == [2, 0, 0, 0]
    assert counts.loc[("b", "default")].tolist() == [0, 1, 1, 0]
    assert (counts.sum(axis=1) == 2).all()
