"""What models are measured against: equal to its definition, fitted on the cells it may see."""

import random

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from scarce.contenders import BASELINES, PEERS, contend
from scarce.data import simulate
from scarce.preprocess import normalise
from scarce.presets import PRESETS
from scarce.sampling import seen_cells
from scarce.trial import trial

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def cells() -> AnnData:
    adata = simulate(150, 80, n_types=3, seed=2)
    normalise(adata)
    return adata


ROWS = np.arange(150) % 5 > 0


def test_components_are_those_of_the_cells_seen(cells: AnnData) -> None:
    dense = cells.X.toarray().astype(float)
    fitted = PCA(4, svd_solver="full").fit(dense[ROWS])
    done = contend("pca", cells, ROWS, 4, 0)
    np.testing.assert_allclose(np.abs(done.z), np.abs(fitted.transform(dense)), atol=1e-6)
    assert done.reconstruct is not None
    expected = fitted.inverse_transform(fitted.transform(dense[~ROWS]))
    np.testing.assert_allclose(done.reconstruct(cells.X[~ROWS]), expected, atol=1e-6)


def test_scaled_components_equal_those_of_seurats_scaled_table(cells: AnnData) -> None:
    """ScaleData: centre, divide by the standard deviation, cut at 10; here densely."""
    dense = cells.X.toarray().astype(float)
    dense[:, 0], dense[3, 0] = 0, 19  # above ten standard deviations, so that the cut matters
    changed = AnnData(type(cells.X)(dense), obs=cells.obs, var=cells.var)
    mean, sd = dense[ROWS].mean(0), dense[ROWS].std(0, ddof=1)
    scaled = np.minimum((dense - mean) / np.where(sd > 0, sd, 1), 10)
    fitted = PCA(4, svd_solver="full").fit(scaled[ROWS])
    done = contend("pca_scaled", changed, ROWS, 4, 0)
    expected = fitted.transform(scaled)
    np.testing.assert_allclose(np.abs(done.z), np.abs(expected), atol=1e-6)
    assert scaled.max() == 10


@pytest.mark.parametrize("name", BASELINES)
def test_unseen_cells_change_no_fit(name: str, cells: AnnData) -> None:
    other = cells.copy()
    other.X[~ROWS] = other.X[~ROWS] * 0.5
    before, after = (contend(name, c, ROWS, 3, 0).z[ROWS] for c in (cells, other))
    np.testing.assert_array_equal(before, after)


def test_random_codes_know_the_seed_and_nothing_else(cells: AnnData) -> None:
    one, two, same = (contend("random", cells, ROWS, 3, seed).z for seed in (0, 1, 0))
    np.testing.assert_array_equal(one, same)
    assert max(np.cos(subspace_angles(one, two))) < 0.5


def test_every_model_is_kept_from_the_same_cells(cells: AnnData) -> None:
    rows = seen_cells(150, 0.2, 3)
    assert rows.sum() == 120
    np.testing.assert_array_equal(rows, seen_cells(150, 0.2, 3))
    assert (rows != seen_cells(150, 0.2, 4)).any()
    assert seen_cells(150, 0.0, 3).all()


@pytest.mark.parametrize("model", ["dae", "bvsc", "pca"])
def test_a_trial_neither_fits_nor_forgets_the_cells_kept_from_it(
    model: str, cells: AnnData
) -> None:
    settings = PRESETS["default"]
    training = settings.training.__class__(epochs=3)
    settings = settings.__class__(n_latent=3, training=training)
    labels = cells.obs["cell_type"].to_numpy(str)
    rows = seen_cells(150, 0.2, 1)
    other = cells.copy()
    other.X[~rows] = other.X[~rows] * 0.5
    options = {"model": model, "settings": settings, "seed": 1, "unseen": 0.2, "n_jobs": 1}
    one, two = (trial(c, labels, **options) for c in (cells, other))
    np.testing.assert_array_equal(one.spaces["latent"][rows], two.spaces["latent"][rows])
    assert (one.spaces["latent"][~rows] != two.spaces["latent"][~rows]).any()
    assert one.held_out["r2"] != two.held_out["r2"]
    assert set(one.held_out) == ({"r2", "elbo", "iwae"} if model == "bvsc" else {"r2"})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_scvi_tools_repeats_itself_and_leaves_the_random_state_alone(
    name: str, cells: AnnData
) -> None:
    pytest.importorskip("scvi", reason="needs the extra 'bench'")
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    expected = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    one, two = (contend(name, cells, ROWS, 3, 0) for _ in range(2))
    found = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(expected[:2], found[:2], strict=True))
    assert expected[2] == found[2]
    assert one.z.shape == (150, 3)
    assert one.epochs > 0
    np.testing.assert_array_equal(one.z, two.z)
    assert (contend(name, cells, ROWS, 3, 1).z != one.z).any()
