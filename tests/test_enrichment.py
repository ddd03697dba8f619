"""Gene sets in rankings, against scipy's own tests; and the files they come from."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from scarce.data.gene_sets import read_gmt
from scarce.errors import InputError
from scarce.meaning.enrichment import enrich, suggest

GENES = [f"g{i}" for i in range(60)]


def ranking(seed: int, *, ties: bool = False) -> NDArray[np.float64]:
    score = np.random.default_rng(seed).normal(size=(60, 2))
    return np.round(score, 1) if ties else score


SETS = {
    "one": GENES[:10],
    "two": [*GENES[5:9], "unknown", GENES[50]],
    "all": GENES,
    "few": ["g1", "g2", "x"],
}


@pytest.mark.parametrize("ties", [False, True])
@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_every_number_is_scipys(ties: bool, seed: int) -> None:
    score = ranking(seed, ties=ties)
    table = enrich(score, GENES, SETS, n_top=8)
    assert set(table["set"]) == {"one", "two", "all"}
    assert len(table) == 2 * 2 * 3
    for row in table.itertuples():
        turned = score[:, row.latent] * (1 if row.direction == "up" else -1)
        own = [GENES.index(g) for g in SETS[row.set] if g in GENES]
        best = [g for g in np.argsort(-turned, kind="stable")[:8] if turned[g] > 0]
        shared = set(own) & set(best)
        assert (row.n_genes, row.n_top, row.overlap) == (len(own), len(best), len(shared))
        assert set(filter(None, row.shared.split(";"))) == {GENES[g] for g in shared}
        expected = stats.hypergeom.sf(len(shared) - 1, 60, len(own), len(best))
        assert row.p_top == pytest.approx(expected)
        if row.set == "all":
            assert np.isnan(row.auc)
            continue
        rest = np.delete(turned, own)
        test = stats.mannwhitneyu(turned[own], rest, alternative="greater", method="asymptotic")
        assert row.auc == pytest.approx(test.statistic / (len(own) * len(rest)))
        assert row.p_auc == pytest.approx(test.pvalue)
    for kind in ("top", "auc"):
        expected = benjamini_hochberg(table[f"p_{kind}"].to_numpy())
        np.testing.assert_allclose(table[f"q_{kind}"], expected)


def benjamini_hochberg(p: NDArray[np.float64]) -> list[float]:
    """By the definition: the smallest rate at which each hypothesis would be rejected."""
    n = len(p)
    rates = [p[j] * n / (p <= p[j]).sum() for j in range(n)]
    return [min(rates[j] for j in range(n) if p[j] >= p[i]) for i in range(n)]


def test_the_two_ends_mirror_each_other() -> None:
    table = enrich(ranking(1), GENES, SETS)
    up, down = (table[table["direction"] == end].reset_index() for end in ("up", "down"))
    mirrored = enrich(-ranking(1), GENES, SETS)
    mirrored = mirrored[mirrored["direction"] == "up"].reset_index()
    np.testing.assert_allclose(down["p_auc"], mirrored["p_auc"])
    np.testing.assert_allclose((up["auc"] + down["auc"]).dropna(), 1)


def test_only_modelled_genes_are_the_universe() -> None:
    score = np.linspace(3, 1, 60)[:, None]
    few = enrich(score, GENES, {"s": GENES[:5]}, n_top=5)
    assert few["p_top"][0] == pytest.approx(1 / stats.hypergeom(60, 5, 5).pmf(5) ** -1)


def test_latents_without_effects_are_not_tested() -> None:
    score = ranking(0)
    score[:, 1] = 0
    assert set(enrich(score, GENES, SETS)["latent"]) == {0}
    nothing = enrich(0 * score, GENES, SETS)
    assert len(nothing) == 0
    assert list(nothing.columns) == list(enrich(score, GENES, SETS).columns)


def test_sets_without_enough_genes_are_refused_with_examples_of_both() -> None:
    with pytest.raises(InputError, match=r"found at most 2 in any of 1 sets .*'g1', the data 'g0'"):
        enrich(ranking(0), GENES, {"few": ["g1", "g2", "x"]})


def test_the_type_whose_markers_lead_is_suggested() -> None:
    score = np.linspace(1, -1, 400)
    genes = [f"g{i}" for i in range(400)]
    markers = {"B": ("g0", "g3"), "T": ("g200", "g201"), "absent": ("x", "y", "g1")}
    assert suggest(score, genes, markers).cell_type == "B"
    assert suggest(-score, genes, markers).cell_type == ""
    p = stats.mannwhitneyu(score[[0, 3]], np.delete(score, [0, 3]), alternative="greater").pvalue
    assert suggest(score, genes, markers).p == pytest.approx(2 * p)
    assert suggest(score, ["x"] * 400, {"B": ("g0",)}) == ("", pytest.approx(np.nan, nan_ok=True))
    assert suggest(0 * score, genes, markers).cell_type == ""


def test_rankings_without_meaning_seldom_get_a_name() -> None:
    generator = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(100)]
    markers = {f"type {i}": genes[3 * i : 3 * i + 3] for i in range(9)}
    named = [bool(suggest(generator.normal(size=100), genes, markers)[0]) for _ in range(100)]
    assert np.mean(named) < 0.1  # 0.05 and two standard errors of 100 draws


def test_gene_sets_are_read_by_line(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("\ufeffB\thttp://x\tMS4A1\tCD79A\tMS4A1\t\n\nT cells\t\tCD3E\n", "utf-8")
    assert read_gmt(path) == {"B": ("MS4A1", "CD79A"), "T cells": ("CD3E",)}


FAULTS = {
    "found 'B' in line 2 of": "A\tx\tg1\nB\n",
    "found 'B cells,MS4A1' in line 1": "B cells,MS4A1\n",
    "found 'A' again in line 3": "A\tx\tg1\nB\tx\tg1\nA\tx\tg2\n",
    "found none in": "\n\n",
}


@pytest.mark.parametrize("message", FAULTS)
def test_malformed_files_are_refused_by_line(message: str, tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text(FAULTS[message])
    with pytest.raises(InputError, match=message):
        read_gmt(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x81"])
def test_files_that_are_no_text_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="--gmt must be a GMT file of gene sets"):
        read_gmt(path)
