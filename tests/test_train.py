"""The loop learns, stops where held-out cells say so, repeats itself, and survives divergence."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from scarce.errors import InputError
from scarce.models.autoencoder import AutoencoderNet
from scarce.models.parts import Body, Loss, Network
from scarce.sparse.batches import Batch, Batches
from scarce.train import TrainConfig, fit_module

CONFIG = TrainConfig(epochs=30, batch_size=32, lr=1e-2, held_out=0.2, patience=5)


def batches(n: int = 120, seed: int = 0, batch_size: int = 32) -> Batches:
    rng = np.random.default_rng(seed)
    rates = np.array([[0.2] * 15 + [2.0] * 15, [2.0] * 15 + [0.2] * 15])[rng.integers(0, 2, n)]
    x = sp.csr_matrix(np.log1p(rng.poisson(rates)).astype(np.float32))
    return Batches(x, batch_size=batch_size)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return AutoencoderNet(Body(30, 2, Network((16, 16))), 2)


class Slope(nn.Module):
    """One weight pulled down by the loss itself: held-out loss falls, then rises at will."""

    def __init__(self, losses: list[float], settled: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.losses = iter(losses)
        self.settled = settled

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        total = self.weight.sum() if self.training else torch.tensor(next(self.losses))
        return Loss({"slope": total})


def test_training_lowers_the_loss_and_leaves_evaluation_mode() -> None:
    module = net()
    history = fit_module(module, batches(), None, CONFIG, seed=0)
    assert history.losses["train"][-1] < history.losses["train"][0] - 1
    assert history.epochs == history.best_epoch == CONFIG.epochs
    assert not module.training


def test_same_seed_same_weights_and_another_seed_other_ones() -> None:
    weights = []
    for seed in (1, 1, 2):
        module = net()
        fit_module(module, batches(), batches(40, 1), replace(CONFIG, epochs=8), seed=seed)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_random_state_is_left_alone() -> None:
    module = net()
    before = torch.get_rng_state()
    fit_module(module, batches(), None, replace(CONFIG, epochs=2), seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_stops_after_patience_and_keeps_the_best_weights() -> None:
    module = Slope([3.0, 2.0, 1.0, 5.0, 5.0, 5.0])
    config = TrainConfig(epochs=30, lr=0.1, weight_decay=0, patience=3)
    train, held_out = batches(batch_size=120), batches(40, 1, batch_size=40)
    history = fit_module(module, train, held_out, config, seed=0)
    assert history.best_epoch == 3
    assert history.epochs == 6
    assert module.weight.item() == pytest.approx(-0.3, abs=1e-5)


def test_no_weights_are_kept_from_before_the_schedules_end() -> None:
    module = Slope([1.0, 2.0, 4.0, 3.0, 5.0, 5.0, 5.0], settled=0.1)
    config = TrainConfig(epochs=30, lr=0.1, weight_decay=0, patience=3)
    train, held_out = batches(batch_size=120), batches(40, 1, batch_size=40)
    history = fit_module(module, train, held_out, config, seed=0)
    assert history.best_epoch == 4
    assert history.epochs == 7


@pytest.mark.parametrize("epoch", [1, 5, 10])
def test_a_cosine_schedule_lowers_the_rate_to_a_hundredth(epoch: int) -> None:
    config = TrainConfig(epochs=10, lr=0.1, weight_decay=0, schedule="cosine")
    rates = []
    module = Slope([])
    weights = [0.0]
    fit_module(
        module,
        batches(batch_size=120),
        None,
        config,
        seed=0,
        on_epoch=lambda _: weights.append(module.weight.item()),
    )
    rates = -np.diff(weights)  # Adam moves by its rate while the gradient is constant
    progress = (epoch - 1) / 10
    expected = max(0.001, 0.05 * (1 + np.cos(np.pi * progress)))
    assert rates[epoch - 1] == pytest.approx(expected, rel=1e-3)


class Explodes(Slope):
    """Gives a loss that is not a number on chosen training steps."""

    def __init__(self, at: set[int]) -> None:
        super().__init__([])
        self.at, self.step = at, 0

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        self.step += 1
        factor = math.nan if self.step in self.at else 1.0
        return Loss({"slope": factor * self.weight.sum()})


def test_divergence_rolls_back_halves_the_rate_and_says_so() -> None:
    module = Explodes(at={2})
    config = TrainConfig(epochs=3, lr=0.1, weight_decay=0, held_out=0)
    history = fit_module(module, batches(batch_size=120), None, config, seed=0)
    assert history.notes == ["epoch 2 diverged; went back to its start, rate 0.05"]
    assert module.weight.item() == pytest.approx(-0.15, abs=1e-5)


def test_endless_divergence_is_an_error() -> None:
    with pytest.raises(InputError, match="found nan in epoch 6"):
        fit_module(Explodes(at=set(range(99))), batches(), None, CONFIG, seed=0)


def test_on_epoch_counts_from_one() -> None:
    seen: list[int] = []
    config = TrainConfig(epochs=3, batch_size=32, held_out=0)
    fit_module(net(), batches(), None, config, seed=0, on_epoch=seen.append)
    assert seen == [1, 2, 3]


class Poisoned(AutoencoderNet):
    """An autoencoder one of whose steps has a loss that is no number, and so its gradients."""

    def __init__(self, at: int) -> None:
        torch.manual_seed(0)
        super().__init__(Body(30, 2, Network((8,), input_dropout=0.0)), 2)
        self.at, self.step = at, 0

    def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
        found = super().loss(batch, progress=progress, generator=generator)
        if not self.training:
            return found
        self.step += 1
        factor = math.nan if self.step == self.at else 1.0
        return Loss({"slope": factor * found.total})


def test_a_last_step_that_leaves_no_numbers_is_taken_back() -> None:
    """Its loss was finite, its gradient was not, and no loss comes after it."""

    class Slips(Poisoned):
        def loss(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Loss:
            found = AutoencoderNet.loss(self, batch, progress=progress, generator=generator)
            self.step += 1
            nothing = (0 * found.total).sqrt()  # of infinite slope
            return Loss(found.terms | {"nothing": nothing}) if self.step == self.at else found

    module = Slips(at=8)
    history = fit_module(module, batches(), None, replace(CONFIG, epochs=2, held_out=0), seed=0)
    assert history.notes == ["epoch 2 diverged; went back to its start, rate 0.005"]
    assert all(p.isfinite().all() for p in module.parameters())


def test_poisoned_weights_are_put_back_to_the_last_finite_state_and_training_goes_on() -> None:
    config = replace(CONFIG, epochs=3, held_out=0)
    stopped, poisoned = Poisoned(at=0), Poisoned(at=6)  # of 4 steps an epoch: in the second
    fit_module(stopped, batches(), None, replace(config, epochs=1), seed=0)
    history = fit_module(poisoned, batches(), None, replace(config, epochs=2), seed=0)
    assert history.notes == ["epoch 2 diverged; went back to its start, rate 0.005"]
    assert math.isnan(history.losses["train"][1])
    kept = zip(stopped.parameters(), poisoned.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in kept)
    history = fit_module(Poisoned(at=6), batches(), batches(40, 1), config, seed=0)
    assert history.losses["train"][2] < history.losses["train"][0]
    assert history.losses["held_out"][1] == history.losses["held_out"][0]
