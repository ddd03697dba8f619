"""A benchmark does each trial once, survives what kills it, and gives the same numbers anywhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scarce import cluster, metrics
from scarce.compare import COLUMNS, Comparison
from scarce.config import RunConfig
from scarce.data import load, simulate
from scarce.errors import InputError
from scarce.pipeline import plan
from scarce.study import BenchmarkConfig, TuneConfig, benchmark, engine, tune
from scarce.study.measure import COSTS
from scarce.study.workers import open_workers

BASELINES = ["pca", "pca_scaled", "mean", "random"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 90 cells of three types, with other columns."""
    adata = simulate(90, 60, n_types=3, seed=1)
    plain = ad.AnnData(sp.csr_matrix(adata.X), obs=adata.obs[["cell_type"]], var=adata.var[[]])
    plain.obs["cell_type"] = plain.obs["cell_type"].astype(str)
    plain.obs["tissue"] = "blood"
    plain.obs["plate"] = (np.arange(90) % 2).astype(str)
    plain.obs["age"] = np.arange(90.0)
    plain.obs["leiden"] = plain.obs["cell_type"]
    plain.obs["some"] = plain.obs["cell_type"].where(np.arange(90) % 3 > 0, None)
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    plain.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def config(cells: Path) -> BenchmarkConfig:
    labels = ("cell_type",)
    return BenchmarkConfig((str(cells),), labels, models=("bvae",), seeds=2, epochs=2, latent=3)


@pytest.fixture(scope="module")
def done(
    config: BenchmarkConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Comparison, Path]:
    out = tmp_path_factory.mktemp("study") / "out"
    return benchmark(config, out), out


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out figures, most of the time of a small study, where no test looks at them."""
    monkeypatch.setattr("scarce.study.contest.comparison_figures", lambda comparison: {})


def numbers(results: pd.DataFrame) -> pd.DataFrame:
    """All that must not depend on who ran a trial."""
    return results[~results["metric"].isin(COSTS)].reset_index(drop=True)


def saved(out: Path) -> pd.DataFrame:
    return numbers(pd.read_csv(out / "results.csv"))


def test_every_method_is_scored_in_every_space_with_every_seed(
    done: tuple[Comparison, Path],
) -> None:
    table = pd.read_csv(done[1] / "results.csv")
    assert list(table.columns) == COLUMNS
    clustered = table[table["metric"] == "ari"]
    found = set(zip(clustered["model"], clustered["seed"], clustered["space"], strict=True))
    spaces = ("latent", "latent_leiden", "tsne2d")
    assert found == {(m, s, x) for m in [*BASELINES, "bvae"] for s in (0, 1) for x in spaces}
    assert set(table["label_source"]) == {"column 'cell_type'"}
    assert set(table["preset"]) == {"default"}


def test_what_is_measured_of_a_fit_is_there_where_it_is_defined(
    done: tuple[Comparison, Path],
) -> None:
    table = done[0].results
    of = {m: set(table.loc[table["model"] == m, "metric"]) for m in [*BASELINES, "bvae"]}
    costs = {"seconds", "peak_rss_mb", "n_parameters", "epochs", "active_units", "knn_r2"}
    assert all(costs <= metrics for metrics in of.values())
    assert {m for m in of if "r2" in of[m]} == {"pca", "pca_scaled", "mean", "bvae"}
    assert {m for m in of if "elbo" in of[m]} == {m for m in of if "iwae" in of[m]} == {"bvae"}
    wide = table.pivot_table(index=["model", "seed"], columns="metric", values="value")
    assert (wide.loc["mean", "r2"].abs() < 1e-9).all()
    assert (wide.loc["pca", "knn_r2"] > wide.loc["random", "knn_r2"]).all()
    assert (wide.loc["bvae", "elbo"] <= wide.loc["bvae", "iwae"]).all()
    assert (wide["peak_rss_mb"] > 50).all()


@pytest.mark.usefixtures("undrawn")
def test_mixing_of_batches_is_measured_and_models_are_told_of_them(
    cells: Path, tmp_path: Path
) -> None:
    labels, options = ("cell_type",), {"seeds": 1, "epochs": 2, "latent": 3}
    config = BenchmarkConfig(
        (str(cells),), labels, models=("bvae",), batch="plate", covariates=("age",), **options
    )
    comparison = benchmark(config, tmp_path / "out")
    assert comparison.failures == ()
    table = comparison.results.query("metric == 'batch_mixing'")
    places = set(zip(table["model"], table["space"], strict=True))
    assert places == {(m, s) for m in [*BASELINES, "bvae"] for s in ("latent", "tsne2d")}
    value = table.set_index(["model", "space"])["value"]
    z = np.random.default_rng(0).normal(size=(90, 3))
    assert value["random", "latent"] == metrics.batch_mixing(z, np.arange(90) % 2)
    bound = comparison.results.query("model == 'bvae' and metric == 'elbo'")["value"]
    assert np.isfinite(bound).all()
    assert "Batch mixing" in (tmp_path / "out" / "report.html").read_text()


def test_everything_that_is_promised_is_written(done: tuple[Comparison, Path]) -> None:
    out = done[1]
    names = {p.name for p in out.iterdir()}
    assert names == {
        "comparison.csv",
        "figures",
        "plan.json",
        "report.html",
        "results.csv",
        "trials",
    }
    figures = {p.name for p in (out / "figures").iterdir()}
    assert {"forest_ari.svg", "ranks_ari.png", "tradeoff.svg"} <= figures
    page = (out / "report.html").read_text()
    assert "One data set shows nothing about another." in page
    assert "column &#39;cell_type&#39;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert str(out.parent) not in page
    assert not [p.name for p in (out / "trials").iterdir() if p.name.startswith(".")]


@pytest.mark.usefixtures("undrawn")
def test_the_same_command_again_runs_nothing(
    config: BenchmarkConfig, done: tuple[Comparison, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (done[1] / "results.csv").read_bytes()
    monkeypatch.setattr(engine, "measure", lambda task: pytest.fail("a trial was run again"))
    benchmark(config, done[1])
    assert (done[1] / "results.csv").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_only_missing_trials_run_and_what_a_killed_process_left_is_swept(
    config: BenchmarkConfig, done: tuple[Comparison, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done[1], out)
    trials = sorted((out / "trials").iterdir())
    lost, kept = trials[:3], trials[3:]
    before = {t.name: (t / "result.json").stat().st_mtime_ns for t in kept}
    for trial in lost:
        shutil.rmtree(trial)
        (trial.parent / f".{trial.name}.lock").touch()
        (trial.parent / f".{trial.name}.0badcafe.new").mkdir()
    benchmark(config, out)
    assert sorted((out / "trials").iterdir()) == trials
    assert {t.name: (t / "result.json").stat().st_mtime_ns for t in kept} == before
    pd.testing.assert_frame_equal(saved(out), saved(done[1]))


def test_a_trial_another_process_runs_is_left_to_it(
    config: BenchmarkConfig, tmp_path: Path
) -> None:
    task = config.tasks()[0]
    lock = tmp_path / f".{task.config.key}.lock"
    with engine._claim(lock) as mine, engine._claim(lock) as again:
        assert mine
        assert not again
        engine.attempt(task, tmp_path)
        assert not (tmp_path / task.config.key).exists()
    engine.attempt(task, tmp_path)
    assert (tmp_path / task.config.key / "result.json").is_file()


def test_a_failed_trial_is_a_row_with_its_error(
    config: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = engine.measure

    def fails_once(task: engine.Task) -> dict[str, object]:
        if (task.config.model, task.config.seed) == ("pca", 1):
            raise FloatingPointError("the loss is nan\nin epoch 3")
        done = measured(replace(task, config=replace(task.config, model="random")))
        return done | {"notes": ["Variable genes were chosen among 5."]}

    monkeypatch.setattr(engine, "measure", fails_once)
    comparison = benchmark(config, tmp_path / "out")
    failed = comparison.results[comparison.results["value"].isna()]
    assert len(failed) == 1
    assert failed["metric"].item() == "error: FloatingPointError: the loss is nan in epoch 3"
    assert (failed["model"].item(), failed["seed"].item()) == ("pca", 1)
    assert "the loss is nan" in (tmp_path / "out" / "report.html").read_text()
    assert any("1 trial(s) failed" in warning for warning in comparison.warnings)
    assert comparison.warnings.count("cells: Variable genes were chosen among 5.") == 1
    pca = comparison.estimates.query("model == 'pca' and metric == 'ari' and space == 'latent'")
    assert pca["n_seeds"].item() == 1


def test_a_trial_that_kills_its_process_fails_alone(
    config: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pool does: one dying process breaks every trial that is queued behind it."""
    tasks = [t for t in config.tasks() if t.config.model == "random"]
    deadly = tasks[0].config.key

    class Pool(Executor):
        is_broken = False

        def submit(self, fn, task, directory):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            future: Future[None] = Future()
            self.is_broken |= task.config.key == deadly
            if self.is_broken:
                future.set_exception(BrokenExecutor())
            else:
                future.set_result(fn(task, directory))
            return future

    monkeypatch.setattr(engine, "open_workers", lambda *_: nullcontext(Pool()))
    lost, kept = engine.run_tasks(tasks, tmp_path, n_workers=2)
    assert "its process was killed" in lost["error"]
    assert "values" in kept


def test_a_file_that_changed_is_another_benchmark(cells: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.h5ad"
    shutil.copy(cells, path)
    config = BenchmarkConfig((str(path),), ("cell_type",), models=(), seeds=1)
    before = config.tasks()[0].config.key
    adata = ad.read_h5ad(path)
    adata[:80].write_h5ad(path)
    assert config.tasks()[0].config.key != before


@pytest.mark.usefixtures("undrawn")
def test_scores_are_those_of_a_run_on_the_cells_with_labels(cells: Path, tmp_path: Path) -> None:
    """Random codes can be drawn again, so their scores can be checked from outside."""
    config = BenchmarkConfig((str(cells),), ("some",), models=(), seeds=1, latent=4)
    table = benchmark(config, tmp_path / "out").results.query("model == 'random'")
    labels = ad.read_h5ad(cells).obs["some"].dropna().astype(str)
    assert len(labels) == 60
    z = np.random.default_rng(0).normal(size=(60, 4))
    value = table.set_index(["space", "metric"])["value"]
    expected = metrics.agreement(labels, cluster.kmeans(z, 3, seed=0).labels)
    assert value["latent", "ari"] == expected["ari"]
    expected = metrics.agreement(labels, cluster.leiden(z, 3, seed=0).labels)
    assert value["latent_leiden", "nmi"] == expected["nmi"]
    expected = metrics.neighbour_agreement(z, labels)
    assert value["latent", "knn_macro_f1"] == expected["knn_macro_f1"]


def test_labels_that_come_from_components_are_marked(cells: Path) -> None:
    blank = BenchmarkConfig((str(cells),), ("leiden",), models=(), seeds=1)
    declared = replace(blank, labels=("cell_type",), circular=(str(cells),))
    table = cells.with_name("types.csv")
    types = ad.read_h5ad(cells).obs["cell_type"].rename("seurat_clusters")
    types.to_csv(table, index_label="barcode")
    for config in (blank, declared, replace(blank, labels=(str(table),))):
        source = config.tasks()[0].config.data.label_source
        assert source.endswith("(circular: derived from PCA)")


def test_both_presets_run_and_baselines_have_their_sizes(cells: Path) -> None:
    config = BenchmarkConfig((str(cells),), ("cell_type",), presets=("default", "paper"), seeds=1)
    sizes = {(t.config.preset, t.config.settings.n_latent) for t in config.tasks()}
    assert sizes == {("default", 10), ("paper", 6)}
    assert len(config.tasks()) == 2 * 7


def test_the_key_of_a_trial_changes_with_whatever_changes_its_numbers(
    config: BenchmarkConfig,
) -> None:
    trial = config.tasks()[0].config
    others = [
        replace(trial, seed=9),
        replace(trial, model="dae"),
        replace(trial, threads=2),
        replace(trial, unseen=0.2),
        replace(trial, settings=replace(trial.settings, beta=2.0)),
        replace(trial, data=replace(trial.data, sha256="0")),
        replace(trial, data=replace(trial.data, labels_sha256="0")),
    ]
    assert len({trial.key, *(other.key for other in others)}) == len(others) + 1
    assert trial.key == config.tasks()[0].config.key


WRONG: dict[str, dict[str, object]] = {
    "found no column and no file 'kind' for cells": {"labels": ("kind",)},
    "found 1 for the 90 labelled cells of cells, the first 'blood'": {"labels": ("tissue",)},
    "model must be one of .*; found 'vae'": {"models": ("vae",)},
    "preset must be one of .*; found 'papr'": {"presets": ("papr",)},
    "seeds must be at least 1; found 0": {"seeds": 0},
    "unseen must be at least 0 and below 1; found 1": {"unseen": 1},
    "epochs must be at least 1; found 0": {"epochs": 0},
    "--labels must be given once, or once for each of the 1 data sets; found 2": {
        "labels": ("a", "b")
    },
    "circular data set must be one of": {"circular": ("other",)},
    "models must be a list of names; found 'bvae'": {"models": "bvae"},
    "likelihood of a LinearVSC must be one of .*; found 'nb'": {
        "models": ("dae", "lvsc"),
        "likelihood": "nb",
    },
    "models must differ; found 'dae' again": {"models": ("dae", "dae")},
    "presets must differ; found 'default' again": {"presets": ("default", "default")},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_options_are_refused_before_anything_is_made(
    message: str, config: BenchmarkConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        benchmark(replace(config, **WRONG[message]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_data_sets_of_one_name_are_refused(
    config: BenchmarkConfig, cells: Path, tmp_path: Path
) -> None:
    shutil.copy(cells, tmp_path / "cells.h5ad")
    twice = replace(config, data=(str(cells), str(tmp_path / "cells.h5ad")))
    shutil.copy(cells, tmp_path / "all.h5ad")
    with pytest.raises(InputError, match="must not be named 'all'"):
        benchmark(replace(config, data=(str(tmp_path / "all.h5ad"),)), tmp_path / "out")
    with pytest.raises(InputError, match="must have different names; found 'cells'"):
        twice.tasks()


def test_a_directory_of_another_benchmark_is_refused(
    config: BenchmarkConfig, done: tuple[Comparison, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="its seeds was 2, and 3 is asked for"):
        benchmark(replace(config, seeds=3), done[1])
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InputError, match="found other files"):
        benchmark(config, tmp_path)


def test_a_model_of_scvi_tools_needs_it(
    config: BenchmarkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scarce.contenders.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'scvi' needs scvi-tools; .* pip install scvi"):
        replace(config, models=("scvi",)).check()


def test_a_scheduler_that_does_not_answer_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InputError, match=r"needs Dask; .* pip install dask"),
        open_workers(1, "tcp://127.0.0.1:1"),
    ):
        pass


def test_no_workers_are_an_input_error() -> None:
    with pytest.raises(InputError, match="workers must be at least 1; found 0"), open_workers(0):
        pass


def test_search_finds_the_larger_code_and_halves_the_candidates(
    cells: Path, tmp_path: Path
) -> None:
    """Three programmes were planted: one unit cannot hold what three can."""
    vary = (("latent", (1, 3, 4)), ("beta", (1.0, 1000.0)))
    config = TuneConfig((str(cells),), ("cell_type",), vary, epochs=9, seeds=1)
    table = tune(config, tmp_path / "out")
    assert table.groupby("round")["epochs"].first().tolist() == [3, 9]
    assert table.groupby("round").size().tolist() == [6, 2]
    kept = table[table["round"] == 1].nlargest(2, "elbo")
    assert kept["kept"].all()
    best = table[(table["round"] == 2) & table["kept"]]
    assert best["elbo"].item() == table[table["round"] == 2]["elbo"].max()
    toml = (tmp_path / "out" / "best.toml").read_text()
    assert f"latent = {best['latent'].item()}" in toml
    assert 'labels = "cell_type"' in toml
    pd.testing.assert_frame_equal(tune(config, tmp_path / "out"), table)


def test_a_search_on_cells_some_of_which_have_no_label_ends_in_a_config_that_runs(
    cells: Path, tmp_path: Path
) -> None:
    vary = (("latent", (1, 2)),)
    tune(TuneConfig((str(cells),), ("some",), vary, epochs=1, seeds=1), tmp_path / "out")
    options = tomllib.loads((tmp_path / "out" / "best.toml").read_text())
    assert "labels" not in options
    plan(load(cells), RunConfig.from_options(options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dae"}, "model to tune by its ELBO must be one of 'bvae', 'bvsc'; found 'dae'"),
        ({"vary": (("genes", (10.0,)),)}, "option of bvae to vary must .*; found 'genes'"),
        ({"vary": (("alpha", (0.1,)),)}, "option of bvae to vary must .*; found 'alpha'"),
        (
            {"model": "bvsc", "vary": (("alpha", (0.1, 2.0)),)},
            "alpha must be above 0 and below 1; found 2",
        ),
        ({"vary": ()}, "must vary an option"),
        (
            {"vary": (("latent", (2, 3)), ("latent", (5,)))},
            "options to vary must differ; found 'latent' again",
        ),
        ({"seeds": 0}, "seeds must be at least 1; found 0"),
        ({"epochs": 0}, "epochs must be at least 1; found 0"),
        ({"data": ("a.h5ad", "b.h5ad")}, "one data set and its --labels; found 2 and 1"),
        ({"unseen": 0.0}, "unseen must be above 0"),
    ],
)
def test_wrong_searches_are_refused(
    changes: dict[str, object], message: str, cells: Path, tmp_path: Path
) -> None:
    config = TuneConfig((str(cells),), ("cell_type",), (("latent", (1, 2)),))
    with pytest.raises(InputError, match=message):
        tune(replace(config, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_search_in_which_every_trial_fails_names_no_winner(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: object) -> None:
        raise FloatingPointError("the loss is inf in epoch 1")

    monkeypatch.setattr(engine, "measure", fail)
    config = TuneConfig((str(cells),), ("cell_type",), (("latent", (1, 2)),))
    with pytest.raises(InputError, match=r"found none\. The first failed by FloatingPointError"):
        tune(config, tmp_path / "out")
    assert not (tmp_path / "out" / "best.toml").exists()


@pytest.mark.slow
def test_processes_give_the_numbers_of_a_serial_run(
    config: BenchmarkConfig, done: tuple[Comparison, Path], tmp_path: Path
) -> None:
    benchmark(config, tmp_path / "out", workers=2)
    pd.testing.assert_frame_equal(saved(tmp_path / "out"), saved(done[1]), check_exact=True)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_numbers_of_a_serial_run(
    config: BenchmarkConfig, done: tuple[Comparison, Path], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as local:
        benchmark(config, tmp_path / "out", scheduler=local.scheduler_address)
    pd.testing.assert_frame_equal(saved(tmp_path / "out"), saved(done[1]), check_exact=True)


def start(cells: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scarce", "benchmark", str(cells), "--labels", "cell_type"]
    command += ["--models", "bvae", "--seeds", "2", "--epochs", "2", "--latent", "3", "--quiet"]
    return subprocess.Popen([*command, "--out", str(out), *more])


def finished(out: Path) -> dict[str, int]:
    """When each trial was committed, by its directory; one whose name begins with a dot is not."""
    found = (out / "trials").glob("[!.]*/result.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture
def killed(cells: Path, tmp_path: Path) -> Path:
    """A directory whose benchmark was killed after three trials."""
    out = tmp_path / "out"
    process = start(cells, out)
    try:
        while len(finished(out)) < 3 and process.poll() is None:
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return out


@pytest.mark.slow
def test_a_killed_benchmark_goes_on_to_the_same_table(
    cells: Path, killed: Path, done: tuple[Comparison, Path]
) -> None:
    before = finished(killed)
    assert 3 <= len(before) < 10
    assert not (killed / "results.csv").exists()
    assert start(cells, killed).wait() == 0
    after = finished(killed)
    assert len(after) == 10
    assert {key: after[key] for key in before} == before
    pd.testing.assert_frame_equal(saved(killed), saved(done[1]), check_exact=True)


@pytest.mark.slow
def test_two_processes_share_a_benchmark(
    cells: Path, done: tuple[Comparison, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    both = [start(cells, out), start(cells, out)]
    assert [process.wait() for process in both] == [0, 0]
    pd.testing.assert_frame_equal(saved(out), saved(done[1]), check_exact=True)
    plans = [json.loads(p.read_text()) for p in (out / "trials").glob("*/config.json")]
    assert len(plans) == 10
