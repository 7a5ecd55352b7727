"""When Qt draws."""

from collections.abc import Iterator
from contextlib import contextmanager

from qtpy.QtWidgets import QWidget


@contextmanager
def drawn_later(widget: QWidget) -> Iterator[None]:
    """Let a widget be drawn with the rest of the window, after what is changed inside.

    A progress bar would draw each change at once, and the canvas with it, while the caller waits.
    """
    is_drawn = widget.updatesEnabled()
    widget.setUpdatesEnabled(False)
    try:
        yield
    finally:
        widget.setUpdatesEnabled(is_drawn)
