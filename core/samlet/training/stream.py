"""Endless data that can go on from where it was: positions, and drawing ahead of the consumer."""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import Full, Queue
from typing import Any, TypeVar

Item = TypeVar("Item")

Position = dict[str, int]
"""Where a stream of training data is: plain numbers that a checkpoint can hold. {} is the start."""

Batches = Callable[[Position], Iterator[tuple[Any, Position]]]
"""From a position to the batches from there on, each with the position after it."""


def in_background(items: Iterator[Item], depth: int) -> Iterator[Item]:
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

    thread = threading.Thread(target=draw, name="samlet-stream", daemon=True)
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
