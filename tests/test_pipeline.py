"""A whole run: same input, same numbers; and what the course report promises is there."""

import os
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import metrics as sk

from scarce import programmes, stability
from scarce.config import RunConfig
from scarce.data import load, simulate
from scarce.errors import InputError
from scarce.pipeline import Result, plan, reference, run

pytestmark = pytest.mark.usefixtures("few_steps")

QUICK = RunConfig(data="simulated", labels="cell_type", epochs=2, latent=3, genes=100, qc=False)


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return simulate(120, 150, n_types=3, seed=1)


@pytest.fixture(scope="module")
def result(adata: ad.AnnData) -> Result:
    return run(adata, replace(QUICK, seeds=2))


def test_every_model_is_scored_in_both_spaces_with_every_seed(result: Result) -> None:
    rows = {(s.model, s.seed, s.space) for s in result.summary.scores}
    models, spaces = ("pca", "dae", "bvae", "bvsc"), ("latent", "tsne2d")
    assert rows == {(m, s, space) for m in models for s in (0, 1) for space in spaces}
    assert {s.n_clusters for s in result.summary.scores} == {3}


def test_cells_from_elsewhere_are_checked_and_run(adata: ad.AnnData, result: Result) -> None:
    own = ad.AnnData(adata.X.toarray().astype(np.int64), obs=adata.obs, var=adata.var)
    done = run(own, replace(QUICK, models=("dae",)))
    assert done.summary.data.name == "AnnData"
    np.testing.assert_array_equal(done.adata.obsm["X_dae"], result.adata.obsm["X_dae"])
    assert f"{np.count_nonzero(own.X):,} nonzeros" in plan(own, QUICK)[0]
    for spoilt in (0.5 * adata.X, -adata.X):
        own.X = spoilt
        with pytest.raises(InputError, match="counts must"):
            run(own, QUICK)


def test_genes_whose_names_repeat_are_refused_before_any_work(adata: ad.AnnData) -> None:
    twice = adata.copy()
    twice.var_names = ["g", "g", *adata.var_names[2:]]
    for start in (run, plan, reference):
        with pytest.raises(InputError, match="names of genes must differ; found 'g' again"):
            start(twice, QUICK)


def test_stored_zeros_are_no_genes_that_were_found(adata: ad.AnnData) -> None:
    edited = adata.copy()
    edited.uns["scarce"]["source"]["filtered"] = False
    edited.X.data[edited.X.data <= 1] = 0
    clean = edited.copy()
    clean.X.eliminate_zeros()
    thresholds = replace(QUICK, qc=True, min_genes=10)
    assert plan(edited, thresholds) == plan(clean, thresholds)


def test_columns_of_the_users_that_have_our_names_are_kept(adata: ad.AnnData) -> None:
    theirs = adata.copy()
    theirs.obs["n_counts"], theirs.obs["cell_type_input"] = -1.0, "mine"
    theirs.obsm["X_umap"] = np.arange(240).reshape(120, 2)
    done = run(theirs, replace(QUICK, models=("dae",)))
    np.testing.assert_array_equal(done.adata.obsm["X_umap"], theirs.obsm["X_umap"])
    assert {"programme_activity"} <= set(done.adata.obsm)
    assert {"programme_loadings"} <= set(done.adata.varm)
    assert set(done.adata.obs["n_counts_input"]) == {-1.0}
    assert done.adata.obs["n_counts"].min() > 0
    assert set(done.adata.obs["cell_type_input"]) == {"mine"}
    notes = [note for note in done.summary.data.notes if "own column" in note]
    assert notes == ["The file's own column 'n_counts' is kept as 'n_counts_input'."]


def test_the_machine_is_described(result: Result) -> None:
    machine = result.summary.environment
    assert machine["processor"].endswith(f", {os.cpu_count()} cores")
    assert not machine["processor"].startswith(",")
    assert int(machine["threads"]) >= 1


def test_what_every_fit_cost_is_known(result: Result) -> None:
    assert len(result.summary.runs) == 8
    # The libraries alone take more than 50 MB.
    assert all(run.seconds >= 0 and run.peak_mb > 50 for run in result.summary.runs)


def test_scores_are_those_of_the_clusters_that_are_written(result: Result) -> None:
    obs = result.adata.obs
    for score in result.summary.scores:
        if score.seed == 0:
            clusters = obs[f"kmeans_{score.space}_{score.model}"]
            assert score.ari == pytest.approx(sk.adjusted_rand_score(obs["cell_type"], clusters))


def test_marker_genes_are_those_of_the_labels(result: Result) -> None:
    summary = result.summary
    assert {marker.group for marker in summary.markers} <= set(summary.labels.counts)
    assert summary.dots is not None
    assert set(summary.dots.genes) <= {marker.gene for marker in summary.markers}
    assert summary.labels.naming == ()


def test_codes_and_maps_follow_the_conventions_of_anndata(result: Result) -> None:
    obsm = result.adata.obsm
    for model in ("pca", "dae", "bvae", "bvsc"):
        assert obsm[f"X_{model}"].shape == (120, 3)
        assert obsm[f"X_tsne_{model}"].shape == (120, 2)
        assert obsm[f"X_tsne3d_{model}"].shape == (120, 3)
    assert obsm["X_bvsc_pip"].shape == (120, 3)
    counts = result.adata.layers["counts"]
    assert np.array_equal(counts.data, np.round(counts.data))


def test_programmes_of_every_model_are_kept_with_the_genes(result: Result) -> None:
    adata, summary = result.adata, result.summary
    assert [code.model for code in summary.codes] == ["dae", "bvae", "bvsc"]
    assert [code.gated for code in summary.codes] == [False, False, True]
    assert len(summary.programmes) == 9
    modelled = adata.var["highly_variable"].to_numpy()
    for model in ("dae", "bvae", "bvsc"):
        effect = adata.varm[f"{model}_programmes"]
        assert effect.shape == adata.varm[f"{model}_programmes_se"].shape == (150, 3)
        np.testing.assert_array_equal(np.isnan(effect).all(axis=1), ~modelled)
    cells = adata[:, modelled]
    expected = programmes(result.models["bvae"], cells)
    np.testing.assert_allclose(cells.varm["bvae_programmes"], expected.effect, atol=1e-6)
    first = next(found for found in summary.programmes if found.model == "bvae")
    genes = expected.top(25).query("latent == 0 and direction == 'up'")["gene"]
    assert [gene.gene for gene in first.up] == genes.tolist()
    np.testing.assert_array_equal(adata.obsm["X_bvsc_sd"], result.models["bvsc"].uncertainty(cells))
    assert "X_dae_sd" not in adata.obsm


def test_stability_is_that_of_the_seeds(adata: ad.AnnData, result: Result) -> None:
    second = run(adata, replace(QUICK, seed=1, models=("bvae",)))
    cells = result.adata[:, result.adata.var["highly_variable"].to_numpy()]
    fits = [result.models["bvae"], second.models["bvae"]]
    expected = stability(fits, cells)
    latents = result.adata.uns["bvae_programmes"]["latents"]
    mine = expected.latents.query("fit == 0")
    np.testing.assert_allclose(latents["reproducibility"], mine["reproducibility"], atol=1e-6)
    code = next(code for code in result.summary.codes if code.model == "bvae")
    assert code.n_fits == 2
    assert code.matched == pytest.approx(expected.pairs["matched"][0], abs=1e-6)
    alone = next(code for code in second.summary.codes if code.model == "bvae")
    assert alone.n_fits == 1
    assert np.isnan(alone.matched)


def test_gene_sets_are_refused_before_any_model_is_fitted(
    adata: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tmp_path / "sets.gmt"
    sets.write_text("mouse\tx\tCd3e\tCd4\tCd8a\n")
    monkeypatch.setattr("scarce.pipeline.trial", None)
    with pytest.raises(InputError, match="at least 3 of the 100 modelled genes"):
        run(adata, replace(QUICK, gmt=str(sets)))
    with pytest.raises(InputError, match="--gmt must be a GMT file"):
        plan(adata, replace(QUICK, gmt=str(tmp_path / "none.gmt")))


def test_same_config_gives_the_same_numbers_bit_for_bit(adata: ad.AnnData) -> None:
    first, second = run(adata, QUICK), run(adata, QUICK)
    for key, space in first.adata.obsm.items():
        np.testing.assert_array_equal(space, second.adata.obsm[key])
    assert first.summary.scores == second.summary.scores


def test_units_that_are_not_used_are_a_warning(adata: ad.AnnData) -> None:
    dear = replace(QUICK, models=("bvae",), beta=1e4, lr=0.02, epochs=20)
    warnings = run(adata, dear).summary.warnings
    expected = "β-VAE, seed 0: 3 of 3 units (1, 2, 3) are not used: the code hardly varies there."
    assert expected in warnings


def test_input_is_left_alone(adata: ad.AnnData, result: Result) -> None:
    assert "cell_type" in adata.obs
    assert "counts" not in adata.layers
    assert not any(key.startswith("X_") for key in adata.obsm)


def test_without_labels_the_summary_says_they_come_from_pca() -> None:
    adata = simulate(200, 400, n_types=3, density=0.4, seed=1)
    summary = run(adata, replace(QUICK, labels=None, models=())).summary
    assert summary.labels.from_pca
    assert "derived from PCA" in summary.labels.source
    assert "There are labels to score against: pass --labels cell_type." in summary.warnings
    assert any("favours PCA" in warning for warning in summary.warnings)
    assert sum(name.n_cells for name in summary.labels.naming) == 200
    assert set(summary.labels.counts) == {name.cell_type for name in summary.labels.naming}
    assert summary.labels.recommended in {tried.resolution for tried in summary.labels.stability}


def test_labels_that_names_give_away_are_said_to_come_from_pca(
    adata: ad.AnnData, result: Result
) -> None:
    assert not result.summary.labels.from_pca
    theirs = adata.copy()
    theirs.obs["louvain"] = adata.obs["cell_type"]
    summary = run(theirs, replace(QUICK, labels="louvain", models=("dae",))).summary
    assert summary.labels.from_pca
    assert summary.warnings[0].startswith("The labels were derived from PCA")


def test_types_that_quality_control_takes_away_are_named(adata: ad.AnnData) -> None:
    raw = adata.copy()
    raw.uns["scarce"]["source"]["filtered"] = False
    raw.obs["kind"] = [f"type {kind}" for kind in adata.obs["cell_type"]]
    large = raw.obs["kind"] == raw.obs["kind"].iloc[0]
    raw.X = sp.csr_matrix(raw.X + sp.csr_matrix(np.repeat(large.to_numpy()[:, None], 150, axis=1)))
    config = replace(QUICK, labels="kind", qc=True, min_genes=5, max_genes=150, models=("dae",))
    (said,) = (w for w in run(raw, config).summary.warnings if "Quality control" in w)
    assert f"removed {large.sum()} of 120 cells, all of {raw.obs['kind'].iloc[0]} among" in said


def test_filtered_data_are_not_filtered_again() -> None:
    adata = load("pbmc68k_reduced")
    lines = plan(adata, RunConfig(data="pbmc68k_reduced", labels="bulk_labels"))
    assert any("would keep: 700 cells x 765 genes" in line for line in lines)
    assert not any("would remove" in line for line in lines)
    assert "note: Quality control was off: these data come filtered." in lines


def test_summary_names_no_folder(adata: ad.AnnData) -> None:
    summary = run(adata, replace(QUICK, data="/home/someone/secret/cells.h5ad", models=())).summary
    assert summary.config["data"] == "cells.h5ad"
    assert "/home" not in str(summary)


BAD = {
    "model must be one of 'dae', 'bvae', 'bvsc', 'lvsc', 'vasc', 'ensemble'; found 'vae'": {
        "models": ("vae",)
    },
    "one of 'gaussian', 'student_t', 'poisson'; found 'squared_error'": {
        "models": ("bvae", "lvsc"),
        "preset": "paper",
    },
    "likelihood of a LinearVSC must be one of 'gaussian', 'student_t', 'poisson'; found 'nb'": {
        "models": ("lvsc",),
        "likelihood": "nb",
    },
    "preset must be one of 'paper', 'default'; found 'papr'": {"preset": "papr"},
    "seeds must be at least 1; found 0": {"seeds": 0},
    "latent must be at least 1; found 0": {"latent": 0},
    "latent must be a whole number, at least 1; found 2.5": {"latent": 2.5},
    "alpha must be above 0 and below 1; found 2": {"models": ("bvsc",), "alpha": 2.0},
    "beta must be at least 0; found -1": {"models": ("ensemble",), "beta": -1.0},
    "batch_size must be at least 2; found 0": {"batch_size": 0},
    "seed must be at least 0 and at most 4,294,967,295; found 99999999999": {"seed": 99999999999},
    "lr must be finite, above 0; found inf": {"lr": float("inf")},
    "genes must be 'all' or a whole number above 1; found 1": {"genes": 1},
    "min_genes must be a number, at least 0; found 'x'": {"min_genes": "x"},
    "models must differ; found 'dae' again": {"models": ("dae", "bvae", "dae")},
    "--labels must be a file or a column .* 'cel_type'. Columns: 'cell_type'": {
        "labels": "cel_type"
    },
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_options_are_refused_before_any_work(message: str, adata: ad.AnnData) -> None:
    with pytest.raises(InputError, match=message):
        run(adata, replace(QUICK, **BAD[message]))


def test_a_smaller_pca_is_a_warning(adata: ad.AnnData) -> None:
    config = replace(QUICK, models=("dae",), genes=4, latent=5, epochs=1)
    assert any(
        "PCA has 3 components and the models 5 latents" in warning
        for warning in run(adata, config).summary.warnings
    )


def test_a_single_gene_is_refused(adata: ad.AnnData) -> None:
    with pytest.raises(InputError, match="at least two genes to model; found one"):
        run(adata[:, :1].copy(), replace(QUICK, genes="all"))


def test_one_type_and_one_type_per_cell_are_refused(adata: ad.AnnData) -> None:
    adata = adata.copy()
    adata.obs["tissue"] = "blood"
    for do in (run, plan):
        with pytest.raises(InputError, match="found 1 for 120 cells, the first 'blood'"):
            do(adata, replace(QUICK, labels="tissue"))
    adata.obs["tissue"] = adata.obs_names
    with pytest.raises(InputError, match="fewer types than cells; found 120 for 120 cells"):
        run(adata, replace(QUICK, labels="tissue"))


def test_cells_that_are_all_alike_need_labels() -> None:
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (60, 30)).astype(np.float32))
    alike = simulate(60, 30, n_types=1)
    alike.X = counts
    with pytest.raises(InputError, match=r"two groups; found one of 60 cells\. Pass --labels"):
        run(alike, replace(QUICK, labels=None, models=()))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'epochs'"):
        RunConfig.from_options({"data": "x", "epoch": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [("scaled", "no"), ("covariates", "age"), ("models", "dae"), ("qc", 0), ("labels", 3)],
)
def test_options_of_the_wrong_kind_are_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name} must be .*; found {value!r}"):
        RunConfig.from_options({name: value})


def test_very_few_cells_run(adata: ad.AnnData) -> None:
    few = adata[:8].copy()
    few.obs["cell_type"] = ["a", "b"] * 4
    few.X = sp.csr_matrix(few.X)
    result = run(few, replace(QUICK, models=("bvsc",)))
    assert np.isfinite(result.adata.obsm["X_tsne3d_bvsc"]).all()
