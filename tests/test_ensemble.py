"""Fits side by side: one code, the members' mean expression, saved and read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anndata as ad
import numpy as np
import pytest
from scipy.linalg import sqrtm

from scarce import BetaVAE, DeepAutoencoder, Ensemble, programmes, stability
from scarce.data.simulate import simulate
from scarce.errors import InputError
from scarce.estimators import load_model
from scarce.models.parts import Network
from scarce.preprocess import normalise
from scarce.presets import Settings
from scarce.sampling import seen_cells
from scarce.train import TrainConfig
from scarce.trial import trial

pytestmark = pytest.mark.usefixtures("few_steps")

QUICK = TrainConfig(epochs=3, batch_size=32)
SMALL = Network(n_hidden=(16,))


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    adata = simulate(120, 60, n_types=3, seed=1)
    normalise(adata)
    return adata


@pytest.fixture(scope="module")
def ensemble(cells: ad.AnnData) -> Ensemble:
    template = BetaVAE(n_latent=3, network=SMALL, training=QUICK, seed=3)
    return Ensemble(template, n_members=2).fit(cells)


def test_the_code_is_what_the_members_have_in_common(ensemble: Ensemble, cells: ad.AnnData) -> None:
    codes = [member.transform(cells).astype(float) for member in ensemble.members_]
    assert not np.array_equal(*codes)
    even = []
    for z in codes:
        spread = np.cov(z, rowvar=False)
        floor = 0.1 * np.trace(spread) / 3 * np.eye(3)
        even.append((z - z.mean(0)) @ np.linalg.inv(sqrtm(spread + floor)))
    u, s, _ = np.linalg.svd(np.hstack(even), full_matrices=False)
    z = ensemble.transform(cells)
    assert z.shape == (120, 3)
    np.testing.assert_allclose(np.abs(z), np.abs(u * s * (s / s[0]) ** 2)[:, :3], atol=1e-3)


@dataclass
class Noisy:
    """Stands for an estimator: two true latents and one of chance, in units of its own."""

    seed: int = 0
    n_latent: int = 3
    noise: float = 30.0

    def fit(self, cells: np.ndarray, *, layer: None = None) -> Self:
        return self

    def transform(self, cells: np.ndarray, *, layer: None = None) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        beside = np.column_stack([cells, self.noise * rng.normal(size=len(cells))])
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return (beside @ turn * 10.0 ** rng.normal()).astype(np.float32)


def test_what_one_member_finds_counts_little_however_large_it_is() -> None:
    cells = np.random.default_rng(0).normal(size=(400, 2)) * [10.0, 20.0] + [0.0, 50.0]
    z = Ensemble(Noisy(), n_members=5).fit(cells).transform(cells)
    both = np.linalg.lstsq(z[:, :2], cells - cells.mean(0), rcond=None)[0]
    errors = cells - cells.mean(0) - z[:, :2] @ both
    assert (errors.var(0) < 0.05 * cells.var(0)).all()
    first, second, third = z.std(0)
    assert second > 0.6 * first
    assert third < 0.2 * first


def test_members_without_anything_to_say_have_the_code_zero() -> None:
    cells = np.zeros((40, 2))
    ensemble = Ensemble(Noisy(noise=0), n_members=3).fit(cells)
    np.testing.assert_array_equal(ensemble.transform(cells), 0)


def test_expression_is_the_mean_of_the_members(ensemble: Ensemble, cells: ad.AnnData) -> None:
    one, two = (member.reconstruct(cells) for member in ensemble.members_)
    np.testing.assert_allclose(ensemble.reconstruct(cells), (one + two) / 2, rtol=1e-5)


def test_members_are_those_of_their_seeds_and_the_template_stays_as_it_was(
    cells: ad.AnnData,
) -> None:
    template = DeepAutoencoder(n_latent=2, network=SMALL, training=QUICK, seed=4)
    fitted = Ensemble(template, n_members=2).fit(cells)
    assert [member.seed for member in fitted.members_] == [8, 9]
    alone = DeepAutoencoder(n_latent=2, network=SMALL, training=QUICK, seed=9).fit(cells)
    np.testing.assert_array_equal(fitted.members_[1].transform(cells), alone.transform(cells))
    assert not hasattr(template, "module_")


def test_it_is_read_back_as_it_was_saved(
    ensemble: Ensemble, cells: ad.AnnData, tmp_path: Path
) -> None:
    ensemble.save(tmp_path / "model")
    again = Ensemble.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(cells), ensemble.transform(cells))
    assert again.n_parameters_ == ensemble.n_parameters_
    assert again.estimator.options == ensemble.estimator.options
    with pytest.raises(InputError, match=r"a saved model must hold model\.json"):
        Ensemble.load(tmp_path)


def test_what_is_read_is_what_was_saved_last(
    ensemble: Ensemble, cells: ad.AnnData, tmp_path: Path
) -> None:
    member = ensemble.members_[0]
    for model in (member, ensemble, member):
        model.save(tmp_path)
        again = load_model(tmp_path)
        assert type(again) is type(model)
        np.testing.assert_array_equal(again.transform(cells), model.transform(cells))
    with pytest.raises(InputError, match=r"must be of kind Ensemble; .* holds one of kind BetaVAE"):
        Ensemble.load(tmp_path)


def test_a_smaller_one_saved_over_a_larger_is_read_back(
    ensemble: Ensemble, cells: ad.AnnData, tmp_path: Path
) -> None:
    Ensemble(ensemble.estimator, n_members=3).fit(cells).save(tmp_path)
    ensemble.save(tmp_path)
    np.testing.assert_array_equal(
        Ensemble.load(tmp_path).transform(cells), ensemble.transform(cells)
    )


def test_it_has_no_programmes_of_its_own(ensemble: Ensemble, cells: ad.AnnData) -> None:
    with pytest.raises(InputError, match="of a single model; found an object of class Ensemble"):
        programmes(ensemble, cells)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found 0 models among 2 fits"):
        stability([ensemble, ensemble], cells)  # type: ignore[list-item]
    with pytest.raises(AttributeError, match="this Ensemble is not fitted"):
        Ensemble().transform(cells)


def test_a_refit_that_is_interrupted_leaves_the_last_one(
    cells: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = Ensemble(BetaVAE(n_latent=3, network=SMALL, training=QUICK), n_members=2).fit(cells)
    before = fitted.transform(cells)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scarce.estimators.ensemble._in_common", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(cells[:60])
    np.testing.assert_array_equal(fitted.transform(cells), before)


def test_options_are_checked_before_any_member_is_fitted(cells: ad.AnnData) -> None:
    with pytest.raises(InputError, match="seed must be a whole number"):
        Ensemble(BetaVAE(seed=1.5)).fit(cells)  # type: ignore[arg-type]
    small = BetaVAE(n_latent=3, network=SMALL, training=QUICK, seed=np.uint8(200))  # type: ignore[arg-type]
    members = Ensemble(small, n_members=2).fit(cells).members_
    assert [member.seed for member in members] == [400, 401]


def test_a_single_cell_is_refused(cells: ad.AnnData) -> None:
    with pytest.raises(InputError, match="expression must have at least 2 cells; found 1"):
        Ensemble().fit(cells[:1])


def test_one_member_is_no_ensemble(cells: ad.AnnData) -> None:
    with pytest.raises(InputError, match="n_members must be at least 2; found 1"):
        Ensemble(n_members=1).fit(cells)


def test_a_trial_of_an_ensemble_never_sees_the_cells_kept_back(cells: ad.AnnData) -> None:
    types = cells.obs["cell_type"].to_numpy(str)
    rows = seen_cells(120, 0.25, 2)
    other = cells.copy()
    other.X[~rows] = other.X[~rows] * 0.5
    settings = Settings(genes=None, n_latent=3, network=SMALL, training=QUICK)
    options = {"model": "ensemble", "settings": settings, "seed": 2, "unseen": 0.25}
    before, after = (trial(c, types, **options) for c in (cells, other))
    np.testing.assert_array_equal(before.spaces["latent"][rows], after.spaces["latent"][rows])
    assert not np.array_equal(before.spaces["latent"], after.spaces["latent"])
    assert isinstance(before.model, Ensemble)
    assert before.estimator is None
    members = before.model.members_
    assert [(type(member), member.seed) for member in members] == [
        (BetaVAE, seed) for seed in range(10, 15)
    ]
    x, x_hat = cells.X[~rows].toarray().astype(float), before.model.reconstruct(cells[~rows])
    variance = ((x - cells.X[rows].mean(0).A1) ** 2).sum()
    explained = 1 - ((x - x_hat) ** 2).sum() / variance
    assert before.held_out["r2"] == pytest.approx(explained, abs=1e-5)
