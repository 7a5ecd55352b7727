"""Work in a thread, one piece at a time, whose errors are sentences."""

import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from napari.qt.threading import GeneratorWorker, create_worker

from samlet.errors import UserError

T = TypeVar("T")


class BackgroundWork:
    """Runs generators in a thread; what was stopped calls back no more.

    Args:
        on_error: called in the GUI thread with a sentence.
        on_change: called in the GUI thread when work has started or ended.
    """

    def __init__(self, on_error: Callable[[str], None], on_change: Callable[[], None]) -> None:
        self._on_error = on_error
        self._on_change = on_change
        self._worker: GeneratorWorker | None = None
        self._stopped: threading.Event | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is work that `stop` would end."""
        return self._worker is not None

    def start(
        self,
        work: Generator[Any, None, T],
        on_result: Callable[[T], None],
        on_progress: Callable[[Any], None] = lambda _: None,
        clean_up: Callable[[], None] = lambda: None,
        stopped: threading.Event | None = None,
    ) -> None:
        """Start work.

        Args:
            work: what runs in the thread.
            on_result: called with what it returns.
            on_progress: called with what it yields.
            clean_up: called instead of `on_result` if it fails or was stopped.
            stopped: set by `stop`, for what must not wait until the work yields.
        """
        worker = create_worker(_catch_errors, work)

        def end(result: T | _Error) -> None:
            if self._worker is not worker:
                return
            self._worker = None
            if isinstance(result, _Error):
                clean_up()
                self._on_error(result.sentence)
            else:
                on_result(result)
            self._on_change()

        def report(progress: Any) -> None:
            if self._worker is worker:
                on_progress(progress)

        worker.returned.connect(end)
        worker.yielded.connect(report)
        worker.aborted.connect(clean_up)
        worker.errored.connect(lambda error: end(_Error(f"It has failed: {error!r}")))
        self._worker, self._stopped = worker, stopped
        self._on_change()
        worker.start()

    def stop(self) -> None:
        """End the work as soon as it yields."""
        if self._worker is not None:
            self._worker.quit()
            if self._stopped is not None:
                self._stopped.set()
            self._worker = None


class _Error:
    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


def _catch_errors(work: Generator[Any, None, T]) -> Generator[Any, None, T | _Error]:
    try:
        return (yield from work)
    except UserError as error:
        return _Error(str(error))
    except RuntimeError as error:
        # napari's workers take these for the end of the window, and say nothing.
        return _Error(f"It has failed: {error}")
