"""Batches that continue in the background, and who will deliver which prediction.

Label Studio stores what /predict returns. So a prediction must either be returned or be written
through the API, but never both.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samlet.errors import UserError
from samlet_labelstudio.service.deliveries import Deliveries
from samlet_labelstudio.service.request_context import RequestContext, Task
from samlet_labelstudio.service.unfinished import Note, Unfinished, UnfinishedBatches

log = logging.getLogger(__name__)

STOPPED = (
    "Project %s: the server stops before %d tasks are done; they are resumed at the next start."
)


class BackgroundBatches:
    """The batches of a server; safe to use from any number of threads.

    Args:
        folder: where batches are noted until they are finished.

    Attributes:
        deliveries: what requests are about to answer.
        write_lock: held by the batch that writes, so that batches finish one after another.
        is_shutting_down: whether work should end as soon as possible.
    """

    def __init__(self, folder: Path) -> None:
        self.deliveries = Deliveries()
        self.write_lock = threading.Lock()
        self.is_shutting_down = False
        self._lock = threading.Lock()
        self._pending: dict[str, set[int]] = {}
        self._claims: list[Claim] = []
        self._threads: list[threading.Thread] = []
        self._unfinished = UnfinishedBatches(folder)
        self._notes: list[Note] = []
        self._totals: dict[str, int] = {}
        self._begun: dict[str, float] = {}

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

    def take_over(self, claim: "Claim", context: RequestContext, tasks: Sequence[Task]) -> None:
        """Record that the predictions of a request will be written, and not be returned.

        Args:
            claim: to the tasks.
            context: of the request.
            tasks: its tasks.

        Raises:
            UserError: one of them will be, or was, written for another request.
        """
        with self._lock:
            claim.check()
            for other in self._claims:
                if other is not claim and other.project == claim.project:
                    other.taken_over += len(other.tasks & claim.tasks)
            pending = self._pending.setdefault(claim.project, set())
            if not pending:
                self._totals[claim.project], self._begun[claim.project] = 0, time.monotonic()
            pending.update(claim.tasks)
            self._totals[claim.project] += len(claim.tasks)
            claim.note = self._unfinished.add(context, tasks)
            if claim.note is not None:
                claim.note.take()
                self._notes.append(claim.note)

    def release(self, project: str, task: int) -> None:
        """Forget a task: its prediction is written, or cannot be."""
        with self._lock:
            self._pending[project].discard(task)

    def finish(self, claim: "Claim") -> None:
        """Record that all tasks of a batch are done, and nothing needs to be resumed."""
        if claim.note is not None:
            claim.note.remove()
            with self._lock:
                self._notes.remove(claim.note)

    def give_up(self, claim: "Claim", is_resumed: bool) -> None:
        """End a batch before its tasks are done, so that they can be requested again.

        Args:
            claim: to its tasks.
            is_resumed: whether the next start of the server does the rest.
        """
        with self._lock:
            self._pending[claim.project] -= claim.tasks
        if not is_resumed:
            self.finish(claim)
        elif claim.note is not None:
            claim.note.release()
            with self._lock:
                self._notes.remove(claim.note)

    def postpone(self, context: RequestContext, tasks: Sequence[Task]) -> None:
        """Leave the tasks of a request to the next start of the server."""
        if self._unfinished.add(context, tasks) is not None:
            log.warning(STOPPED, context.project, len(tasks))

    def unfinished(self) -> list[Unfinished]:
        """The batches that servers have left which have ended; they are handed out once."""
        return list(self._unfinished.take())

    def progress(self) -> "list[BatchProgress]":
        """How far the batches of each project are that are not done."""
        with self._lock:
            return [
                BatchProgress(
                    project,
                    self._totals[project] - len(pending),
                    self._totals[project],
                    time.monotonic() - self._begun[project],
                )
                for project, pending in self._pending.items()
                if pending
            ]

    def shut_down(self, seconds: float) -> None:
        """End the work as soon as possible, and report what is not done.

        Args:
            seconds: to wait for the work to end.
        """
        self.is_shutting_down = True
        deadline = time.monotonic() + seconds
        for thread in self._started():
            thread.join(max(0, deadline - time.monotonic()))
        # A request that has just arrived may still add to them.
        with self._lock:
            for project, pending in self._pending.items():
                if pending:
                    log.warning(STOPPED, project, len(pending))
            for note in self._notes:
                note.release()

    def join(self) -> None:
        """Wait for the work to end, however long that takes.

        PyTorch aborts the process if a thread is still in it at its end.
        """
        for thread in self._started():
            thread.join()

    def _started(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._threads)


@dataclass(frozen=True)
class BatchProgress:
    """How far the tasks of a project are that are done in the background.

    Attributes:
        project: its number.
        done: tasks that are done, or were left out.
        total: tasks in all.
        seconds: since they were begun.
    """

    project: str
    done: int
    total: int
    seconds: float


@dataclass(eq=False)
class Claim:
    """Tasks that a request waits for.

    Attributes:
        project: theirs.
        tasks: their numbers.
        taken_over: how many of them the background writes, for an earlier request.
        note: from which the batch is resumed.
    """

    project: str
    tasks: frozenset[int]
    taken_over: int = 0
    note: Note | None = None

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
