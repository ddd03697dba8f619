"""What is known of cells beside their genes: as numbers, and what a model does with them."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from scarce import BetaVAE, BetaVSC, DeepAutoencoder
from scarce.covariates import Covariates, check_covariates
from scarce.errors import InputError
from scarce.metrics import batch_mixing
from scarce.models.parts import Network
from scarce.train import TrainConfig

TABLE = pd.DataFrame(
    {
        "plate": pd.Categorical(["b", "a", "b", "c"]),
        "lane": [2, 1, 1, 2],
        "age": [10.0, 20.0, 30.0, 60.0],
        "one": "same",
        "flat": 3.0,
        "gap": [1.0, np.nan, 2.0, 3.0],
        "word": ["1", "2", "x", "4"],
    },
    index=["c1", "c2", "c3", "c4"],
)


def test_a_batch_becomes_one_column_per_level_and_a_number_its_z_score() -> None:
    known = Covariates.of(TABLE, "plate", ("age",))
    assert known.levels == ("a", "b", "c")
    expected = [[0, 1, 0, -20], [1, 0, 0, -10], [0, 1, 0, 0], [0, 0, 1, 30]]
    scale = np.array([1, 1, 1, np.sqrt(350)])  # 350: mean of the squares of the last column
    np.testing.assert_allclose(known.columns(TABLE), expected / scale, rtol=1e-6)


def test_scales_are_those_of_the_fit_and_levels_may_be_numbers() -> None:
    known = Covariates.of(TABLE[:3], "lane", ("age",))
    np.testing.assert_allclose(known.columns(TABLE[3:]), [[0, 1, 40 / np.sqrt(200 / 3)]], rtol=1e-6)
    np.testing.assert_array_equal(known.as_if("1"), [1, 0])


def test_a_relu_code_told_of_a_batch_starts_where_a_linear_one_does() -> None:
    x = sp.csr_matrix(np.log1p(np.random.default_rng(0).poisson(0.5, (80, 50))).astype(np.float32))
    plates = pd.DataFrame({"plate": ["a", "b"] * 40}, index=[f"c{i}" for i in range(80)])
    adata = ad.AnnData(x, obs=plates)
    once = TrainConfig(epochs=1, lr=1e-9)
    linear, relu = (
        DeepAutoencoder(relu_code=relu, batch="plate", training=once).fit(adata).history_.losses
        for relu in (False, True)
    )
    assert relu["train"] == pytest.approx(linear["train"], rel=0.05)


def test_nothing_known_is_no_column() -> None:
    assert Covariates().columns(TABLE).shape == (4, 0)


BAD_COLUMNS = {
    r"must be a column of the cell table; found 'plates', and the columns \['plate'": (
        "plates",
        (),
    ),
    r"at least two levels; column 'one' has only 'same'\. Leave it out": ("one", ()),
    "must vary; column 'flat' does not": (None, ("flat",)),
    r"known for every cell; column 'gap' is empty for cell 'c2' \(1 of 4": (None, ("gap",)),
    r"must be finite numbers; found 'x' for cell 'c3' in column 'word' \(1 of 4": (None, ("word",)),
}


def test_a_number_that_is_the_same_everywhere_is_refused_whatever_its_rounding() -> None:
    table = pd.DataFrame({"age": [37.2] * 100})
    assert table["age"].std(ddof=0) > 0
    with pytest.raises(InputError, match="must vary; column 'age' does not"):
        Covariates.of(table, None, ("age",))


@pytest.mark.parametrize("message", BAD_COLUMNS)
def test_columns_that_tell_nothing_are_refused(message: str) -> None:
    with pytest.raises(InputError, match=message):
        Covariates.of(TABLE, *BAD_COLUMNS[message])


def test_an_unseen_level_is_refused() -> None:
    known = Covariates.of(TABLE[:3], "plate", ())
    with pytest.raises(InputError, match=r"those of the fit, \['a', 'b'\]; found 'c' in column"):
        known.columns(TABLE)
    with pytest.raises(InputError, match=r"those of the fit, \['a', 'b'\]; found 'c'\."):
        known.as_if("c")


def test_labels_must_not_be_told() -> None:
    with pytest.raises(InputError, match="must not be the labels; found 'plate'"):
        check_covariates(TABLE, "plate", (), not_among=["plate"])
    check_covariates(TABLE, "plate", ("age",), not_among=[None, "lane"])


def brute_force_mixing(z: np.ndarray, batch: np.ndarray, k: int) -> float:
    """The definition, cell by cell."""
    met = []
    for i, point in enumerate(z):
        order = np.argsort(np.linalg.norm(z - point, axis=1), kind="stable")
        near = batch[order[order != i][:k]]
        _, counts = np.unique(near, return_counts=True)
        met.append(1 / np.square(counts / k).sum())
    return (np.mean(met) - 1) / (len(np.unique(batch)) - 1)


@pytest.mark.parametrize("n_batches", [2, 3])
def test_mixing_is_its_definition(n_batches: int) -> None:
    generator = np.random.default_rng(0)
    batch = generator.integers(0, n_batches, 120).astype(str)
    z = generator.normal(size=(120, 3)) + (batch == "0")[:, None]
    for k in (30, 7):
        expected = brute_force_mixing(z, batch, k)
        assert batch_mixing(z, batch, n_neighbors=k) == pytest.approx(expected)


def test_mixing_is_none_of_separate_batches_and_nearly_whole_of_random_ones() -> None:
    batch = np.repeat(["x", "y"], 500)
    z = np.random.default_rng(0).normal(size=(1000, 2))
    assert batch_mixing(z, batch) == pytest.approx(0.94, abs=0.02)
    assert batch_mixing(z + 100 * (batch == "x")[:, None], batch) == 0


@pytest.fixture(scope="module")
def planted() -> ad.AnnData:
    """Two types of cell in two batches; the batch moves as many genes as the type, further."""
    generator = np.random.default_rng(0)
    types, batches = generator.integers(0, 2, (2, 240))
    rates = np.full((240, 60), 0.7)
    rates[:, :10] += 4 * types[:, None]
    rates[:, 10:40] += 3 * batches[:, None] * (np.arange(30) % 2)
    x = sp.csr_matrix(np.log1p(generator.poisson(rates)).astype(np.float32))
    obs = pd.DataFrame({"type": types.astype(str), "run": batches.astype(str)})
    obs.index = obs.index.astype(str)
    return ad.AnnData(x, obs=obs)


LEAVES = [(DeepAutoencoder, {}), (BetaVAE, {}), (BetaVSC, {"beta": 0.2})]
QUICK = TrainConfig(epochs=30, batch_size=60, lr=2e-2, held_out=0)
SMALL = Network(n_hidden=(16,), input_dropout=0.0)


def told_by(z: np.ndarray, truth: pd.Series) -> float:
    """Accuracy of a linear classifier of the code, on cells it has not seen."""
    return float(cross_val_score(LogisticRegression(), z, truth, cv=4).mean())


@pytest.mark.parametrize(("leaf", "own"), LEAVES)
def test_code_of_a_conditioned_model_tells_the_type_rather_than_the_batch(
    leaf: type[BetaVAE], own: dict[str, float], planted: ad.AnnData
) -> None:
    options = {"n_latent": 2, "network": SMALL, "training": QUICK, **own}
    plain, told = (leaf(**options, batch=b).fit_transform(planted) for b in (None, "run"))
    assert told_by(plain, planted.obs["run"]) > 0.95
    assert told_by(told, planted.obs["run"]) < told_by(plain, planted.obs["run"]) - 0.1
    assert told_by(told, planted.obs["type"]) > 0.9
    assert batch_mixing(told, planted.obs["run"]) > batch_mixing(plain, planted.obs["run"]) + 0.2


def test_cells_can_be_shown_as_if_of_one_batch(planted: ad.AnnData, tmp_path: Path) -> None:
    model = BetaVAE(n_latent=2, network=SMALL, training=QUICK, batch="run").fit(planted)
    model.save(tmp_path)
    model = BetaVAE.load(tmp_path)
    own, as_1 = model.reconstruct(planted), model.reconstruct(planted, batch="1")
    is_1 = (planted.obs["run"] == "1").to_numpy()
    np.testing.assert_allclose(own[is_1], as_1[is_1], atol=1e-5)
    moved = np.arange(60) % 2 * (np.arange(60) >= 10) * (np.arange(60) < 40) == 1
    rise = (as_1[~is_1] - own[~is_1]).mean(0)
    assert rise[moved].min() > 0.4
    assert np.abs(rise[~moved]).max() < 0.3
    with pytest.raises(InputError, match=r"those of the fit, \['0', '1'\]; found '2'"):
        model.reconstruct(planted, batch="2")


@pytest.mark.parametrize("normalise", [True, False])
def test_a_conditioned_encoder_reads_the_covariates(planted: ad.AnnData, normalise: bool) -> None:
    network = replace(SMALL, condition_encoder=True, normalise=normalise)
    training = replace(QUICK, epochs=2)
    model = BetaVAE(n_latent=2, network=network, training=training, batch="run").fit(planted)
    swapped = planted.copy()
    swapped.obs["run"] = planted.obs["run"].map({"0": "1", "1": "0"})
    assert np.abs(model.transform(planted) - model.transform(swapped)).max() > 1e-3
    plain = BetaVAE(n_latent=2, network=SMALL, training=training, batch="run").fit(planted)
    np.testing.assert_array_equal(plain.transform(planted), plain.transform(swapped))
