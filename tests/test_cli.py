"""The command line as a user meets it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scarce.cli import main
from scarce.estimators import Ensemble
from scarce.export import WRITTEN
from scarce.preprocess import normalise

pytestmark = pytest.mark.usefixtures("few_steps")

QUICK = ["--epochs", "2", "--latent", "3", "--no-qc", "--models", "bvae", "--quiet"]


def write_cells(folder: Path) -> Path:
    """Write a file of 60 cells of two types."""
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(60)[:, None] % 2 == np.arange(40) % 2, 3.0, 0.3)
    obs = pd.DataFrame(
        {"kind": np.where(np.arange(60) % 2, "odd", "even")}, index=[f"c{i}" for i in range(60)]
    )
    obs["plate"], obs["age"] = np.arange(60) % 3, np.arange(60.0)
    x = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
    path = folder / "cells.h5ad"
    ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(40)])).write_h5ad(path)
    return path


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return write_cells(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which tests read and copy but leave as it is."""
    folder = Path(tmp_path_factory.mktemp("finished"))
    assert run(write_cells(folder), "--labels", "kind", "--out", folder / "out", *QUICK) == 0
    return folder / "out"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out figures and page, most of the time of a small run, where no test looks at them."""
    monkeypatch.setattr("scarce.export.all_figures", lambda summary: {})
    monkeypatch.setattr("scarce.export.render", lambda summary, figures: "")
    monkeypatch.setattr("scarce.study.contest.comparison_figures", lambda comparison: {})


def rewrite(path: Path, change: str) -> Path:
    """Spoil the file in one way."""
    adata = ad.read_h5ad(path)
    if change == "normalised":
        adata.X = adata.X * 0.37
    if change == "negative":
        adata.X[0, 0] = -3
    if change == "nan":
        adata.X[0, 0] = np.nan
    if change == "duplicate names":
        adata.obs_names = ["c1", *adata.obs_names[1:]]
    if change == "one cell":
        adata = adata[:1]
    if change == "no genes":
        adata = adata[:, :0]
    spoiled = path.with_name("spoiled.h5ad")
    adata.write_h5ad(spoiled)
    return spoiled


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments)])


@pytest.mark.usefixtures("undrawn")
def test_run_writes_everything_and_its_config_reproduces_it(finished: Path, tmp_path: Path) -> None:
    first, second = finished, tmp_path / "second"
    assert {p.name for p in first.iterdir()} == {*WRITTEN} - {"programmes_enrichment.csv"}
    assert run("--config", first / "config.toml", "--out", second, "--quiet") == 0
    before, after = (ad.read_h5ad(d / "embeddings.h5ad") for d in (first, second))
    for key, space in before.obsm.items():
        np.testing.assert_array_equal(space, after.obsm[key])
    scores = [pd.read_csv(d / "metrics.csv").drop(columns="train_seconds") for d in (first, second)]
    pd.testing.assert_frame_equal(*scores)
    assert (first / "config.toml").read_text() == (second / "config.toml").read_text()


def test_metrics_have_the_promised_columns(finished: Path) -> None:
    table = pd.read_csv(finished / "metrics.csv")
    assert ",".join(table.columns) == (
        "model,seed,space,n_clusters,nmi,ari,homogeneity,completeness,silhouette,"
        "label_source,train_seconds,epochs,n_parameters"
    )
    assert set(table["model"]) == {"pca", "bvae"}
    assert set(table["space"]) == {"latent", "tsne2d"}
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["data"]["n_cells"], summary["data"]["n_genes"]) == (60, 40)


@pytest.mark.usefixtures("undrawn")
def test_programmes_are_written_and_names_stay_text(cells: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(cells)
    adata.var_names = ["=cmd()", *adata.var_names[1:]]
    adata.write_h5ad(tmp_path / "odd.h5ad")
    sets = tmp_path / "sets.gmt"
    sets.write_text("=evens\tx\t" + "\t".join(f"g{i}" for i in range(0, 40, 2)) + "\tg1\n")
    out = tmp_path / "out"
    assert run(tmp_path / "odd.h5ad", "--labels", "kind", "--gmt", sets, "--out", out, *QUICK) == 0
    table = pd.read_csv(out / "programmes.csv")
    assert ",".join(table.columns) == (
        "model,programme,name,direction,rank,gene,effect,se,score,sign"
    )
    assert set(table["programme"]) == {1, 2, 3}
    assert "'=cmd()" in set(table["gene"])
    assert "=cmd()" not in set(table["gene"])
    tests = pd.read_csv(out / "programmes_enrichment.csv")
    assert set(tests["set"]) == {"'=evens"}
    assert len(tests) == 6
    assert set(tests["n_genes"]) == {20}  # g0 has another name now
    summary = json.loads((out / "summary.json").read_text())
    assert summary["config"]["gmt"] == "sets.gmt"


@pytest.mark.usefixtures("undrawn")
def test_an_ensemble_is_run_saved_and_denoises(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--labels", "kind", *QUICK, "--models", "ensemble", "--out", out]
    assert run(cells, *options) == 0
    summary = json.loads((out / "summary.json").read_text())
    (found,) = (fit for fit in summary["runs"] if fit["model"] == "ensemble")
    assert found["settings"]["n_members"] == 5
    z = ad.read_h5ad(out / "embeddings.h5ad").obsm["X_ensemble"]
    assert z.shape == (60, 3)
    adata = ad.read_h5ad(cells)
    normalise(adata)
    again = Ensemble.load(out / "models" / "ensemble")
    np.testing.assert_array_equal(again.transform(adata), z)
    denoised = tmp_path / "denoised.h5ad"
    assert main(["denoise", str(out), str(cells), "--out", str(denoised)]) == 0
    layer = ad.read_h5ad(denoised).layers["denoised"]
    np.testing.assert_allclose(layer, again.reconstruct(adata), rtol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_uses_no_unit_has_no_tests_of_programmes(cells: Path, tmp_path: Path) -> None:
    sets = tmp_path / "sets.gmt"
    sets.write_text("evens\tx\t" + "\t".join(f"g{i}" for i in range(0, 40, 2)) + "\n")
    shut = [
        "--latent",
        "3",
        "--beta",
        "100",
        "--alpha",
        ".000001",
        "--lr",
        ".05",
        "--epochs",
        "30",
        "--no-qc",
    ]
    chosen = ["--models", "bvsc,bvae", "--labels", "kind", "--gmt", sets, "--quiet"]
    assert run(cells, "--out", tmp_path / "out", *shut, *chosen) == 0
    tests = pd.read_csv(tmp_path / "out" / "programmes_enrichment.csv")
    assert list(tests["model"]) == ["bvae"] * 6


@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")
def test_embeddings_open_in_scanpy(finished: Path) -> None:
    import matplotlib as mpl
    import scanpy as sc

    mpl.use("agg")
    adata = ad.read_h5ad(finished / "embeddings.h5ad")
    axes = sc.pl.embedding(adata, basis="X_tsne_bvae", color="cell_type", show=False)
    assert len(axes.collections) > 0


def test_embeddings_name_no_folder_of_the_machine(finished: Path, cells: Path) -> None:
    config = tomllib.loads(ad.read_h5ad(finished / "embeddings.h5ad").uns["scarce"]["config"])
    assert config["data"] == cells.name


def test_a_reader_that_has_seen_enough_is_no_error(
    cells: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["info", str(cells), "--labels", "kind", "--no-qc"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("undrawn")
def test_flags_win_over_the_config_file(cells: Path, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text(f'data = "{cells}"\nlabels = "kind"\nepochs = 1\nlatent = 2\nqc = false\n')
    run("--config", config, "--latent", 3, "--models", "dae", "--out", tmp_path / "out", "--quiet")
    written = tomllib.loads((tmp_path / "out" / "config.toml").read_text())
    assert (written["epochs"], written["latent"], written["models"]) == (1, 3, ["dae"])


@pytest.mark.usefixtures("undrawn")
def test_models_are_told_of_the_batch_and_of_numbers(cells: Path, tmp_path: Path) -> None:
    flags = ("--batch", "plate", "--covariates", "age, percent_mito_")
    adata = ad.read_h5ad(cells)
    adata.obs["percent_mito_"] = np.arange(60) % 4
    adata.write_h5ad(cells)
    run(cells, "--labels", "kind", "--out", tmp_path / "out", *QUICK, *flags)
    written = tomllib.loads((tmp_path / "out" / "config.toml").read_text())
    assert (written["batch"], written["covariates"]) == ("plate", ["age", "percent_mito_"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["config"]["batch"] == "plate"
    model = json.loads((tmp_path / "out" / "models" / "bvae" / "model.json").read_text())
    assert model["covariates"]["levels"] == ["0", "1", "2"]


FAULTS = {
    "normalised": "counts must be whole numbers",
    "negative": "counts must not be negative",
    "nan": "counts must be finite",
    "one cell": "at least 2 cells",
    "no genes": "at least 1 gene",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_data_give_one_line_and_no_output(
    fault: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(rewrite(cells, fault), "--labels", "kind", "--out", tmp_path / "out", *QUICK)
    error = capsys.readouterr().err
    assert status == 2
    assert FAULTS[fault] in error
    assert error.startswith("scarce: ")
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.h5ad", "spoiled.h5ad"]


WRONG = {
    "no such file": (["missing.h5ad"], "missing.h5ad"),
    "empty folder": (["{tmp}/empty"], "empty"),
    "unknown model": (["{cells}", "--models", "vae"], "model must be one of"),
    "unknown label column": (["{cells}", "--labels", "knd"], "--labels must be a file or a column"),
    "labels of other cells": (["{cells}", "--labels", "{tmp}/other.csv"], "none of the 60 cells"),
    "no such batch": (["{cells}", "--batch", "plat"], "found 'plat', and the columns ['kind'"),
    "labels as batch": (
        ["{cells}", "--labels", "kind", "--batch", "kind"],
        "must not be the labels",
    ),
    "config is no TOML": (["{cells}", "--config", "{cells}"], "--config must be a TOML file"),
    "unknown key": (["--config", "{tmp}/bad.toml"], "Did you mean 'epochs'"),
    "not UTF-8": (["caf\udce9.h5ad"], "data must be UTF-8, as what a run writes; found 'caf"),
    "no name a file can have": (
        ["x" * 300],
        "xxx must be a path that can be used: File name too long",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_give_one_line_and_no_output(
    case: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.csv").write_text("barcode,cell_type\nx1,B\nx2,T\n")
    (tmp_path / "bad.toml").write_text(f'data = "{cells}"\nepoch = 3\n')
    arguments, message = WRONG[case]
    filled = [a.format(tmp=tmp_path, cells=cells) for a in arguments]
    assert run(*filled, "--no-qc", "--quiet", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_repeated_cell_names_are_refused_with_labels_by_name(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    pd.Series("B", index=[f"c{i}" for i in range(60)], name="cell_type").to_csv(labels)
    spoiled = rewrite(cells, "duplicate names")
    assert run(spoiled, "--labels", labels, "--out", tmp_path / "out", *QUICK) == 2
    assert "cell names must be unique" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_existing_output_needs_force_and_is_replaced_whole(
    cells: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = (cells, "--labels", "kind", "--out", out, *QUICK)
    shutil.copytree(finished, out)
    (out / "mine.txt").write_text("old")
    assert run(*arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert run(*arguments, "--force") == 2
    assert "found mine.txt in" in capsys.readouterr().err
    (out / "mine.txt").rename(out / "programmes_enrichment.csv")
    assert run(*arguments, "--force") == 0
    assert not (out / "programmes_enrichment.csv").exists()
    assert (out / "summary.json").is_file()


def test_output_in_another_encoding_is_no_error() -> None:
    command = [sys.executable, "-m", "scarce", "run", "--help"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"?-VSC" in done.stdout


def test_training_that_diverges_gives_one_line(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(cells, "--labels", "kind", "--out", out, *QUICK, "--beta", 1e300, "--epochs", 8) == 2
    assert re.fullmatch("scarce: the loss must stay finite; .*\n", capsys.readouterr().err)
    assert not out.exists()


@pytest.mark.usefixtures("undrawn")
def test_the_files_own_types_are_kept_beside_the_labels(cells: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(cells)
    adata.obs["cell_type"] = "theirs"
    adata.write_h5ad(cells)
    with h5py.File(cells, "r+") as file:  # as other programs write tables, and AnnData refuses to
        file["var"].attrs["column-order"] = ["_index"]
    assert run(cells, "--labels", "kind", "--out", tmp_path / "out", *QUICK) == 0
    written = ad.read_h5ad(tmp_path / "out" / "embeddings.h5ad")
    assert set(written.obs["cell_type_input"]) == {"theirs"}
    assert set(written.obs["cell_type"]) == {"even", "odd"}
    assert list(written.var["index_"]) == list(written.var_names)
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["data"]["notes"]
    assert any("'cell_type_input'" in note for note in notes)
    assert any("'index_'" in note for note in notes)


def test_info_says_what_a_run_would_do_and_writes_nothing(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(cells), "--labels", "kind", "--no-qc"]) == 0
    printed = capsys.readouterr().out
    assert "60 cells x 40 genes" in printed
    assert "would train" in printed
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


def annotate(*arguments: object) -> int:
    return main(["annotate", *map(str, arguments)])


@pytest.mark.usefixtures("undrawn")
def test_annotate_names_clusters_by_the_markers_it_is_given(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    markers, labels = tmp_path / "types.csv", tmp_path / "labels.csv"
    markers.write_text("cell_type,gene\nEven,g0\nEven,g2\nOdd,g1\nOdd,g3\n")
    arguments = ("--markers", markers, "--no-qc", "--resolution", 0.3)
    assert annotate(cells, "-o", labels, *arguments) == 0
    found = pd.read_csv(labels)
    assert list(found.columns) == ["barcode", "cluster", "cell_type"]
    kinds = ad.read_h5ad(cells).obs["kind"]
    assert (found.set_index("barcode")["cell_type"].str.lower() == kinds).all()
    named = pd.read_csv(tmp_path / "naming.csv")
    assert set(named["best"]) == {"Even", "Odd"}
    assert named["n_cells"].sum() == 60
    genes = pd.read_csv(tmp_path / "markers.csv")
    assert set(genes["cluster"]) == set(found["cluster"])
    assert (tmp_path / "resolutions.csv").read_text().startswith("resolution,n_clusters,")
    assert "Even" in capsys.readouterr().out
    # The table is what `scarce run` takes as labels.
    out = tmp_path / "out"
    assert run(cells, "--labels", labels, "--out", out, *QUICK) == 0


def test_annotate_recommends_a_resolution_where_none_is_given(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate(cells, "-o", tmp_path / "labels.csv", "--no-qc") == 0
    tried = pd.read_csv(tmp_path / "resolutions.csv")
    assert 0.5 in set(tried["resolution"])
    assert "recommended by stability: --resolution" in capsys.readouterr().out
    # Not one gene of human blood is in the data.
    found = pd.read_csv(tmp_path / "labels.csv")
    assert (found["cell_type"] == "unknown " + found["cluster"].astype(str)).all()


REFUSED = {
    "markers.csv, a folder or a file that is written beside it": [
        "-o",
        "{tmp}/markers.csv",
        "--force",
    ],
    "-o must name a file of its own; found": ["-o", "{tmp}", "--force"],
    "-o must name a file; found the folder": ["-o", "."],
    "-o must be in an existing directory": ["-o", "{tmp}/none/labels.csv"],
    "labels.csv must not exist yet": ["-o", "{tmp}/labels.csv"],
    "markers.csv must not be replaced": ["-o", "{tmp}/new.csv", "--markers", "{tmp}/markers.csv"],
    "cells.h5ad must not be replaced": ["-o", "{cells}", "--force"],
    "--markers must be a CSV or GMT file": ["-o", "{tmp}/new.csv", "--markers", "{tmp}/x.csv"],
    "--resolution must be above 0; found -1": ["-o", "{tmp}/new.csv", "--resolution", "-1"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_annotate_refuses_before_any_work(
    message: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("mine")
    if "{tmp}/markers.csv" in REFUSED[message]:
        (tmp_path / "markers.csv").write_text("B,g1\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    filled = [a.format(tmp=tmp_path, cells=cells) for a in REFUSED[message]]
    assert annotate(cells, "--no-qc", *filled) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_help_and_version_load_neither_torch_nor_scanpy() -> None:
    code = (
        "import sys; from scarce.cli import main\n"
        "for flag in ('--help', '--version'):\n"
        "    try: main([flag])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'scanpy', 'anndata', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


@pytest.mark.usefixtures("undrawn")
def test_benchmark_writes_its_tables_and_the_same_command_goes_on(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["benchmark", str(cells), "--labels", "kind", "--models", "pca,bvae", "--seeds", "2"]
    command += ["--epochs", "2", "--latent", "2", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "note: One data set shows nothing about another." in printed
    assert "latent_leiden" in printed
    table = pd.read_csv(out / "results.csv")
    expected = "dataset,model,preset,seed,space,metric,value,label_source"
    assert ",".join(table.columns) == expected
    assert set(table["space"]) == {"latent", "latent_leiden", "tsne2d"}
    assert set(table["dataset"]) == {"cells"}
    before = table.drop(columns="label_source")
    assert main([*command, "--quiet"]) == 0
    pd.testing.assert_frame_equal(
        before, pd.read_csv(out / "results.csv").drop(columns="label_source")
    )
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("undrawn")
def test_tune_writes_a_config_that_runs(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["tune", str(cells), "--labels", "kind", "--vary", "latent=1,2", "--vary", "beta=0.5"]
    assert main([*command, "--epochs", "2", "--seeds", "1", "--out", str(out)]) == 0
    assert "elbo" in capsys.readouterr().out
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["beta"] == 0.5
    assert best["data"] == str(cells)
    assert best["labels"] == "kind"
    assert best["latent"] in (1, 2)
    arguments = ("--config", out / "best.toml", "--no-qc", "--quiet")
    assert run(*arguments, "--out", tmp_path / "run") == 0


STUDIES = {
    "no labels": (["benchmark", "{cells}", "--labels", "knd"], "every data set must have labels"),
    "unknown model": (
        ["benchmark", "{cells}", "--labels", "kind", "--models", "vae"],
        "model must",
    ),
    "no such batch": (
        ["benchmark", "{cells}", "--labels", "kind", "--batch", "plat"],
        "must be a column of the cell table; found 'plat'",
    ),
    "no seeds": (["benchmark", "{cells}", "--labels", "kind", "--seeds", "0"], "seeds must be at"),
    "no such data": (["benchmark", "none.h5ad", "--labels", "kind"], "none.h5ad"),
    "other files": (["benchmark", "{cells}", "--labels", "kind", "--out", "{tmp}"], "other files"),
    "no numbers": (["tune", "{cells}", "--labels", "kind", "--vary", "latent=ten"], "--vary must"),
}


@pytest.mark.parametrize("case", STUDIES)
def test_wrong_studies_give_one_line_and_no_output(
    case: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = STUDIES[case]
    filled = [a.format(tmp=tmp_path, cells=cells) for a in arguments]
    out = [] if "--out" in filled else ["--out", str(tmp_path / "out")]
    assert main([*filled, *out]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]
