"""Functions that other threads call, and that run in the GUI thread."""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec

from qtpy.QtCore import QObject, Qt, Signal, Slot

P = ParamSpec("P")


class _Caller(QObject):
    called = Signal()

    def __init__(self) -> None:
        super().__init__()
        # No Python object goes through Qt's queue, which would own it there.
        self._waiting = deque[Callable[[], object]]()
        self.called.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def call(self, function: Callable[[], object]) -> None:
        self._waiting.append(function)
        self.called.emit()

    @Slot()
    def _call(self) -> None:
        self._waiting.popleft()()


# Made in the GUI thread, where plugins are imported, and kept for good: Qt calls it there.
_caller = _Caller()


def in_main_thread(function: Callable[P, None]) -> Callable[P, None]:
    """Let a function run in the GUI thread: at once when called there, or else as soon as it can.

    superqt's `ensure_main_thread` (0.9.0) does the same, but ends the process at times: Qt keeps
    only a weak reference to the future that it makes, which nobody else keeps.
    """

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> None:
        if threading.current_thread() is threading.main_thread():
            function(*arguments, **options)
        else:
            _caller.call(partial(function, *arguments, **options))

    return call
