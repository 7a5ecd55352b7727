"""samlet: a small Segment Anything for people who label images.

Names are loaded when first used, so that `samlet --help` does not wait for torch.
"""

import os

import lazy_loader

from samlet import _moved
from samlet._version import __version__ as __version__

# PyTorch's threads wait for each other hundreds of times per image. By default GNU's OpenMP lets
# them compute meanwhile, for long, which takes the processor from those that they wait for whenever
# another program runs, or another thread of the same one: see `benchmarks/wait_policy.py`.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_moved.install()
