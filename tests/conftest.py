"""What holds for all tests, set before torch is loaded."""

import os

# Threads that wait leave their core to others; and a process of xdist has no more than one core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
