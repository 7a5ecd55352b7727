"""Imports torch in a way that an open window survives.

torchvision makes torch search for triton, whose libraries clash with Mesa's OpenGL drivers:
where a window was opened before, the process ends. Nothing here compiles with triton.
"""

import sys

if "torch" not in sys.modules and "triton" not in sys.modules:
    sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        import torchvision  # noqa: F401
    finally:
        del sys.modules["triton"]
