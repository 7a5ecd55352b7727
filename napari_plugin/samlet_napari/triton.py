"""Keeps triton out of a process with a window.

timm and PyTorch's optimizers make PyTorch search for triton, whose libraries clash with Mesa's
OpenGL drivers: where a window is open, the process ends. Nothing here compiles with triton.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one_at_a_time = threading.RLock()


@contextmanager
def without_triton() -> Iterator[None]:
    """Whatever is imported inside finds no triton, unless it has been imported before."""
    with _one_at_a_time:
        if "triton" in sys.modules:
            yield
            return
        sys.modules["triton"] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules["triton"]
