"""Peak memory of a stretch of work, as the system counts it for the process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Peak", "peak_memory"]

_STATUS = Path("/proc/self/status")


@dataclass(eq=False)
class Peak:
    """What a block of work took at most."""

    megabytes: float = 0.0
    """Resident memory of the process in 10^6 bytes; not a number where no system call tells."""


_measured: list[Peak] = []
"""Of the blocks that are running, the outermost first: one count of the kernel serves them all."""


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the peak of resident memory while the block runs.

    Notes
    -----
    It is that of the process: libraries and data that lie in memory before the block count.
    Linux starts a new peak for each block, and blocks may be nested; where the system cannot
    do so, the peak is that of the process so far. Blocks of two threads see one another.
    """
    _note()
    _start_anew()
    peak = Peak()
    _measured.append(peak)
    try:
        yield peak
    finally:
        _note()
        _measured.remove(peak)


def _note() -> None:
    """Keep the peak so far for every block that is running, before a new one is started."""
    found = _peak_mb()
    for peak in _measured:
        # Written so that an unknown peak is kept as unknown.
        if not found <= peak.megabytes:
            peak.megabytes = found


def _start_anew() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    lines = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
