"""Values that take long to make: made once, however many threads ask, and kept within a limit."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlightCache(Generic[T]):
    """Values by key; those who ask for one that is being made wait for it.

    The least recently used go first, but never the one that was asked for last, however large it
    is. A value that could not be made is not kept: all who wait get the error.

    Args:
        most: sum of the sizes of what is kept.
        size_of: tells a value's size.
    """

    def __init__(self, most: int, size_of: Callable[[T], int]) -> None:
        self._most = most
        self._size_of = size_of
        self._promised: OrderedDict[str, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """Give a key's value; `make` is called in the caller's thread if there is none."""
        with self._lock:
            promised = self._promised.get(key)
            if promised is not None:
                self._promised.move_to_end(key)
            else:
                own = self._promised[key] = Future()
        if promised is not None:
            return promised.result()
        try:
            own.set_result(make())
        except BaseException as error:
            with self._lock:
                del self._promised[key]
            own.set_exception(error)
            raise
        with self._lock:
            self._forget()
        return own.result()

    def is_ready(self, key: str) -> bool:
        """Whether a key's value can be had without waiting."""
        with self._lock:
            promised = self._promised.get(key)
        return promised is not None and promised.done()

    def __len__(self) -> int:
        return len(self._promised)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._promised))

    def _forget(self) -> None:
        done = [key for key, promised in self._promised.items() if promised.done()]
        sizes = {key: self._size_of(self._promised[key].result()) for key in done}
        total = sum(sizes.values())
        for key in done[:-1]:
            if total <= self._most:
                break
            total -= sizes[key]
            del self._promised[key]
