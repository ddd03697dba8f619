"""Settings that hold for every test, read when numpy and torch load: so before all else."""

import os

# A spinning idle thread slows every other one on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# One thread per worker: workers that each start a thread pool fight over the same cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

from hypothesis import settings

# The same examples on every machine; the first call of compiled code is slow, so no deadline.
settings.register_profile("scarce", deadline=None, derandomize=True)
settings.load_profile("scarce")
