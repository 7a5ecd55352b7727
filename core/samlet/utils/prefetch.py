"""Computing results ahead of their consumer, in threads, in order."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item], work: Callable[[Item], Result], threads: int, depth: int
) -> Iterator[Result]:
    """Apply `work` to items in threads, at most `depth` ahead, and yield the results in order.

    Threads, not processes: decoding and resizing release Python's global lock, nothing has to be
    copied between processes, and the order is that of `items`, which exact resuming needs.

    Args:
        items: iterated over in the caller's thread, and only as far ahead as `depth`.
        work: the function; an exception in it is raised here, at its place in the order.
        threads: number of threads; with 0 the caller's thread does the work, when it is needed.
        depth: largest number of results that are computed ahead.
    """
    if threads == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="samlet-data")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def prefetch_iterator(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """Draw from `items` in a thread of its own, at most `depth` ahead, and yield them in order.

    What `items` raises is raised here. Closing this iterator closes `items`.
    """
    queue: Queue[tuple[Item | None, BaseException | None]] = Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def draw() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    break
            else:
                put((None, StopIteration()))
        except BaseException as error:  # it belongs to the consumer's thread
            put((None, error))
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = threading.Thread(target=draw, name="samlet-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
