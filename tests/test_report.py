"""The page says what the summary says, to people and to parsers, whatever things are called."""

import base64
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from page import Page, sketch
from scarce.report import render
from scarce.report.account import citations
from scarce.report.payload import payload
from scarce.report.render import _duration
from scarce.summary import Cells, LabelSummary, Naming, RunSummary
from summaries import TITLES, make_summary

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</SCRIPT ><img src=x onerror=alert(1)>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "javascript:alert(1)",
    "<a href='https://example.org'>x</a>",
    "{{ 7 * 7 }}{% for %}",
    "]]></style><style>@import 'https://example.org'</style>",
    "&lt;b&gt;&amp;",
    "\u2028${alert(1)}`\\u003cb\\u003e\x00b",
    "\u2069\u202etxt.live\u202b",
    "\u05d0\u05d1\u05d2 T (\u0627\u0644\u062e\u0644\u0627\u064a\u0627) 7",
)

TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""What can turn the direction of all text after it."""


def seen(name: str) -> str:
    """Return a name as the page shows it."""
    unfit = dict.fromkeys(map(ord, "\x00" + TURNING), "\N{REPLACEMENT CHARACTER}")
    return " ".join(name.translate(unfit).split())


def drawn_less(summary: RunSummary) -> RunSummary:
    """Return the summary without anything to draw, whose page takes a moment."""
    nothing = Cells(summary.cells.barcodes, summary.cells.labels, {}, {}, {}, {})
    runs = tuple(dataclasses.replace(run, history={}) for run in summary.runs)
    bare = dataclasses.replace(summary, cells=nothing, runs=runs, scores=(), dots=None)
    return dataclasses.replace(bare, programmes=(), codes=())


def called(name: str) -> RunSummary:
    """Return a summary in which everything a user can name has that name."""
    summary = drawn_less(make_summary(n_cells=8, types=(name, name + "2"), name=name))
    return dataclasses.replace(
        summary,
        config={name: name},
        data=dataclasses.replace(summary.data, format=name, sha256=name, notes=(name,)),
        removed=(dataclasses.replace(summary.removed[0], rule=name),),
        labels=dataclasses.replace(
            summary.labels,
            source=name,
            naming=(Naming(0, 8, name, name, 1.0, name, 0.5, name),),
        ),
        runs=tuple(
            dataclasses.replace(run, title=name, path=name, settings={name: name})
            for run in summary.runs
        ),
        environment={name: name},
        warnings=(name,),
    )


def small(**options: object) -> RunSummary:
    return make_summary(n_cells=40, types=("one", "two"), titles={"bvae": "β-VAE"}, **options)


def words(summary: RunSummary, *drawn: str) -> Page:
    return Page(sketch(summary, *drawn))


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary()


@pytest.fixture(scope="module")
def html(summary: RunSummary) -> str:
    return render(summary)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_well_formed(page: Page) -> None:
    assert page.misnested == []
    assert page.open == []
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))


def test_every_section_is_present_and_linked(page: Page) -> None:
    sections = [a["id"] for a in page.all("section")]
    assert sections == [
        "data",
        "labels",
        "explorer",
        "maps",
        "programmes",
        "scores",
        "training",
        "steps",
        "settings",
        "reproduce",
        "glossary",
    ]
    links = {a["href"].removeprefix("#") for a in page.all("a")}
    assert links == {*sections, "main"}


def test_every_reference_inside_the_page_has_its_target(page: Page) -> None:
    identifiers = {a["id"] for _, a in page.elements if "id" in a}
    named = {a[key] for _, a in page.elements for key in ("aria-labelledby", "for") if key in a}
    described = {a["aria-describedby"] for _, a in page.elements if "aria-describedby" in a}
    assert named | described <= identifiers


def test_every_picture_speaks_for_itself(page: Page) -> None:
    pictures = [a for a in page.all("img") if a.get("class") != "thumb"]
    assert len(pictures) == 4 * len(TITLES) + 3
    assert len({a["alt"] for a in pictures}) == len(pictures)
    assert all(len(a["alt"]) > 30 and int(a["width"]) > 300 for a in pictures)
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(pictures) + 2


def test_warnings_come_before_any_number(html: str, summary: RunSummary) -> None:
    for warning in summary.warnings:
        assert 0 < html.index(warning) < html.index("Cells kept") < html.index("<table")


def test_without_warnings_there_is_no_box(page: Page) -> None:
    bare = Page(render(dataclasses.replace(drawn_less(make_summary()), warnings=())))
    assert len(page.all("aside")) == 1
    assert bare.all("aside") == []


def test_headline_says_what_was_done(page: Page) -> None:
    (headline,) = page.texts("p", **{"class": "lead"})
    assert "2,000 genes in 700 cells" in headline
    assert "PCA, Deep autoencoder, β-VAE and β-VSC" in headline
    assert "10 derived cell types" in headline


def test_data_table_accounts_for_every_cell_and_gene(page: Page) -> None:
    assert page.rows()[1:6] == [
        ["read", "721", "32,738"],
        ["removed: cells with fewer than 200 genes", "−9", "0"],
        ["removed: cells with more than 5 % mitochondrial counts", "−12", "0"],
        ["removed: genes seen in fewer than 3 cells", "0", "−19,021"],
        ["kept", "700", "13,717"],
    ]


def test_names_of_clusters_stand_beside_their_evidence(page: Page) -> None:
    rows = page.rows()
    start = rows.index(
        ["Cluster", "Cells", "Name", "Best type", "Score", "Runner-up", "Margin", "Why not named"]
    )
    assert rows[start + 1 : start + 3] == [
        ["0", "695", "Naive CD4 T", "Naive CD4 T", "1.250", "Platelet", "0.875", ""],
        ["1", "5", "unknown 1", "Platelet", "0.125", "Naive CD4 T", "0.062", "score below 0.3"],
    ]
    assert ["0.5", "2", "0.969", "0.938"] in rows
    assert any("Recommended: 0.5, the highest" in caption for caption in page.texts("caption"))


def test_labels_the_user_gave_have_no_evidence() -> None:
    summary = drawn_less(small())
    given = LabelSummary("column 'kind'", from_pca=False, counts=summary.labels.counts)
    page = words(dataclasses.replace(summary, labels=given))
    captions = page.texts("caption")
    assert not any("names" in caption or "Resolutions" in caption for caption in captions)
    (headline,) = page.texts("p", **{"class": "lead"})
    assert "2 reference cell types" in headline


def test_labels_that_were_made_are_no_reference(page: Page) -> None:
    said = [text for tag in ("p", "dl", "caption", "figcaption") for text in page.texts(tag)]
    assert not any("reference" in text or "Known types" in text for text in said)


def test_source_of_the_labels_is_printed_beside_the_scores(page: Page, summary: RunSummary) -> None:
    (caption,) = [c for c in page.texts("caption") if c.startswith("Agreement")]
    assert f"Their source: {summary.labels.source}. Such labels favour PCA." in caption
    assert "over 3 seeds" in caption


def test_scores_are_means_and_deviations_over_seeds(page: Page, summary: RunSummary) -> None:
    metrics = ("nmi", "ari", "homogeneity", "completeness", "silhouette")
    shown = [
        [cell.replace(" best", "") for cell in row[1:6]]
        for row in page.rows()
        if len(row) == 7 and "±" in row[1]
    ]
    expected = []
    for space in ("latent", "tsne2d"):
        for model in TITLES:
            fits = [s for s in summary.scores if s.model == model and s.space == space]
            values = np.array([[getattr(fit, metric) for metric in metrics] for fit in fits])
            pairs = zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
            expected.append([f"{mean:.3f} ± {sd:.3f}" for mean, sd in pairs])
    assert shown == expected


def test_best_of_each_space_and_metric_is_named_in_words(page: Page, summary: RunSummary) -> None:
    scores = [row for row in page.rows() if len(row) == 7 and "±" in row[1]]
    assert len(scores) == 2 * len(TITLES)
    for space in (scores[:4], scores[4:]):
        for column in range(1, 6):
            marked = [row[column] for row in space if "best" in row[column]]
            assert marked == [max((row[column] for row in space), key=lambda s: s[:5])]


def test_pca_is_called_the_baseline_wherever_it_is_scored(page: Page) -> None:
    named = [row[0] for row in page.rows() if row and row[0].startswith("PCA")]
    assert named == ["PCA baseline"] * 3


def test_a_single_seed_has_no_spread() -> None:
    page = words(small(seeds=(5,)))
    assert "±" not in " ".join(cell for row in page.rows() for cell in row)
    assert any("a single seed" in caption for caption in page.texts("caption"))
    assert any("seed 5" in text for text in page.texts("p"))


def test_scores_that_do_not_exist_are_dashes() -> None:
    summary = small(seeds=(1,))
    scores = tuple(dataclasses.replace(s, silhouette=np.nan) for s in summary.scores)
    rows = words(dataclasses.replace(summary, scores=scores), "scores").rows()
    assert [row[5] for row in rows if row[0] == "β-VAE" and len(row) == 7][:2] == ["–", "–"]


def test_training_table_shows_memory_beta_and_active_latents(page: Page) -> None:
    rows = page.rows()
    titles = next(row for row in rows if "Effective β" in row)
    shown = {row[0]: dict(zip(titles, row, strict=True)) for row in rows if len(row) == len(titles)}
    found = {
        name: [row[title] for title in ("Peak memory", "Effective β", "Active latents")]
        for name, row in shown.items()
    }
    assert found["PCA baseline"] == ["412 MB", "–", "4 of 4"]
    assert found["Deep autoencoder"][:2] == ["1.2 GB", "–"]
    assert found["β-VAE"][:2] == ["1.2 GB", "1.5"]
    assert found["β-VSC"][:2] == ["1.2 GB", "0.75"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.04 s"),
        (59.94, "59.9 s"),
        (90, "1.5 min"),
        (3599, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_are_in_the_unit_people_use(seconds: float, words: str) -> None:
    assert _duration(seconds) == words


def test_settings_are_written_for_people() -> None:
    settings = {
        "qc": True,
        "warm": False,
        "none": None,
        "empty": (),
        "lr": 1e-3,
        "net": {"n_hidden": [128, 64]},
    }
    summary = drawn_less(small(seeds=(1,)))
    runs = (dataclasses.replace(summary.runs[0], settings=settings),)
    page = words(dataclasses.replace(summary, runs=runs))
    rows = {row[0]: row[1] for row in page.rows() if len(row) == 2}
    wanted = {
        "qc": "yes",
        "warm": "no",
        "none": "none",
        "empty": "none",
        "lr": "0.001",
        "net.n_hidden": "128, 64",
    }
    assert wanted.items() <= rows.items()


def test_settings_of_every_model_stand_side_by_side(page: Page) -> None:
    assert ["n_hidden", "", "128, 64", "128, 64", "128, 64"] in page.rows()
    assert ["alpha", "", "", "", "0.2"] in page.rows()


def test_config_on_the_page_is_the_config_that_was_run(page: Page, summary: RunSummary) -> None:
    command, config, _ = (page.text[i] for i, (tag, _) in enumerate(page.elements) if tag == "pre")
    assert command == "scarce run pbmc_10k_filtered.h5ad --config config.toml"
    assert tomllib.loads(config) == summary.config


def test_config_leaves_out_what_is_not_set() -> None:
    config = {"n_top_genes": None, "table": {"beta": 1.5, "alpha": None}, "seeds": (1, 2)}
    page = Page(render(dataclasses.replace(drawn_less(small()), config=config)))
    written = next(t for i, t in page.text.items() if page.elements[i][0] == "pre" and "beta" in t)
    assert tomllib.loads(written) == {"table": {"beta": 1.5}, "seeds": [1, 2]}


def test_command_quotes_the_name_of_the_input() -> None:
    page = Page(render(drawn_less(small(name="my cells; rm -rf.h5ad"))))
    assert "scarce run 'my cells; rm -rf.h5ad' --config config.toml" in page.texts("pre")


def test_every_step_is_told_with_its_numbers(page: Page) -> None:
    told = " ".join(page.texts("li"))
    for words in (
        "Read: 721 cells and 32,738 genes from pbmc_10k_filtered.h5ad (AnnData (h5ad)).",
        "19,021 genes seen in fewer than 3 cells; 700 cells and 13,717 genes were kept.",
        "Chose genes: 2,000 of 13,717: the most variable ones",
        "PCA: Computed with seeds 1, 2, 3 in 1.2 s.",
        "Kept for this page: 700 of 700 cells; counts of up to 20 genes",
    ):
        assert words in told


def test_works_to_cite_are_those_of_what_was_run(page: Page) -> None:
    (text,) = [t for t in page.texts("pre") if "@article" in t]
    cited = re.findall(r"@\w+\{([^,]+),", text)
    assert {"scarce", "kobak2019art", "higgins2017beta", "tonolini2020vsc"} <= set(cited)
    assert len(cited) == len(set(cited))
    assert "zheng2017massively" not in cited
    assert "version = {0.1.0}" in text
    alone = citations(make_summary(n_cells=20, types=("one", "two"), titles={"pca": "PCA"}))
    assert "higgins2017beta" not in alone
    sparse = citations(make_summary(n_cells=20, types=("one", "two"), titles={"lvsc": "Linear"}))
    assert "tonolini2020vsc" in sparse
    assert text.count("{") == text.count("}")


def test_captions_say_how_many_types_have_names_and_markers() -> None:
    def captions(n_types: int) -> str:
        types = tuple(f"type {i}" for i in range(n_types))
        summary = make_summary(n_cells=60, types=types, titles={"bvae": "β-VAE"})
        assert summary.dots is not None
        some = dataclasses.replace(summary.dots, groups=types[:14])
        return " ".join(words(dataclasses.replace(summary, dots=some)).texts("figcaption"))

    few, many = captions(14), captions(16)
    assert "Top marker genes of each type." in few
    assert "Top marker genes of the 14 largest of 16 types." in many
    assert "Names stand" in few
    assert "Names stand" not in many


def test_types_that_share_a_cluster_are_named() -> None:
    summary = small(seeds=(1,))
    clusters = np.where(np.arange(40) < 39, 0, 1)
    cells = dataclasses.replace(summary.cells, kmeans={"bvae": clusters})
    page = words(dataclasses.replace(summary, cells=cells))
    assert any("Cluster 0 merges one and two." in text for text in page.texts("figcaption"))
    apart = np.where(summary.cells.labels == "one", 0, 1)
    cells = dataclasses.replace(summary.cells, kmeans={"bvae": apart})
    page = words(dataclasses.replace(summary, cells=cells))
    assert any("No cluster holds most cells of two" in text for text in page.texts("figcaption"))


def test_versions_and_digest_are_printed(page: Page, summary: RunSummary) -> None:
    assert ["SHA-256 of the input", summary.data.sha256] in page.rows()
    for part, version in summary.environment.items():
        assert [part, version] in page.rows()


def test_equal_summaries_give_equal_pages_in_any_process() -> None:
    code = (
        "import hashlib; from summaries import make_summary; from scarce.report import render;"
        "page = render(make_summary(n_cells=40, titles={'bvae': 'B'}));"
        "print(hashlib.sha256(page.encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "PYTHONHASHSEED": "7",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    page = render(make_summary(n_cells=40, titles={"bvae": "B"}))
    assert done.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def test_nothing_is_fetched(page: Page, html: str) -> None:
    fetching = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}
    targets = [a[key] for _, a in page.elements for key in fetching & a.keys()]
    assert targets
    assert all(target.startswith(("data:image/webp;base64,", "#")) for target in targets)
    packed, _ = page.scripts()
    words = html.replace(packed, "").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|@import|url\(|//[a-z]+\.[a-z]", words)


def test_policy_runs_the_script_of_the_page_and_no_other(page: Page) -> None:
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    _, ours = page.scripts()
    digest = base64.b64encode(hashlib.sha256(ours.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"


def test_script_gets_the_cells_packed(page: Page, summary: RunSummary) -> None:
    assert page.scripts()[0] == payload(summary).text


def test_without_3d_maps_there_is_no_script() -> None:
    page = Page(render(drawn_less(small())))
    assert page.scripts() == []
    assert "explorer" not in {a.get("id") for a in page.all("section")}


def test_large_data_are_drawn_in_part_and_the_page_says_so() -> None:
    summary = small()
    cells = dataclasses.replace(summary.cells, drawn=np.arange(30), expression=None)
    page = words(dataclasses.replace(summary, cells=cells), "kmeans_bvae", "map3d_bvae")
    said = [
        text for text in page.texts("p") if "30 of the 40 cells, every type by its share" in text
    ]
    assert len(said) == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_and_stays_a_name(name: str) -> None:
    page, calm = Page(render(called(name))), Page(render(called("calm")))
    assert page.skeleton() == calm.skeleton()
    assert page.misnested == calm.misnested == []
    (heading,) = page.texts("h1")
    assert heading == seen(name)


@pytest.mark.parametrize("name", HOSTILE[-2:])
def test_a_name_does_not_turn_the_words_around_it(name: str) -> None:
    html = render(called(name))
    assert not set(TURNING) & set(html)
    inside = set(Page(html).texts("bdi"))
    assert inside == {seen(name), seen(name + "2")}
    config = next(t for t in Page(html).texts("pre") if "=" in t)
    assert tomllib.loads(config) == {name: name}


def test_hostile_types_and_barcodes_reach_the_script_unharmed() -> None:
    hostile = make_summary(
        n_cells=28, types=HOSTILE, barcode="</script><img src=x>", titles={"bvae": HOSTILE[1]}
    )
    calm = make_summary(
        n_cells=28,
        types=tuple(f"type {i}" for i in range(len(HOSTILE))),
        titles={"bvae": "calm"},
    )
    page = Page(render(hostile))
    assert page.skeleton() == words(calm).skeleton()
    assert page.scripts()[0] == payload(hostile).text


def test_half_a_character_does_not_stop_the_page_from_being_stored() -> None:
    page = render(called("broken \udcff name"))
    assert "broken ? name" in page.encode("utf-8").decode("utf-8")
