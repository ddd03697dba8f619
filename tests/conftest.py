"""Settings that hold for every test."""

import os

# One thread per worker: workers that each start a thread pool fight over the same cores.
# Read when numpy and torch are first imported, hence before anything else here.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

from hypothesis import settings

# The same examples on every machine; the first call of compiled code is slow, so no deadline.
settings.register_profile("scarce", deadline=None, derandomize=True)
settings.load_profile("scarce")
