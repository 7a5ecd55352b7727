"""Requests for masks take turns: a few are in work at once, the others wait in their order."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class BusyError(Exception):
    """A request that cannot have its turn in time."""


class RequestQueue:
    """Safe to use from any number of threads.

    Args:
        max_working: requests that may be in work at once.
        max_waiting: further ones that may wait.

    Attributes:
        working: requests in work.
    """

    def __init__(self, max_working: int, max_waiting: int) -> None:
        self.working = 0
        self._max_working, self._max_waiting = max_working, max_waiting
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Wait for the turn of a request, and hold it.

        Args:
            seconds: to wait at most.

        Raises:
            BusyError: too many wait already, or the turn does not come in time.
        """
        begun = time.monotonic()
        with self._lock:
            is_free = self.working < self._max_working
            if is_free:
                self.working += 1
            elif len(self._waiting) >= self._max_waiting:
                raise BusyError(
                    f"The backend is busy with {self.working} requests, and {len(self._waiting)} "
                    "wait: try again soon."
                )
            else:
                mine = threading.Event()
                self._waiting.append(mine)
        if not is_free and not mine.wait(seconds):
            with self._lock:
                # Its turn may have come just now.
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    waited = time.monotonic() - begun
                    raise BusyError(
                        f"The backend is busy: the request waited for {waited:.0f} s, try again "
                        "soon."
                    )
        try:
            yield
        finally:
            with self._lock:
                # Handed on to the one that has waited longest, before any that comes now.
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self.working -= 1
