"""Coming back to a run: its report drawn again, opened, and its figures written."""

import webbrowser
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from scarce import record
from scarce.cli import main
from scarce.report import all_figures, figure_names, render
from scarce.summary import RunSummary
from summaries import make_summary


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary(n_cells=60, types=("one", "two"), titles={"pca": "PCA", "bvae": "β-VAE"})


@pytest.fixture
def run(summary: RunSummary, tmp_path: Path) -> Path:
    record.save(summary, tmp_path)
    return tmp_path


def test_report_is_written_from_what_the_run_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = make_summary(n_cells=60, types=("one", "two"), titles={"bvae": "β-VAE"})
    record.save(summary, tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(summary)
    assert capsys.readouterr().out == f"Report: {tmp_path / 'report.html'}\n"


def test_view_opens_the_report(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) is None)
    assert main(["view", str(run)]) == 2
    assert "must hold a report; found no report.html" in capsys.readouterr().err
    (run / "report.html").write_text("x")
    assert main(["view", str(run)]) == 0
    assert opened == [(run / "report.html").as_uri()]


def test_view_without_a_browser_says_where_the_report_is(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    (run / "report.html").write_text("x")
    assert main(["view", str(run)]) == 2
    assert f"Open {run / 'report.html'} yourself" in capsys.readouterr().err


def test_figures_that_were_asked_for_are_written_for_print(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "print"
    assert main(["figures", str(run), "--only", "kmeans, map_pca", "--out", str(out)]) == 0
    names = ["kmeans_bvae", "kmeans_pca", "map_pca"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}{suffix}" for name in names for suffix in (".png", ".svg")
    )
    with Image.open(out / "map_pca.png") as picture:
        inches = all_figures(record.load(run), ["map_pca"])["map_pca"].get_size_inches()
        assert picture.size == pytest.approx(300 * inches, abs=1)
    assert "<text" in (out / "map_pca.svg").read_text(encoding="utf-8")


def test_names_of_figures_are_those_drawn(summary: RunSummary) -> None:
    assert figure_names(summary) == list(all_figures(summary))
    assert set(all_figures(summary, ["loss"])) == {"loss"}


def test_a_figure_that_does_not_exist_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", str(run), "--only", "maps"]) == 2
    error = capsys.readouterr().err
    assert "found 'maps'. This run has map_pca, kmeans_pca, confusion_pca, map3d_pca" in error
    assert not (run / "figures").exists()


@pytest.mark.parametrize("command", ["report", "figures"])
def test_a_folder_of_no_run_gives_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path)]) == 2
    assert "found no summary.json" in capsys.readouterr().err


def test_figures_leave_the_readers_settings_alone(run: Path) -> None:
    before = dict(mpl.rcParams)
    assert main(["figures", str(run), "--only", "scores"]) == 0
    assert dict(mpl.rcParams) == before
