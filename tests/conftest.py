"""Settings that hold for every test, read when numpy and torch load: so before all else."""

import os
from collections.abc import Iterator

# A spinning idle thread slows every other one on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# One thread per worker: workers that each start a thread pool fight over the same cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import pytest
from hypothesis import settings

# The same examples on every machine; the first call of compiled code is slow, so no deadline.
settings.register_profile("scarce", deadline=None, derandomize=True)
settings.load_profile("scarce")


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """Stop t-SNE early in this process, where nobody looks at the map: it takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scarce.layout._EARLY_STEPS", 5)
        patch.setattr("scarce.layout._STEPS", 5)
        yield
