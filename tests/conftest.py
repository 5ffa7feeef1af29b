"""What makes the tests quick: one thread per process, and imports that no garbage is searched in.

pytest runs them in two processes (`addopts` in pyproject.toml); `pytest -n 0` runs them in one.
"""

from __future__ import annotations

import gc
import os

# Before torch is imported: two processes of two threads each would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later search, of which each fit makes one."""
    gc.collect()
    gc.freeze()
