"""Set before torch is loaded: see "Waiting threads sleep" in docs/architecture.md."""

import os
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is cached belongs to the run of the tests, not to the user.
os.environ.setdefault("AUTOMM_CACHE", os.path.join(tempfile.gettempdir(), f"automm-tests-cache-{os.getuid()}"))
