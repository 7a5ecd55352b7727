"""A cache that computes each value once, even if several threads need it at the same time."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlightCache(Generic[T]):
    """A cache by key in which a thread waits for a value that another thread is computing.

    The least recently used values are evicted first, but never the one that was used last, however
    large it is. If computing a value fails, all threads that wait for it get the exception, and
    nothing is cached. (`functools.lru_cache` may compute a value once per thread, and its limit is
    a number of values.)

    Args:
        max_size: limit on the sum of the sizes of all values.
        size_of: gives a value's size, in any unit.
    """

    def __init__(self, max_size: int, size_of: Callable[[T], int]) -> None:
        self._max_size = max_size
        self._size_of = size_of
        self._futures: OrderedDict[str, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """Return a key's value; if there is none, compute it with `make` in the caller's thread."""
        with self._lock:
            future = self._futures.get(key)
            if future is not None:
                self._futures.move_to_end(key)
            else:
                own = self._futures[key] = Future()
        if future is not None:
            return future.result()
        try:
            own.set_result(make())
        except BaseException as error:
            with self._lock:
                del self._futures[key]
            own.set_exception(error)
            raise
        with self._lock:
            self._evict()
        return own.result()

    def is_ready(self, key: str) -> bool:
        """Whether a key's value is available without waiting."""
        with self._lock:
            future = self._futures.get(key)
        return future is not None and future.done()

    def __len__(self) -> int:
        return len(self._futures)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._futures))

    def _evict(self) -> None:
        done = [key for key, future in self._futures.items() if future.done()]
        sizes = {key: self._size_of(self._futures[key].result()) for key in done}
        total = sum(sizes.values())
        for key in done[:-1]:
            if total <= self._max_size:
                break
            total -= sizes[key]
            del self._futures[key]
