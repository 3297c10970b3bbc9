"""Set before torch is loaded: see "Waiting threads sleep" in docs/architecture.md."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is cached belongs to this run of the tests, not to the user or to an earlier run.
_cache = tempfile.mkdtemp(prefix="automm-tests-cache-")
os.environ["AUTOMM_CACHE"] = _cache
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
