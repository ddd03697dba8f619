"""What a fit changes in torch is recorded, and is as it was afterwards."""

import subprocess
import sys

import pytest
import torch

from scarce.numerics import tuned


@pytest.mark.parametrize(("flops", "expected"), [(1e6, 1), (2e8, 2), (1e12, 4)])
def test_threads_follow_the_work_and_come_back(flops: float, expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with tuned(flops) as numerics:
            assert torch.get_num_threads() == numerics.threads == expected
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_settings_come_back_after_an_error() -> None:
    before = torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(ZeroDivisionError), tuned(1e6):
        raise ZeroDivisionError
    assert (torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision) == before


def test_products_stay_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(300, 300, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    with tuned(1e12):
        assert ((a @ b) - exact).norm() / exact.norm() < 1e-6


def test_importing_the_package_changes_nothing() -> None:
    script = """if True:
        import os, torch
        def state():
            return (torch.get_num_threads(), torch.get_float32_matmul_precision(),
                    torch.backends.mkldnn.matmul.fp32_precision, torch.get_default_dtype(),
                    torch.is_grad_enabled(), dict(os.environ))
        before = state()
        import scarce
        scarce.DeepAutoencoder, scarce.BetaVAE, scarce.BetaVSC
        assert state() == before
    """
    subprocess.run([sys.executable, "-c", script], check=True)
