"""Set before torch is loaded: see "Waiting threads sleep" in docs/architecture.md."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
