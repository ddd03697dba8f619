"""The figures show what the summary holds, in colours everyone can tell apart."""

import dataclasses
import io
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from scarce.report import all_figures, maps, to_png, to_svg
from scarce.report.canvas import shown, to_webp
from scarce.report.charts import loss_curves, score_map
from scarce.report.confusion import Merge, confusion_map, merges
from scarce.report.dotplot import marker_dots
from scarce.report.maps import kmeans_map, map_2d, map_3d
from scarce.report.palette import COLOURS, styles
from scarce.report.render import pictures
from scarce.report.tables import number
from scarce.summary import RunSummary
from summaries import TITLES, make_summary

# Okabe & Ito (2008), "Color Universal Design".
OKABE_ITO = {
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
}

# Machado, Oliveira & Fernandes (2009), table 1, severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def seen(colour: str, vision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the CIE L*a*b* coordinates of a colour as seen with that vision."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    white = np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.cbrt(to_xyz @ np.clip(vision @ linear, 0, 1) / white)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def names(axes: Axes) -> list[Text]:
    """Return the texts written on a map, without the halo behind each."""
    return [text for text in axes.texts if not text.get_path_effects()]


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary()


@pytest.fixture(scope="module")
def figures(summary: RunSummary) -> dict[str, Figure]:
    return all_figures(summary)


def test_first_eight_colours_are_those_of_okabe_and_ito() -> None:
    assert set(COLOURS[:8]) == OKABE_ITO


@given(st.lists(st.text(), unique=True, max_size=130), st.integers(0, 130))
def test_style_of_a_type_depends_on_its_rank_alone(labels: list[str], rank: int) -> None:
    look = styles(labels)
    assert list(look) == labels
    for label, style in list(look.items())[rank : rank + 1]:
        assert style == styles([str(i) for i in range(rank)] + ["\0" + label])["\0" + label]


def test_first_120_types_differ_in_colour_or_shape() -> None:
    look = styles(str(i) for i in range(120)).values()
    assert len({(style.colour, style.shape) for style in look}) == 120


@pytest.mark.parametrize("vision", VISION)
def test_types_of_equal_shape_differ_in_colour_for_every_eye(vision: str) -> None:
    # CIE76 distances below 2.3 are not noticed; markers are small, so ask for ten times that.
    look = styles(str(i) for i in range(len(COLOURS))).values()
    nearest = min(
        float(np.linalg.norm(seen(a.colour, VISION[vision]) - seen(b.colour, VISION[vision])))
        for a, b in combinations(look, 2)
        if a.shape == b.shape
    )
    assert nearest > 23


@pytest.mark.parametrize("vision", VISION)
def test_fourteen_types_differ_in_colour_alone_for_every_eye(vision: str) -> None:
    colours = [seen(colour, VISION[vision]) for colour in COLOURS[:14]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > 9.2


def test_every_model_has_its_three_maps(figures: dict[str, Figure]) -> None:
    kinds = {
        f"{kind}_{model}" for kind in ("map", "kmeans", "confusion", "map3d") for model in TITLES
    }
    assert set(figures) == kinds | {"markers", "scores", "loss"}


def test_figures_without_data_are_left_out(summary: RunSummary) -> None:
    cells = dataclasses.replace(summary.cells, tsne2d={}, tsne3d={})
    runs = tuple(run for run in summary.runs if run.model == "pca")
    bare = dataclasses.replace(summary, cells=cells, runs=runs, scores=(), dots=None)
    assert all_figures(bare) == {}


@pytest.mark.parametrize(
    "stem", ["map_bvae", "kmeans_bvae", "map3d_bvae", "markers", "scores", "loss"]
)
def test_equal_summaries_give_equal_bytes(figures: dict[str, Figure], stem: str) -> None:
    again = make_summary()
    drawn = {
        "map_bvae": lambda: map_2d(again, "bvae"),
        "kmeans_bvae": lambda: kmeans_map(again, "bvae"),
        "map3d_bvae": lambda: map_3d(again, "bvae"),
        "markers": lambda: marker_dots(again.dots),
        "scores": lambda: score_map(again),
        "loss": lambda: loss_curves(again),
    }[stem]()
    assert to_png(drawn, dpi=100) == to_png(figures[stem], dpi=100)
    assert to_svg(drawn) == to_svg(figures[stem])


@pytest.mark.parametrize("stem", ["map_dae", "kmeans_dae", "map3d_dae", "scores", "loss"])
def test_saving_a_figure_does_not_change_it(figures: dict[str, Figure], stem: str) -> None:
    first = to_png(figures[stem], dpi=80)
    to_svg(figures[stem])
    assert to_png(figures[stem], dpi=80) == first


def test_settings_of_the_reader_change_no_byte(summary: RunSummary) -> None:
    plain = map_2d(summary, "bvae")
    expected = to_png(plain, dpi=100), to_svg(plain)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        loud = map_2d(summary, "bvae")
        found = to_png(loud, dpi=100), to_svg(loud)
        assert dict(mpl.rcParams) == before
    assert found == expected


def test_png_has_the_asked_resolution_and_no_origin(figures: dict[str, Figure]) -> None:
    def pixels(png: bytes) -> int:
        return int.from_bytes(png[16:20], "big")

    png = to_png(figures["loss"])
    assert pixels(png) == 2 * pixels(to_png(figures["loss"], dpi=150))
    assert b"tEXt" not in png
    assert b"tIME" not in png


def test_webp_has_the_pixels_of_the_png(figures: dict[str, Figure]) -> None:
    webp, png = to_webp(figures["map_bvae"]), to_png(figures["map_bvae"], dpi=150)
    with Image.open(io.BytesIO(webp)) as small, Image.open(io.BytesIO(png)) as large:
        np.testing.assert_array_equal(np.asarray(small.convert("RGB")), large.convert("RGB"))
    assert len(webp) < len(png)


def test_svg_keeps_its_text_and_no_date(figures: dict[str, Figure]) -> None:
    svg = to_svg(figures["map_bvae"]).decode()
    assert ">Plasmacytoid dendritic cell</text>" in svg
    assert "<dc:date>" not in svg


def test_svg_of_many_cells_keeps_text_but_not_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "_MOST_VECTORS", 50)
    svg = to_svg(map_2d(make_summary(n_cells=200), "bvae")).decode()
    assert svg.count("<image") >= 1
    assert ">B cell</text>" in svg


def test_report_loads_neither_pyplot_nor_torch_nor_anndata() -> None:
    code = (
        "import sys, scarce.report;"
        "print({'matplotlib.pyplot', 'torch', 'anndata'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "none"


def test_every_cell_is_drawn_once_in_the_colour_of_its_type(summary: RunSummary) -> None:
    axes = map_2d(summary, "bvae").axes[0]
    points = np.concatenate([np.asarray(group.get_offsets()) for group in axes.collections])
    expected = summary.cells.tsne2d["bvae"]
    np.testing.assert_array_equal(np.unique(points, axis=0), np.unique(expected, axis=0))
    for group, (label, style) in zip(
        axes.collections, styles(summary.labels.counts).items(), strict=True
    ):
        of_type = expected[summary.cells.labels == label]
        np.testing.assert_array_equal(np.asarray(group.get_offsets()), of_type)
        drawn = group.get_facecolor() if style.shape.filled else group.get_edgecolor()
        assert to_hex(drawn[0]) == style.colour.lower()


def test_names_on_a_map_do_not_overlap(summary: RunSummary) -> None:
    crowd = np.random.default_rng(0).normal(size=(len(summary.cells.labels), 2))
    cells = dataclasses.replace(summary.cells, tsne2d={"bvae": crowd})
    figure = map_2d(dataclasses.replace(summary, cells=cells), "bvae")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in names(figure.axes[0])]
    assert len(boxes) == len(summary.labels.counts)
    assert not any(
        min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0) + 1
        for a, b in combinations(boxes, 2)
    )


def test_a_split_type_keeps_its_shape_and_grows_pale() -> None:
    summary = make_summary(n_cells=60, types=("one", "two"), titles={"bvae": "β-VAE"})
    half = np.arange(60) % 2
    clusters = np.where(summary.cells.labels == "one", half, 2)
    cells = dataclasses.replace(
        summary.cells,
        kmeans={"bvae": clusters},
        centroids={"bvae": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])},
    )
    found = kmeans_map(dataclasses.replace(summary, cells=cells), "bvae").axes[1]
    first, second, other = (to_hex(c.get_facecolor()[0]) for c in found.collections[:3])
    assert (first, other) == (COLOURS[0].lower(), COLOURS[1].lower())
    assert all(p >= o for p, o in zip(to_rgb(second), to_rgb(first), strict=True))
    assert second != first


def test_borders_are_equally_far_from_both_centroids() -> None:
    summary = make_summary(n_cells=60, types=("one", "two"), titles={"bvae": "β-VAE"})
    one, two = summary.cells.centroids["bvae"]
    found = kmeans_map(summary, "bvae").axes[1]
    border = np.concatenate(
        [path.vertices for c in found.collections[2:4] for path in c.get_paths() if len(path)]
    )
    assert len(border) > 2
    to_one = np.linalg.norm(border - one, axis=1)
    to_two = np.linalg.norm(border - two, axis=1)
    np.testing.assert_allclose(to_one, to_two, rtol=1e-6)


def test_confusion_is_the_share_of_each_type_in_each_cluster(summary: RunSummary) -> None:
    axes = confusion_map(summary, "bvae").axes[0]
    order = [int(label.get_text()) for label in axes.get_xticklabels()]
    cells = summary.cells
    expected = pd.crosstab(cells.labels, cells.kmeans["bvae"], normalize="index")
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, expected.loc[list(summary.labels.counts), order])


def test_the_title_of_few_clusters_fits_their_figure() -> None:
    summary = make_summary(n_cells=40, types=("a", "b"), titles={"bvae": "Deep autoencoder" * 2})
    figure = confusion_map(summary, "bvae")
    (title,) = [text for text in figure.texts if "clusters" in text.get_text()]
    box = title.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1


def test_a_small_type_in_a_cluster_of_a_large_one_that_was_split_is_merged() -> None:
    summary = make_summary(n_cells=40, types=("one", "two"), titles={"bvae": "β-VAE"})
    labels = np.repeat(["large", "small"], [36, 4])
    clusters = np.repeat([0, 1, 1], [20, 16, 4])
    cells = dataclasses.replace(summary.cells, labels=labels, kmeans={"bvae": clusters})
    counts = dataclasses.replace(summary.labels, counts={"large": 36, "small": 4})
    found = merges(dataclasses.replace(summary, cells=cells, labels=counts), "bvae")
    assert found == [Merge(1, ("large", "small"))]


def test_centroids_are_marked_where_they_are(summary: RunSummary) -> None:
    found = kmeans_map(summary, "bvae").axes[1]
    np.testing.assert_array_equal(
        np.asarray(found.collections[-1].get_offsets()), summary.cells.centroids["bvae"]
    )
    assert [text.get_text().strip() for text in names(found)] == [str(k) for k in range(10)]


def test_score_map_shows_means_over_seeds_and_their_labels(summary: RunSummary) -> None:
    figure = score_map(summary)
    nmi = [s.nmi for s in summary.scores if s.model == "bvsc" and s.space == "latent"]
    assert f"{np.mean(nmi):.3f}" in texts(figure)
    assert "PCA (baseline)" in texts(figure)
    title = figure.get_suptitle()
    assert "mean of 3 seeds" in title
    assert summary.labels.source in title.replace("\n", " ")
    alone = tuple(score for score in summary.scores if score.seed == 1)
    single = score_map(dataclasses.replace(summary, scores=alone))
    assert "one seed" in single.get_suptitle()


def test_dots_are_as_large_and_dark_as_the_gene_is_frequent_and_strong(
    summary: RunSummary,
) -> None:
    dots = summary.dots
    assert dots is not None
    drawn = marker_dots(dots).axes[0]
    assert [label.get_text() for label in drawn.get_yticklabels()] == list(dots.groups)
    (points,) = drawn.collections
    for (gene, group), area, shade in zip(
        np.asarray(points.get_offsets(), dtype=int),
        points.get_sizes(),
        np.asarray(points.get_array()),
        strict=True,
    ):
        assert area == pytest.approx(90 * dots.fraction[group, gene])
        assert shade == pytest.approx(dots.mean[group, gene] / dots.mean[:, gene].max())


def test_a_gene_that_no_group_expresses_is_drawn(summary: RunSummary) -> None:
    dots = summary.dots
    assert dots is not None
    nothing = dataclasses.replace(dots, mean=0 * dots.mean, fraction=0 * dots.fraction)
    assert to_png(marker_dots(nothing))


def test_loss_curves_are_the_histories_of_every_seed(summary: RunSummary) -> None:
    panel = loss_curves(summary).axes[0]
    drawn = {tuple(line.get_ydata()) for line in panel.lines}
    runs = [run for run in summary.runs if run.model == "dae"]
    assert drawn == {run.history[key] for run in runs for key in ("train", "held_out")}


def test_only_the_cells_to_draw_are_drawn_and_the_title_says_so(summary: RunSummary) -> None:
    cells = dataclasses.replace(summary.cells, drawn=np.arange(0, 700, 7))
    figure = map_2d(dataclasses.replace(summary, cells=cells), "bvae")
    assert sum(len(group.get_offsets()) for group in figure.axes[0].collections) == 100
    assert any("100 of 700 cells" in text for text in texts(figure))


def test_pictures_that_take_too_much_room_are_drawn_more_coarsely(
    summary: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"map": map_2d(summary, "bvae"), "scores": score_map(summary)}
    fine = pictures(figures)
    room = sum(len(picture.src) for picture in fine.values()) - 1
    monkeypatch.setattr(sys.modules["scarce.report.render"], "_ROOM_OF_PICTURES", room)
    coarse = pictures(figures)
    assert sum(len(picture.src) for picture in coarse.values()) <= room
    for stem, picture in fine.items():
        assert (picture.width, picture.height) == (coarse[stem].width, coarse[stem].height)


def test_names_on_a_map_stay_inside_its_frame() -> None:
    types = ("a name as long as a name can be", "another name, and nearly as long")
    summary = make_summary(n_cells=60, types=types, titles={"bvae": "β-VAE"})
    # One type at either side, so that names at their medians would reach out.
    points = np.random.default_rng(0).normal(size=(60, 2))
    points[:, 0] += np.where(summary.cells.labels == types[0], -40, 40)
    cells = dataclasses.replace(summary.cells, tsne2d={"bvae": points})
    (axes,) = map_2d(dataclasses.replace(summary, cells=cells), "bvae").axes
    frame = axes.get_window_extent()
    for name in names(axes):
        box = name.get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1


def test_any_name_can_be_drawn() -> None:
    hard = ("$\\frac{", "_hidden", "a\x00b\nc", "T細胞", "x" * 300, "\udcff", "%s {0}", " ")
    summary = make_summary(n_cells=40, types=hard, titles={"bvae": "$\\beta"})
    figure = map_2d(summary, "bvae")
    assert to_png(figure)
    assert b"_hidden" in to_svg(figure)
    drawn = texts(figure)
    assert "$\\frac{" in drawn
    assert any(text.startswith("_hidden (") for text in drawn)
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c" in drawn
    assert max(len(text) for text in drawn) < 60


def test_long_names_that_begin_alike_stay_different() -> None:
    stem = "CD8-positive, alpha-beta "
    assert shown(f"{stem}memory T cell") == "CD8-positive, alpha-beta me…y T cell"
    assert shown(f"{stem}cytotoxic T cell") != shown(f"{stem}memory T cell")
    assert [len(shown("x" * n, n - 1)) for n in (14, 33)] == [13, 32]


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert [number(x) for x in (-0.0004, -0.0006, np.nan)] == ["0.000", "−0.001", "–"]


def test_sixty_types_still_fit() -> None:
    summary = make_summary(n_cells=300, types=tuple(f"type {i}" for i in range(60)))
    flat = map_2d(summary, "bvae")
    assert names(flat.axes[0]) == []
    assert to_png(flat, dpi=100)
    assert to_png(map_3d(summary, "bvae"), dpi=100)


def test_each_of_four_trained_models_has_its_panel() -> None:
    titles = {"dae": "A", "bvae": "B", "bvsc": "C", "vasc": "D"}
    figure = loss_curves(make_summary(n_cells=40, titles=titles))
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(titles.values())


def test_a_single_cluster_has_no_border() -> None:
    summary = make_summary(n_cells=40, types=("one",), titles={"bvae": "β-VAE"})
    found = kmeans_map(summary, "bvae").axes[1]
    cells, centroid = (np.asarray(group.get_offsets()) for group in found.collections)
    assert (len(cells), len(centroid)) == (40, 1)
