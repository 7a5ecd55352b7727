"""Which predictions are on their way to Label Studio, which stores every answer that it gets."""

import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

STORING_SECONDS = 0.3
"""Left to Label Studio to store an answer, before it reads what is stored for another request."""


class Deliveries:
    """Safe to use from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, threading.Event] = {}

    @contextmanager
    def take(self, keys: Sequence[Hashable]) -> Iterator[list[bool]]:
        """Take over predictions that no other request delivers.

        On exit those of the other requests are waited for, so that they are stored.

        Args:
            keys: one for each prediction.

        Yields:
            For each whether this request is to deliver it.
        """
        done = threading.Event()
        taken = []
        with self._lock:
            others = {self._under_way[key] for key in keys if key in self._under_way}
            for key in keys:
                taken.append(key not in self._under_way)
                self._under_way.setdefault(key, done)
        try:
            yield taken
        finally:
            with self._lock:
                for key, is_taken in zip(keys, taken, strict=True):
                    if is_taken:
                        del self._under_way[key]
            done.set()
        for other in others:
            other.wait()
        if others:
            time.sleep(STORING_SECONDS)
