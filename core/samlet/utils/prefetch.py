"""Work ahead of the consumer, in threads, with the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item], work: Callable[[Item], Result], threads: int, depth: int
) -> Iterator[Result]:
    """Apply `work` in threads, at most `depth` items early, and yield the results in order.

    Threads rather than processes: decoding and resizing release Python's lock, nothing needs to be
    copied between processes, and the order stays that of `items`, which exact resume needs.

    Args:
        items: drawn from in the caller's thread, and only as far as `depth` needs.
        work: what takes long; what it raises is raised here, at its place in the order.
        threads: how many; 0 works in the caller's thread, with nothing done early.
        depth: results that may wait.
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
