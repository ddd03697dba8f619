"""The numbers that figures and page show: means over seeds, winners, costs."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from scarce.report.tables import best, effective_beta, score_rows, training_rows
from scarce.summary import ModelRun, RunSummary
from summaries import make_summary


def small(**options: object) -> RunSummary:
    return make_summary(n_cells=40, types=("one", "two"), titles={"bvae": "β-VAE"}, **options)


def test_ties_at_three_decimals_are_all_best() -> None:
    summary = small(seeds=(1,))
    level = dict.fromkeys(("nmi", "ari", "homogeneity", "completeness"), 0.5)
    scores = tuple(
        dataclasses.replace(summary.scores[0], model=model, silhouette=value, **level)
        for model, value in (("bvae", 0.12341), ("dae", 0.12339), ("pca", 0.11))
    )
    runs = tuple(dataclasses.replace(summary.runs[0], model=m) for m in ("bvae", "dae", "pca"))
    rows = score_rows(dataclasses.replace(summary, scores=scores, runs=runs))
    winners = {(model, metric) for _, model, metric in best(rows)}
    assert {model for model, metric in winners if metric == "silhouette"} == {"bvae", "dae"}
    assert {model for model, metric in winners if metric == "nmi"} == {"bvae", "dae", "pca"}


def test_training_table_averages_over_seeds() -> None:
    history = {"train": (3.0, 2.0), "held_out": (5.0, 4.0)}
    more = {"held_out": (6.0, 7.0)}
    fits = (
        ModelRun("dae", "AE", 1, 10.0, 20, 1234, "sparse", {}, history=history, peak_mb=800.0),
        ModelRun("dae", "AE", 2, 30.0, 25, 1234, "sparse", {}, history=more, peak_mb=700.0),
    )
    (row,) = training_rows(dataclasses.replace(small(), runs=fits))
    assert (row.seconds, row.epochs, row.held_out) == (20.0, "20–25", 5.0)
    assert row.peak_mb == 800.0


@pytest.mark.parametrize(("likelihood", "scale"), [("squared_error", 2.0), ("gaussian", 1.0)])
def test_effective_beta_is_the_weight_beside_a_log_likelihood(
    likelihood: str, scale: float
) -> None:
    """Loss of the fit = scale x (-log p of unit noise + effective beta x KL) + a constant."""
    generator = np.random.default_rng(0)
    x, first, second = generator.normal(size=(3, 50))
    kl, beta = (3.0, 7.0), 1.7
    error = [0.5 * scale * ((x - x_hat) ** 2).sum() for x_hat in (first, second)]
    loss = [e + beta * k for e, k in zip(error, kl, strict=True)]
    nll = [-norm.logpdf(x, x_hat).sum() for x_hat in (first, second)]
    effective = effective_beta({"beta": beta, "network": {"likelihood": likelihood}})
    bound = [n + effective * k for n, k in zip(nll, kl, strict=True)]
    assert loss[1] - loss[0] == pytest.approx(scale * (bound[1] - bound[0]))


def test_models_without_a_prior_have_no_beta() -> None:
    assert np.isnan(effective_beta({"n_latent": 10, "network": {"likelihood": "gaussian"}}))


def test_active_latents_are_those_that_vary() -> None:
    summary = small(seeds=(1,))
    z = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 0.05, 0.0]
    cells = dataclasses.replace(summary.cells, latents={"bvae": z})
    (row,) = training_rows(dataclasses.replace(summary, cells=cells))
    assert row.active == "1 of 3"
