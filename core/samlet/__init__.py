"""samlet: a small Segment Anything for people who label images.

Names are loaded when first used, so that `samlet --help` does not wait for torch.
"""

import lazy_loader

from samlet import _moved
from samlet._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_moved.install()
