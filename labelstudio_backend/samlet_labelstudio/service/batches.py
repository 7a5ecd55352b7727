"""Many tasks at once: as many as Label Studio waits for, and the others in the background.

Label Studio sends all chosen tasks in one request and gives up after 100 s, with nothing stored. So
a thread of its own does them; if the request may wait no longer, it goes on, and writes through
Label Studio's API what it finds.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samlet.errors import UserError
from samlet_labelstudio.label_studio.client import connect, told

if TYPE_CHECKING:
    from samlet_labelstudio.service.service import Asked, Service

log = logging.getLogger(__name__)

WAIT_SECONDS = 80.0
END_SECONDS = 4.0
"""How long the server waits at its end for the tasks that it is at: gunicorn kills it after 5."""

Task = Mapping[str, Any]
Prediction = dict[str, Any]


class Batches:
    """What is done in the background, one batch after another; for any number of threads.

    Attributes:
        turn: held by the batch that is being written.
        is_ending: whether nothing new is to be begun, since the server ends.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.is_ending = False
        self._lock = threading.Lock()
        self._owed: dict[str, set[int]] = {}
        self._claims: list[Claim] = []
        self._threads: list[threading.Thread] = []
        atexit.register(self._end)

    def start(self, work: Callable[[], None]) -> None:
        """Do something in a thread of its own."""
        thread = threading.Thread(target=work, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()

    @contextmanager
    def asking(self, project: str, tasks: Sequence[Task]) -> Iterator["Claim"]:
        """While a request waits for predictions, which nobody else may write meanwhile.

        Raises:
            UserError: the background writes one of them, from now or from during the request on.
        """
        numbers = (task.get("id") for task in tasks)
        claim = Claim(project, frozenset(n for n in numbers if isinstance(n, int)))
        with self._lock:
            owed = self._owed.get(project, set())
            claim.overtaken = len(claim.tasks & owed)
            claim.check()
            self._claims.append(claim)
        try:
            yield claim
        finally:
            with self._lock:
                self._claims.remove(claim)
        claim.check()

    def owe(self, claim: "Claim") -> None:
        """Note that the predictions of a request will be written, and not be answered.

        Raises:
            UserError: one of them will be, or was, since the request came.
        """
        with self._lock:
            claim.check()
            for other in self._claims:
                if other is not claim and other.project == claim.project:
                    other.overtaken += len(other.tasks & claim.tasks)
            self._owed.setdefault(claim.project, set()).update(claim.tasks)

    def settle(self, project: str, task: int) -> None:
        """Forget a task: its prediction is written, or cannot be."""
        with self._lock:
            self._owed[project].discard(task)

    def _end(self) -> None:
        self.is_ending = True
        # Libraries end the process roughly if a thread is still in them.
        deadline = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        for project, owed in self._owed.items():
            if owed:
                log.warning(
                    "Project %s: the server ends before %d tasks are done: ask for them again.",
                    project,
                    len(owed),
                )


@dataclass(eq=False)
class Claim:
    """Tasks that a request waits for.

    Attributes:
        project: theirs.
        tasks: their numbers.
        overtaken: how many of them the background writes, for a request before.
    """

    project: str
    tasks: frozenset[int]
    overtaken: int = 0

    def check(self) -> None:
        """Check that Label Studio may be answered: it would store what it is given once more.

        Raises:
            UserError: the background writes some of them.
        """
        if self.overtaken:
            raise UserError(
                f"{self.overtaken} of these tasks are being done in the background since they were "
                "asked for before: their predictions appear one by one."
            )


class Batch:
    """The tasks of one request.

    Args:
        service: does the work.
        asked: see there.
        tasks: see `Service.preannotate`.
        claim: to them.
    """

    def __init__(
        self, service: "Service", asked: "Asked", tasks: Sequence[Task], claim: Claim
    ) -> None:
        self._claim = claim
        self._service = service
        self._asked = asked
        self._tasks = tasks
        self._outcomes: list[Prediction | Exception] = []
        self._lock = threading.Lock()
        self._is_done = threading.Event()
        self._is_wanted = True
        self._is_deferred = False

    def results(self, seconds: float) -> list[Prediction]:
        """A prediction for each task, an empty one for those that failed.

        Args:
            seconds: how long to wait.

        Raises:
            UserError: the only task cannot be read; or they take too long, and are done in the
                background, or not at all if Label Studio's address and key are not known.
            Exception: whatever else is wrong with the only task.
        """
        self._service.batches.start(self._work)
        if not self._is_done.wait(seconds):
            self._defer()
        version = self._service.model_version(self._asked.project)
        if len(self._tasks) == 1 and isinstance(self._outcomes[0], Exception):
            raise self._outcomes[0]
        empty: Prediction = {"result": [], "score": 0.0, "model_version": version}
        return [empty if isinstance(each, Exception) else each for each in self._outcomes]

    def _defer(self) -> None:
        """Leave the tasks to the background, unless they are done by now."""
        try:
            connect(self._service.settings)
            for task in self._tasks:
                _number(task)
            with self._lock:
                if self._is_done.is_set():
                    return
                self._service.batches.owe(self._claim)
                self._is_deferred = True
        except UserError:
            self._is_wanted = False
            raise
        raise UserError(
            f"{len(self._tasks)} tasks take longer than Label Studio waits: they are done in the "
            "background, and their predictions appear one by one."
        )

    def _work(self) -> None:
        for task in self._tasks:
            if self._is_deferred or not self._is_wanted or self._service.batches.is_ending:
                break
            self._outcomes.append(self._outcome(task))
        with self._lock:
            if not self._is_deferred:
                self._is_done.set()
                return
        with self._service.batches.turn:
            self._write()

    def _outcome(self, task: Task) -> Prediction | Exception:
        try:
            return self._service.preannotate(self._asked, task)
        # Told here, or where the only task is asked for: one must not end the others.
        except Exception as error:
            if len(self._tasks) > 1:
                _left_out(task, error)
            return error

    def _write(self) -> None:
        """Do the rest, and write all."""
        written = 0
        for number, task in enumerate(self._tasks):
            if self._service.batches.is_ending:
                return
            found = self._outcomes[number] if number < len(self._outcomes) else None
            try:
                if isinstance(found, Exception):
                    if len(self._tasks) == 1:
                        raise found
                    continue
                write_prediction(self._service, self._asked, task, found)
                written += 1
            # Nobody waits who could be told but by the log.
            except Exception as error:
                _left_out(task, error)
            finally:
                self._service.batches.settle(self._asked.project, _number(task))
        log.warning(
            "Project %s: %d of %d tasks are done.", self._asked.project, written, len(self._tasks)
        )


def preannotate_all(service: "Service", asked: "Asked", tasks: Sequence[Task]) -> list[Prediction]:
    """Pre-annotate tasks; those that cannot be read get nothing, and the log says why.

    Args:
        service: does the work.
        asked: see there.
        tasks: see `Service.preannotate`.

    Returns:
        a prediction for each task.

    Raises:
        UserError: the only task cannot be read; or they take too long, or did when they were asked
            for before. Then all are written through Label Studio's API, in the background, if its
            address and key are known.
        Exception: whatever else is wrong with the only task.
    """
    with service.batches.asking(asked.project, tasks) as claim:
        return Batch(service, asked, tasks, claim).results(WAIT_SECONDS)


def write_prediction(
    service: "Service", asked: "Asked", task: Task, found: Prediction | None = None
) -> None:
    """Give Label Studio the prediction of a task, unless it has one of the same model.

    Args:
        service: does the work.
        asked: see there.
        task: see `Service.preannotate`.
        found: the prediction; None if that is still to be done.

    Raises:
        UserError: the task cannot be read, or Label Studio does not take the prediction.
    """
    client, number = connect(service.settings), _number(task)
    version = found["model_version"] if found else service.model_version(asked.project)
    with told(service.settings):
        known = client.predictions.list(task=number)
    if any(prediction.model_version == version for prediction in known):
        return
    found = found or service.preannotate(asked, task)
    with told(service.settings):
        client.predictions.create(
            task=number,
            result=found["result"],
            score=found["score"],
            model_version=found["model_version"],
        )


def _number(task: Task) -> int:
    number = task.get("id")
    if not isinstance(number, int):
        raise UserError('A task has no number as its "id": send tasks of Label Studio.')
    return number


def _left_out(task: Task, error: Exception) -> None:
    if isinstance(error, UserError):
        log.warning("Task %s was left out: %s", task.get("id"), error)
    else:
        log.error("Task %s was left out", task.get("id"), exc_info=error)
