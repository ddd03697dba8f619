"""The page and figures of a benchmark show its numbers, and no name a user gave runs in them."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from page import Page
from scarce.compare import ALL, COLUMNS, Comparison, differences, estimates
from scarce.report import comparison_figures, render_comparison, to_png, to_svg

MODELS = {"pca": "PCA", "mean": "Gene means", "random": "Random codes", "bvae": "β-VAE"}
HOSTILE = "<script>alert(1)</script>"


def comparison(datasets: tuple[str, ...], presets: tuple[str, ...] = ("default",)) -> Comparison:
    generator = np.random.default_rng(0)
    spaces = ("latent", "latent_leiden", "tsne2d")
    rows = [
        (d, m, p, s, space, metric, generator.uniform(), f"column {HOSTILE!r}")
        for d, m, p, s in itertools.product(datasets, MODELS, presets, (0, 1, 2))
        for space, metric in [
            *itertools.product(spaces, ("nmi", "ari")),
            ("latent", "r2"),
            ("latent", "seconds"),
        ]
    ]
    results = pd.DataFrame(rows, columns=COLUMNS)
    facts = {"n_cells_read": 10, "n_cells": 9, "n_genes": 8, "n_types": 2, "circular": True}
    return Comparison(
        results=results,
        estimates=estimates(results),
        differences=differences(results, floor=0.02),
        floor=0.02,
        titles=MODELS,
        datasets=tuple(facts | {"name": d, "label_source": HOSTILE} for d in datasets),
        failures=(
            {
                "dataset": datasets[0],
                "model": "bvae",
                "preset": "default",
                "seed": 3,
                "key": "abc",
                "error": HOSTILE,
            },
        ),
        config={"labels": [HOSTILE], "epochs": None},
        environment={"torch": "2.13"},
        warnings=(HOSTILE,),
    )


@pytest.fixture(scope="module")
def several() -> Comparison:
    return comparison(("one", HOSTILE, "three"))


@pytest.fixture(scope="module")
def figures(several: Comparison) -> dict[str, Figure]:
    return comparison_figures(several)


@pytest.fixture(scope="module")
def page(several: Comparison, figures: dict[str, Figure]) -> str:
    return render_comparison(several, figures)


def words(figure: Figure) -> str:
    artists = [figure, *figure.axes]
    return "\n".join(text.get_text() for a in artists for text in a.findobj(match=Text))


def test_names_a_user_gave_are_text(page: str, figures: dict[str, Figure]) -> None:
    assert not Page(page).scripts()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<img") == len(figures)


def test_the_page_shows_means_with_intervals_and_equal_input_gives_equal_bytes(
    several: Comparison, page: str
) -> None:
    row = several.estimates.query("model == 'bvae' and metric == 'ari' and space == 'latent'")
    assert f"{row['mean'].iloc[0]:.3f}" in page
    assert f"{row['high'].iloc[0]:.3f}" in page
    assert "Trials that failed" in page
    assert "trials/abc" in page
    assert page == render_comparison(several)


def test_one_data_set_and_one_method_still_make_a_page(several: Comparison) -> None:
    page = render_comparison(comparison(("one",)))
    assert "says nothing about another" in page
    alone = several.results[several.results["model"] == "mean"]
    lonely = replace(
        several,
        results=alone,
        estimates=estimates(alone),
        differences=differences(alone, floor=0.02),
    )
    assert "Gene means" in render_comparison(lonely)


def test_methods_with_no_data_set_in_common_still_make_a_page(several: Comparison) -> None:
    results = several.results
    both = results[results["dataset"] != HOSTILE]
    apart = both[both["model"] != both["dataset"].map({"one": "bvae", "three": "pca"})]
    page = replace(
        several,
        results=apart,
        estimates=estimates(apart),
        differences=differences(apart, floor=0.02),
    )
    assert "β-VAE" in render_comparison(page, comparison_figures(page))


def test_a_benchmark_in_which_all_trials_failed_still_makes_a_page(several: Comparison) -> None:
    lost = several.results.assign(value=np.nan, metric="error: no", space="latent")
    empty = replace(
        several,
        results=lost,
        estimates=estimates(lost),
        differences=differences(lost, floor=0.02),
    )
    assert "Trials that failed" in render_comparison(empty)


def test_forest_draws_every_difference_from_pca(
    several: Comparison, figures: dict[str, Figure]
) -> None:
    figure = figures["forest_ari"]
    axes = figure.axes[0]
    drawn = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    table = several.differences.query("space == 'latent' and metric == 'ari'")
    np.testing.assert_allclose(drawn, -table["difference"])  # the table has PCA first
    assert "all data sets" in words(figure)
    assert len(table[table["dataset"] == ALL]) == 1


def test_ranks_name_the_critical_difference_and_leave_out_chance(
    figures: dict[str, Figure],
) -> None:
    text = words(figures["ranks_ari"])
    # Two methods on three data sets: 1.960 * sqrt(2 * 3 / (6 * 3)).
    assert "critical difference 1.13" in text
    assert "Random codes" not in text
    assert "mean rank over 3 data sets" in text


def test_presets_are_named_where_there_are_several_and_figures_can_be_saved() -> None:
    figures = comparison_figures(comparison(("one",), ("default", "paper")))
    assert "β-VAE (paper)" in words(figures["forest_nmi"])
    for figure in figures.values():
        assert to_png(figure, dpi=50)
        assert to_svg(figure)
