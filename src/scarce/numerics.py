"""Settings of torch for the length of a fit: chosen, recorded, and put back as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numba
import torch

__all__ = ["Numerics", "tuned"]

_ONEDNN = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
"""Holds the setting that chooses oneDNN for float32 products."""

_FLOPS_PER_THREAD = 1e8
"""In one step. With less work than this a further thread waits longer than it helps."""


@dataclass(frozen=True)
class Numerics:
    """What can change the last digits of a fit, and its speed."""

    threads: int
    """Threads of torch, and of compiled loops."""
    matmul: str
    """Library of dense products: ``"oneDNN float32"``, or ``"default float32"``."""


@contextmanager
def tuned(flops: float) -> Iterator[Numerics]:
    """Set torch up for training steps of so many flops; put every setting back afterwards.

    Threads: as many of torch's as such a step keeps busy, and no more of numba's. Dense
    products: oneDNN's, which on many processors are faster than torch's own choice, where they
    are float32 in truth.
    """
    n_threads, precision = torch.get_num_threads(), _ONEDNN.fp32_precision
    n_compiled = numba.get_num_threads()
    threads = max(1, min(n_threads, round(flops / _FLOPS_PER_THREAD)))
    onednn = _onednn_keeps_float32()
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, n_compiled))
    if onednn:
        _ONEDNN.fp32_precision = "bf16"
    try:
        yield Numerics(threads, f"{'oneDNN' if onednn else 'default'} float32")
    finally:
        torch.set_num_threads(n_threads)
        numba.set_num_threads(n_compiled)
        _ONEDNN.fp32_precision = precision


@cache
def _onednn_keeps_float32() -> bool:
    """Try it: torch names the setting that selects oneDNN after the bfloat16 it *may* use.

    With AMX units it does; elsewhere it computes in float32. Whole numbers of 13 bits tell:
    float32 holds them, bfloat16 with its 8 bits does not.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2**12, 2**13, (512, 128), generator=generator).float()
    before = _ONEDNN.fp32_precision
    _ONEDNN.fp32_precision = "bf16"
    try:
        return torch.equal(x @ torch.eye(128), x)
    finally:
        _ONEDNN.fp32_precision = before
