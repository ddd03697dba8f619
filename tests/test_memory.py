"""The peak of a block is what lay in memory at most while it ran, nested blocks included."""

import gc
import mmap
import sys
from pathlib import Path

import pytest

from scarce import memory
from scarce.memory import peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux starts a new peak")

MARGIN = 20.0
"""Megabytes that other things of the process may come and go by."""


@pytest.fixture(autouse=True)
def what_earlier_tests_left_is_gone() -> None:
    """Else it may be collected while a block runs, and hide as much of what the block takes."""
    gc.collect()


def fill(megabytes: int) -> None:
    """Write to so many megabytes and let go of them.

    They are asked of the system: an array may lie in what earlier tests freed and the
    process kept, and then raises no peak.
    """
    with mmap.mmap(-1, megabytes * 1_000_000) as memory:
        for _ in range(megabytes):
            memory.write(bytes(1_000_000))


def test_a_peak_is_that_of_the_block_and_of_nothing_before_it() -> None:
    with peak_memory() as empty:
        pass
    fill(300)
    with peak_memory() as small:
        fill(100)
    assert small.megabytes - empty.megabytes == pytest.approx(100, abs=MARGIN)


def test_an_inner_block_does_not_make_an_outer_one_forget() -> None:
    with peak_memory() as outer:
        fill(300)
        with peak_memory() as first:
            pass
        with peak_memory() as second:
            fill(400)
        fill(100)
    assert outer.megabytes == second.megabytes
    assert outer.megabytes - first.megabytes == pytest.approx(400, abs=MARGIN)


def test_a_block_that_fails_is_no_longer_measured() -> None:
    with pytest.raises(ValueError, match="no"), peak_memory() as broken:
        raise ValueError("no")
    before = broken.megabytes
    with peak_memory():
        fill(200)
    assert broken.megabytes == before > 0


def test_a_system_without_a_peak_of_its_own_counts_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text("VmSize:\t1 kB\nVmRSS:\t1 kB\n")
    with peak_memory() as known:
        fill(10)
    monkeypatch.setattr(memory, "_STATUS", status)
    with peak_memory() as process:
        fill(10)
    assert process.megabytes >= known.megabytes - MARGIN > MARGIN
