"""Figures on one's own axes, in the colours of the report."""

from dataclasses import replace

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from scipy import stats

from scarce import pl
from scarce.errors import InputError
from scarce.report.palette import COLOURS
from scarce.summary import RunSummary
from summaries import TITLES, make_summary


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    generator = np.random.default_rng(0)
    kinds = np.repeat(["big", "small"], [40, 20])
    points = np.where(kinds == "big", -5.0, 5.0)[:, None] + generator.normal(size=(60, 2))
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(kinds),
            "n_counts": generator.uniform(100, 200, 60),
            "kmeans_tsne2d_bvae": pd.Categorical(np.where(kinds == "big", "0", "1")),
        },
        index=[f"c{i}" for i in range(60)],
    )
    var = pd.DataFrame(index=["CD3E", "NKG7"])
    x = generator.uniform(0, 4, (60, 2))
    return ad.AnnData(x, obs=obs, var=var, obsm={"X_tsne_bvae": points})


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary(n_cells=40, types=("one", "two"))


def test_types_are_drawn_on_the_given_axes_in_the_colours_of_the_report(
    adata: ad.AnnData,
) -> None:
    axes = Figure().add_subplot()
    assert pl.tsne(adata, "bvae", ax=axes) is axes
    colours = [to_hex(group.get_facecolor()[0]) for group in axes.collections]
    assert colours == [COLOURS[0].lower(), COLOURS[1].lower()]
    assert [len(group.get_offsets()) for group in axes.collections] == [40, 20]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["big", "small"]


def test_maps_can_be_drawn_on_each_other(adata: ad.AnnData) -> None:
    axes = pl.tsne(adata, "bvae", ax=Figure().add_subplot())
    assert len(pl.tsne(adata, "bvae", ax=axes).collections) == 4


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_text_is_drawn_in_groups_however_it_is_held(adata: ad.AnnData, dtype: object) -> None:
    adata.obs["donor"] = pd.Series(["x", "y"] * 30, index=adata.obs_names).astype(dtype)
    axes = pl.tsne(adata, "bvae", color="donor", ax=Figure().add_subplot())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x", "y"]


@pytest.mark.parametrize("color", ["CD3E", "n_counts"])
def test_numbers_are_drawn_from_pale_to_dark_the_highest_on_top(
    adata: ad.AnnData, color: str
) -> None:
    axes = pl.tsne(adata, "bvae", color=color, ax=Figure().add_subplot())
    (drawn,) = axes.collections
    values = adata.obs_vector(color)
    np.testing.assert_allclose(np.asarray(drawn.get_array()), np.sort(values))
    np.testing.assert_allclose(
        np.asarray(drawn.get_offsets())[-1], adata.obsm["X_tsne_bvae"][np.argmax(values)]
    )


def test_clusters_wear_their_commonest_type_and_centroids_are_means(adata: ad.AnnData) -> None:
    axes = pl.kmeans(adata, "bvae", ax=Figure().add_subplot())
    first, second = axes.collections[:2]
    assert to_hex(first.get_facecolor()[0]) == COLOURS[0].lower()
    assert to_hex(second.get_facecolor()[0]) == COLOURS[1].lower()
    points = adata.obsm["X_tsne_bvae"]
    expected = [points[:40].mean(axis=0), points[40:].mean(axis=0)]
    np.testing.assert_allclose(np.asarray(axes.collections[-1].get_offsets()), expected)


def test_clusters_without_cells_leave_the_others_their_numbers_and_borders(
    adata: ad.AnnData,
) -> None:
    part = adata.copy()
    part.obs["kmeans_tsne2d_bvae"] = ["0"] * 20 + ["1"] * 20 + ["2"] * 20
    axes = pl.kmeans(part[20:].copy(), "bvae", ax=Figure().add_subplot())
    assert {text.get_text().strip() for text in axes.texts} == {"1", "2"}
    borders = [drawn for drawn in axes.collections if isinstance(drawn, ContourSet)]
    assert any(path.vertices.size for drawn in borders for path in drawn.get_paths())


def test_confusion_shows_the_share_of_each_type(adata: ad.AnnData) -> None:
    axes = pl.confusion(adata, "bvae", ax=Figure().add_subplot())
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), np.eye(2))


def test_scores_are_means_with_the_interval_of_student(summary: RunSummary) -> None:
    axes = pl.scores(summary, metrics=("ari",), ax=Figure().add_subplot())
    models = [text.get_text() for text in axes.get_yticklabels()]
    assert models == ["PCA (baseline)", *list(TITLES.values())[1:]]
    *lines, points = axes.lines
    for model, line, mean in zip(TITLES, lines, points.get_xdata(), strict=True):
        found = [s.ari for s in summary.scores if s.model == model and s.space == "latent"]
        low, high = stats.t.interval(0.95, len(found) - 1, np.mean(found), stats.sem(found))
        np.testing.assert_allclose(line.get_xdata(), (low, high))
        assert mean == pytest.approx(np.mean(found))
    both = pl.scores(summary, space="tsne2d", ax=Figure().add_subplot())
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["NMI", "ARI"]


def test_one_seed_has_points_and_no_interval() -> None:
    alone = make_summary(n_cells=20, types=("one", "two"), seeds=(1,))
    axes = pl.scores(alone, metrics=("nmi",), ax=Figure().add_subplot())
    assert "one seed" in axes.get_xlabel()
    assert all(np.isnan(line.get_xdata()).all() for line in axes.lines[:-1])
    assert np.isfinite(axes.lines[-1].get_xdata()).all()


def test_loss_is_drawn_as_it_was_recorded(summary: RunSummary) -> None:
    axes = pl.loss(summary, "bvae", ax=Figure().add_subplot())
    runs = [run for run in summary.runs if run.model == "bvae"]
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    assert drawn == {curve for run in runs for curve in run.history.values()}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["trained on", "held out"]


def test_markers_are_dots_of_the_share_of_cells(summary: RunSummary) -> None:
    assert summary.dots is not None
    axes = pl.markers(summary, ax=Figure().add_subplot())
    sizes = axes.collections[0].get_sizes()
    np.testing.assert_allclose(
        sizes / sizes.max(), summary.dots.fraction.ravel() / summary.dots.fraction.max()
    )
    assert [text.get_text() for text in axes.get_yticklabels()] == list(summary.dots.groups)


def test_what_the_summary_does_not_have_is_named(summary: RunSummary) -> None:
    with pytest.raises(InputError, match="model must be one of 'dae', 'bvae', 'bvsc'; found 'pca'"):
        pl.loss(summary, "pca")
    with pytest.raises(InputError, match=r"metric must be one of .*; found 'auc'"):
        pl.scores(summary, metrics=("auc",))
    with pytest.raises(InputError, match="space must be one of 'latent', 'tsne2d'; found 'umap'"):
        pl.scores(summary, space="umap")
    bare = replace(summary, scores=(), dots=None)
    with pytest.raises(InputError, match="must hold scores; found none"):
        pl.scores(bare)
    with pytest.raises(InputError, match="must hold marker genes; found none"):
        pl.markers(bare)


def test_without_axes_a_figure_is_made(adata: ad.AnnData) -> None:
    with mpl.rc_context({"backend": "agg"}):
        import matplotlib.pyplot as plt

        axes = pl.confusion(adata, "bvae")
        assert axes.get_figure() in [plt.figure(number) for number in plt.get_fignums()]
        plt.close("all")


def test_what_the_cells_do_not_have_is_named(adata: ad.AnnData) -> None:
    with pytest.raises(InputError, match="model must be one of 'bvae'; found 'dae'"):
        pl.tsne(adata, "dae")
    with pytest.raises(InputError, match="column of obs or a gene; found neither for 'CD4'"):
        pl.tsne(adata, "bvae", color="CD4")
