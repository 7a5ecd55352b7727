"""Batches that continue in the background, and who will deliver which prediction.

Label Studio stores what /predict returns. So a prediction must either be returned or be written
through the API, but never both.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from samlet.errors import UserError
from samlet_labelstudio.service.request_context import Task

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 4.0
"""Seconds after which a shutdown reports what is not done: gunicorn kills the server after 5."""


class BackgroundBatches:
    """The batches of a server; safe to use from any number of threads.

    Attributes:
        write_lock: held by the batch that writes, so that batches finish one after another.
        is_shutting_down: whether work should end as soon as possible.
    """

    def __init__(self) -> None:
        self.write_lock = threading.Lock()
        self.is_shutting_down = False
        self._lock = threading.Lock()
        self._pending: dict[str, set[int]] = {}
        self._claims: list[Claim] = []
        self._threads: list[threading.Thread] = []
        atexit.register(self._shut_down)

    def start(self, work: Callable[[], None]) -> None:
        """Run something in a thread of its own; the process does not end before it returns."""
        thread = threading.Thread(target=work, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()

    @contextmanager
    def claim(self, project: str, tasks: Sequence[Task]) -> Iterator["Claim"]:
        """Claim tasks while a request waits for their predictions.

        Raises:
            UserError: the background writes one of them, on entry or by the time of the exit.
        """
        numbers = (task.get("id") for task in tasks)
        claim = Claim(project, frozenset(n for n in numbers if isinstance(n, int)))
        with self._lock:
            claim.taken_over = len(claim.tasks & self._pending.get(project, set()))
            claim.check()
            self._claims.append(claim)
        try:
            yield claim
        finally:
            with self._lock:
                self._claims.remove(claim)
        claim.check()

    def take_over(self, claim: "Claim") -> None:
        """Record that the predictions of a request will be written, and not be returned.

        Raises:
            UserError: one of them will be, or was, written for another request.
        """
        with self._lock:
            claim.check()
            for other in self._claims:
                if other is not claim and other.project == claim.project:
                    other.taken_over += len(other.tasks & claim.tasks)
            self._pending.setdefault(claim.project, set()).update(claim.tasks)

    def release(self, project: str, task: int) -> None:
        """Forget a task: its prediction is written, or cannot be."""
        with self._lock:
            self._pending[project].discard(task)

    def _shut_down(self) -> None:
        self.is_shutting_down = True
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        for project, pending in self._pending.items():
            if pending:
                log.warning(
                    "Project %s: the server stops before %d tasks are done: request them again.",
                    project,
                    len(pending),
                )
        # However long that is: PyTorch aborts the process if a thread is still in it at its end.
        for thread in self._threads:
            thread.join()


@dataclass(eq=False)
class Claim:
    """Tasks that a request waits for.

    Attributes:
        project: theirs.
        tasks: their numbers.
        taken_over: how many of them the background writes, for an earlier request.
    """

    project: str
    tasks: frozenset[int]
    taken_over: int = 0

    def check(self) -> None:
        """Check that predictions may be returned: Label Studio would store them a second time.

        Raises:
            UserError: the background writes some of them.
        """
        if self.taken_over:
            raise UserError(
                f"{self.taken_over} of these tasks are already being processed in the background "
                "for an earlier request: their predictions appear one by one."
            )
