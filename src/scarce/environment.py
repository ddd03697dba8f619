"""What a run was computed with: what can change the last digits of its numbers."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from scarce import __version__

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Return versions, the machine and numerical settings, by name."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "opentsne", "scanpy", "anndata")
    return {
        "scarce": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def _processor() -> str:
    """Return the name its maker gave the processor, where the system tells it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
