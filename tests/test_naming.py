"""Names of clusters: only from marker genes, and only where the evidence is enough."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from scarce.annotate import PBMC, name_clusters, read_markers
from scarce.errors import InputError

GENES = ["MS4A1", "CD79A", "CD3E", "LYZ"]
TYPES = {"B": ("MS4A1", "CD79A"), "T": ("CD3E",), "Mono": ("LYZ",)}
CLUSTERS = np.repeat([0, 1, 2, 3], 20)


def expression() -> np.ndarray:
    """Cells of T, B and Mono, and twenty that express nothing in particular."""
    x = np.random.default_rng(0).uniform(0, 0.2, (80, 4))
    x[:20, 2] += 2
    x[20:40, :2] += 2
    x[40:60, 3] += 2
    return x


def names(x: np.ndarray, clusters: np.ndarray = CLUSTERS, **changes: object) -> list[str]:
    arguments = {"genes": GENES, "markers": TYPES} | changes
    found = name_clusters(sp.csr_matrix(x), clusters=clusters, **arguments)
    return [name.cell_type for name in found]


def test_clusters_are_named_by_their_genes_and_never_by_their_order() -> None:
    x = expression()
    assert names(x) == ["T", "B", "Mono", "unknown 3"]
    turned = np.array([2, 3, 1, 0])
    assert names(x, turned[CLUSTERS]) == ["unknown 0", "Mono", "T", "B"]


def test_score_runner_up_and_margin_are_those_of_the_formula() -> None:
    x = expression()
    z = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    b, t = z[20:40, :2].mean(), z[20:40, 2].mean()
    mono = z[20:40, 3].mean()
    found = name_clusters(sp.csr_matrix(x), GENES, CLUSTERS, TYPES)[1]
    assert found.score == pytest.approx(b)
    assert found.runner_up == ("T" if t > mono else "Mono")
    assert found.margin == pytest.approx(b - max(t, mono))
    assert (found.cluster, found.n_cells, found.reason) == (1, 20, "")


def test_two_clusters_may_have_one_name() -> None:
    halves = np.repeat([0, 1, 2, 3, 4], [10, 10, 20, 20, 20])
    assert names(expression(), halves)[:2] == ["T", "T"]


def weak(case: str) -> tuple[np.ndarray, dict[str, tuple[str, ...]]]:
    x, types = expression(), dict(TYPES)
    if case == "score":
        x[:, 2] = np.random.default_rng(1).uniform(0, 4, 80)
        x[:20, 2] += 0.2
    if case == "margin":
        types["T again"] = ("CD3E",)
    if case == "not above":
        types["T"] = ("CD3E", "LYZ")
    if case == "less than 25 %":
        x[:, 2] = 0
        x[:4, 2] = 5
    return x, types


@pytest.mark.parametrize("case", ["score", "margin", "not above", "less than 25 %"])
def test_weak_evidence_leaves_the_number_and_says_why(case: str) -> None:
    x, types = weak(case)
    found = name_clusters(sp.csr_matrix(x), GENES, CLUSTERS, types)[0]
    assert found.cell_type == "unknown 0"
    assert case in found.reason


def test_types_of_which_most_genes_are_missing_are_left_out() -> None:
    markers = {"B": ("MS4A1", "CD19", "CD22"), "T": ("CD3E", "CD3D"), "Mono": ("LYZ",)}
    assert names(expression(), markers=markers) == ["T", "unknown 1", "Mono", "unknown 3"]
    assert names(expression(), genes=["a", "b", "c", "d"]) == [f"unknown {i}" for i in range(4)]


def test_the_only_type_needs_no_runner_up() -> None:
    assert names(expression(), markers={"B": ("MS4A1",)})[1] == "B"


FILES = {
    "long.csv": "cell_type,gene\nB,MS4A1\nB,CD79A\nT,CD3E\n",
    "no_header.csv": "B,MS4A1,CD79A\nT,CD3E\n",
    "joined.csv": 'type,markers,source\nB,"MS4A1; CD79A",book\n# T cells\nT,CD3E,book\n',
    "spaces.csv": "\ufeffcluster,genes\nB,MS4A1 CD79A MS4A1\nT,CD3E\nNothing,\n",
    "sets.gmt": "B\thttp://example.org\tMS4A1\tCD79A\nT\t\tCD3E\n",
}


@pytest.mark.parametrize("name", FILES)
def test_marker_files_of_every_kind_say_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert read_markers(tmp_path / name) == {"B": ("MS4A1", "CD79A"), "T": ("CD3E",)}


def test_files_without_markers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--markers must be a CSV or GMT file"):
        read_markers(tmp_path / "missing.csv")
    (tmp_path / "long.csv").write_text("x" * 200_000)
    with pytest.raises(InputError, match=r"--markers must be a CSV or GMT file.*field larger"):
        read_markers(tmp_path / "long.csv")
    (tmp_path / "blanks.gmt").write_text("B\tx\tMS4A1\nNK x GNLY NKG7\n")
    with pytest.raises(InputError, match="apart by tabs; found 'NK x GNLY NKG7' in line 2"):
        read_markers(tmp_path / "blanks.gmt")
    (tmp_path / "empty.csv").write_text("cell_type,gene\n")
    with pytest.raises(InputError, match=r"found none in empty.csv. Write lines such as: B,MS4A1"):
        read_markers(tmp_path / "empty.csv")


def test_the_table_of_the_tutorial_has_its_nine_types() -> None:
    assert len(PBMC) == 9
    assert PBMC["FCGR3A+ Mono"] == ("FCGR3A", "MS4A7")
