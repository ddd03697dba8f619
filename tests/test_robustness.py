"""No configuration and no awkward cell gives a number that is not one."""

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scarce import VASC, BetaVAE, BetaVSC, DeepAutoencoder, LinearVSC
from scarce.estimators import Estimator, Units
from scarce.likelihoods import LIKELIHOODS
from scarce.models.parts import DECODERS, Network
from scarce.preprocess import normalise
from scarce.train import TrainConfig

LEAVES = (DeepAutoencoder, BetaVAE, BetaVSC, LinearVSC, VASC)


@pytest.fixture(scope="module")
def awkward() -> ad.AnnData:
    """30 cells x 20 genes: empty cells, absent and constant genes, a huge count."""
    counts = np.random.default_rng(0).poisson(0.6, (30, 20)).astype(np.float32)
    counts[[3, 17]] = 0
    counts[5] = np.eye(20)[11]  # one molecule in all
    counts[:, 2] = 0
    counts[[c for c in range(30) if c not in (3, 17)], 4] = 1
    counts[9, 7] = 2**24
    obs = pd.DataFrame(index=[f"c{i}" for i in range(30)])
    obs["plate"], obs["age"] = np.arange(30) % 3, np.arange(30) ** 3
    adata = ad.AnnData(sp.csr_matrix(counts), obs=obs)
    normalise(adata)
    return adata


def random_options(rng: np.random.Generator, leaf: type[Estimator]) -> dict[str, Any]:
    """Draw every option of a model from all that is allowed, its edges included."""
    likelihood = str(rng.choice([*leaf.likelihoods]))
    widths = tuple(int(w) for w in rng.choice([1, 2, 5, 16], size=rng.integers(1, 4)))
    options = {
        "n_latent": int(rng.integers(1, 6)),
        "batch": rng.choice([None, "plate"]),
        "covariates": ("age",) if rng.random() < 0.5 else (),
        "seed": int(rng.integers(100)),
        "network": Network(
            n_hidden=widths,
            normalise=bool(rng.integers(2)),
            first_linear=bool(rng.integers(2)),
            input_dropout=float(rng.choice([0.0, 0.5, 0.99])),
            likelihood=likelihood,
            decoder=DECODERS[rng.integers(len(DECODERS))],
            condition_encoder=bool(rng.integers(2)),
        ),
        "training": TrainConfig(
            epochs=int(rng.integers(1, 3)),
            batch_size=int(rng.choice([2, 7, 128])),
            lr=float(10 ** rng.uniform(-4, -1)),
            weight_decay=float(rng.choice([0.0, 0.1])),
            held_out=float(rng.choice([0.0, 0.2])),
            path=str(rng.choice(["auto", "sparse", "dense"])),  # type: ignore[arg-type]
        ),
    }
    known = vars(leaf())
    own = {
        "scaled": bool(rng.integers(2)) and not LIKELIHOODS[likelihood].counts,
        "beta": float(rng.choice([0.0, 1.0, 100.0])),
        "alpha": (None if leaf is BetaVSC else 0.2, 1e-6, 0.5, 1 - 1e-6)[rng.integers(4)],
        "warm_up": float(rng.choice([0.0, 0.3, 1.0])),
        "free_bits": float(rng.choice([0.0, 2.0])),
        "units": Units(
            slab=((0.0, 1.0), (1.0, 0.5))[rng.integers(2)],
            start=float(rng.choice([1e-6, 0.9])),
            opening=((0.0, 0.0), (0.1, 1.0))[rng.integers(2)],
            free_bits=float(rng.choice([0.0, 2.0])),
            pseudo_inputs=int(rng.choice([0, 20])),
        ),
        "hard": bool(rng.integers(2)),
        "relu_code": bool(rng.integers(2)),
        "l1": float(rng.choice([0.0, 10.0])),
    }
    return options | {name: value for name, value in own.items() if name in known}


def check_finite(seeds: range, cells: ad.AnnData) -> None:
    for seed in seeds:
        leaf = LEAVES[seed % len(LEAVES)]
        options = random_options(np.random.default_rng(seed), leaf)
        model = leaf(**options).fit(cells)
        known = f"{leaf.__name__}({options})"
        assert np.isfinite(model.transform(cells)).all(), known
        assert np.isfinite(model.reconstruct(cells)).all(), known
        assert not model.history_.notes or "diverged" not in model.history_.notes[0], known
        assert all(np.isfinite(v).all() for v in model.history_.losses.values()), known


def test_no_option_and_no_cell_gives_what_is_no_number(awkward: ad.AnnData) -> None:
    check_finite(range(30), awkward)


@pytest.mark.slow
def test_two_hundred_configurations_give_only_numbers(awkward: ad.AnnData) -> None:
    check_finite(range(30, 200), awkward)
