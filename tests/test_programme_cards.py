"""The cards of the report: what stands on them is what was found, whatever things are called."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from matplotlib.image import imread

from page import Page, sketch
from scarce.report.programmes import _raster, chapters
from scarce.summary import EnrichedSet, GeneEffect, RunSummary
from summaries import make_summary
from test_report import HOSTILE


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary(n_cells=60, types=("one", "two"), titles={"bvae": "β-VAE", "bvsc": "β-VSC"})


def shown(summary: RunSummary) -> Page:
    """Return the page; the cards have maps of their own, beside its figures."""
    return Page(sketch(summary))


@pytest.fixture(scope="module")
def page(summary: RunSummary) -> Page:
    return shown(summary)


def section(page: Page) -> str:
    (words,) = (
        page.text[i]
        for i, (tag, attributes) in enumerate(page.elements)
        if tag == "section" and attributes.get("id") == "programmes"
    )
    return " ".join(words.split())


def test_every_latent_in_use_has_a_card_and_the_others_are_named(page: Page) -> None:
    titles = page.texts("h4")
    assert titles == [
        "Latent 1: one?",
        "Latent 2 against two?",
        "Latent 1: one?",
        "Latent 2 against two?",
    ]
    assert section(page).count("at most one cell uses it): latent 3.") == 2


def test_a_latent_whose_code_hardly_varies_has_no_card(summary: RunSummary) -> None:
    latents = {"bvsc": summary.cells.latents["bvsc"] * (1.0, 0.01)}
    cells = dataclasses.replace(summary.cells, latents=latents)
    (chapter, _) = chapters(dataclasses.replace(summary, cells=cells))
    assert [card.number for card in chapter.cards] == [1]
    assert chapter.idle == (2, 3)


def test_models_with_gates_come_first_and_the_others_are_folded(
    summary: RunSummary, page: Page
) -> None:
    assert [chapter.title for chapter in chapters(summary)] == ["β-VSC", "β-VAE"]
    assert any("β-VAE: 2 latents" in text for text in page.texts("summary"))
    assert not any("β-VSC" in text for text in page.texts("summary"))


def test_numbers_of_a_card_are_those_of_the_summary(summary: RunSummary, page: Page) -> None:
    found = next(p for p in summary.programmes if p.model == "bvsc")
    words = section(page)
    for text in (
        f"{100 * found.share:.0f} % of cells",
        f"Comes back{found.reproducibility:.3f} stable",
        f"Agrees with counts{found.agreement:.3f}",
        "B CELL up, 4 of 7 genes, AUC 0.910, q 1.0e-05",
    ):
        assert text in words


def test_a_gate_that_is_always_open_is_on_in_its_cells(summary: RunSummary, page: Page) -> None:
    open_ = tuple(dataclasses.replace(found, switches=False) for found in summary.programmes)
    changed = section(shown(dataclasses.replace(summary, programmes=open_)))
    assert "On in25 % of cells" in changed
    assert "On in25 % of cells" not in section(page)


def test_the_latent_with_the_largest_effects_comes_first(summary: RunSummary) -> None:
    strong = dataclasses.replace(
        summary.programmes[1], down=(GeneEffect("X", -9.0, 0.1, -5.0),), sign=1
    )
    changed = (summary.programmes[0], strong, *summary.programmes[2:])
    found = chapters(dataclasses.replace(summary, programmes=changed))
    assert [card.number for card in found[1].cards] == [2, 1]
    assert [card.number for card in found[0].cards] == [1, 2]


def test_bars_lie_where_their_effects_are(summary: RunSummary) -> None:
    card = chapters(summary)[0].cards[0]
    genes = [*card.programme.up[:8], *reversed(card.programme.down[:4])]
    assert [bar.gene for bar in card.bars] == [gene.gene for gene in genes]
    for bar, gene in zip(card.bars, genes, strict=True):
        tip = bar.x + bar.width if gene.effect > 0 else bar.x
        base = bar.x if gene.effect > 0 else bar.x + bar.width
        assert base == pytest.approx(card.zero, abs=0.11)
        assert bar.low <= tip <= bar.high
        assert bar.low >= 88
        assert bar.high <= 280
    up, other = card.bars[0], card.bars[1]
    assert up.width / other.width == pytest.approx(genes[0].effect / genes[1].effect, rel=0.02)
    span = 2 * 1.96 * genes[0].se
    assert (up.high - up.low) / up.width == pytest.approx(span / genes[0].effect, rel=0.05)


def test_the_scale_is_a_round_effect_at_its_place(summary: RunSummary) -> None:
    (card, *_) = chapters(summary)[0].cards
    bar, gene = card.bars[0], card.programme.up[0]
    ticks = {words: x for x, words in card.ticks}
    assert len(ticks) == 1
    for words, x in ticks.items():
        value = float(words.replace("−", "-"))
        assert (x - card.zero) / bar.width == pytest.approx(value / gene.effect, rel=0.02)


def test_an_error_that_is_not_known_draws_no_interval(summary: RunSummary) -> None:
    first = summary.programmes[0]
    gene = dataclasses.replace(first.up[0], se=np.nan)
    changed = (dataclasses.replace(first, up=(gene,), down=()), *summary.programmes[1:])
    (card, *_) = chapters(dataclasses.replace(summary, programmes=changed))[1].cards
    (bar,) = card.bars
    assert bar.low == bar.high == bar.x + bar.width


def test_small_maps_show_cells_in_use_over_the_others() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    image = _raster(points, np.array([2.0, 0.0, -2.0, 0.0]))
    # First axis to the right, second upwards.
    assert image[-13, 12].tolist() == [0, 0x72, 0xB2]
    assert image[12, -13].tolist() == [0xD5, 0x5E, 0]
    assert image[12, 12].tolist() == [0xD9, 0xDE, 0xE3]
    assert (image[180, 180] == 255).all()


def test_cells_of_a_turned_latent_are_turned_with_its_bars(summary: RunSummary) -> None:
    plain = [p for p in summary.programmes if p.model == "bvae"]
    turned = tuple(dataclasses.replace(found, sign=-found.sign) for found in plain)
    cells = summary.cells
    negated = dataclasses.replace(cells, latents={"bvae": -cells.latents["bvae"]})
    codes = summary.codes[:1]
    one = dataclasses.replace(summary, programmes=tuple(plain), codes=codes)
    other = dataclasses.replace(one, programmes=turned, cells=negated)
    assert [c.src for c in chapters(one)[0].cards] == [c.src for c in chapters(other)[0].cards]


def test_maps_are_pictures_of_their_own(page: Page) -> None:
    thumbs = [a for a in page.all("img") if a.get("class") == "thumb"]
    assert len(thumbs) == 4
    assert len({a["alt"] for a in thumbs}) == 4
    head = "data:image/webp;base64,"
    for a in thumbs:
        assert a["src"].startswith(head)
        image = imread(io.BytesIO(base64.b64decode(a["src"].removeprefix(head))), format="webp")
        assert image.shape[:2] == (360, 360)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(name: str, summary: RunSummary) -> None:
    def called(word: str) -> Page:
        programmes = tuple(
            dataclasses.replace(
                found,
                name=word,
                opposite=word,
                up=(GeneEffect(word, 1.0, 0.1, 5.0),),
                down=(GeneEffect(word, -1.0, 0.1, -5.0),),
                sets=(EnrichedSet(word, "up", 5, 3, 0.9, 1e-3),),
            )
            for found in summary.programmes
        )
        bare = dataclasses.replace(summary, programmes=programmes, scores=(), dots=None)
        cells = dataclasses.replace(bare.cells, tsne3d={}, kmeans={}, tsne2d={}, latents={})
        runs = tuple(dataclasses.replace(run, title=word, history={}) for run in bare.runs)
        return Page(sketch(dataclasses.replace(bare, cells=cells, runs=runs)))

    page, calm = called(name), called("calm")
    assert page.skeleton() == calm.skeleton()
    assert page.misnested == page.open == []


def test_without_programmes_there_is_no_section(summary: RunSummary) -> None:
    page = shown(dataclasses.replace(summary, programmes=(), codes=()))
    assert "programmes" not in {a.get("id") for a in page.all("section")}
    assert "#programmes" not in {a["href"] for a in page.all("a")}
