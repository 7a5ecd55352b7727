"""Many tasks in one request: as many as Label Studio waits for, the others in the background.

Label Studio sends all chosen tasks in one request and gives up after 100 s, with nothing stored. So
they are done in a thread of their own; when the request may wait no longer, that thread continues
and writes its predictions through Label Studio's API.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

from samlet.errors import UserError
from samlet_labelstudio.label_studio.client import connect
from samlet_labelstudio.service.background import BackgroundBatches, Claim
from samlet_labelstudio.service.preannotation import Preannotator
from samlet_labelstudio.service.predictions import task_number, write_prediction
from samlet_labelstudio.service.request_context import Prediction, RequestContext, Task

log = logging.getLogger(__name__)

WAIT_SECONDS = 80.0


def preannotate_tasks(
    preannotator: Preannotator,
    background: BackgroundBatches,
    context: RequestContext,
    tasks: Sequence[Task],
) -> list[Prediction]:
    """Pre-annotate tasks; those that fail get an empty prediction, and the log says why.

    Args:
        preannotator: does the work.
        background: where work that takes too long is continued.
        context: of the request.
        tasks: see `Preannotator.preannotate`.

    Returns:
        A prediction for each task.

    Raises:
        UserError: the only task cannot be read; or the tasks take too long, or are still in work
            for an earlier request. Then all are written through Label Studio's API, in the
            background, if its address and key are known.
        Exception: whatever else is wrong with the only task.
    """
    with background.claim(context.project, tasks) as claim:
        return Batch(preannotator, background, context, tasks, claim).results(WAIT_SECONDS)


class _UnwantedError(Exception):
    """Nobody waits for the tasks any more, or the server stops."""


class Batch:
    """The tasks of one request.

    Args:
        preannotator: does the work.
        background: where it is continued.
        context: of the request.
        tasks: see `Preannotator.preannotate`.
        claim: to them.
    """

    def __init__(
        self,
        preannotator: Preannotator,
        background: BackgroundBatches,
        context: RequestContext,
        tasks: Sequence[Task],
        claim: Claim,
    ) -> None:
        self._preannotator = preannotator
        self._background = background
        self._context = context
        self._tasks = tasks
        self._claim = claim
        self._outcomes: list[Prediction | Exception] = []
        self._lock = threading.Lock()
        self._is_done = threading.Event()
        self._is_cancelled = False
        self._is_deferred = False

    def results(self, seconds: float) -> list[Prediction]:
        """Wait for the predictions.

        Args:
            seconds: how long.

        Returns:
            A prediction for each task, an empty one for those that failed.

        Raises:
            UserError: the only task cannot be read; or they take too long, and are done in the
                background, or not at all if Label Studio's address and key are not known; or the
                server stops.
            Exception: whatever else is wrong with the only task.
        """
        self._background.start(self._work)
        if not self._is_done.wait(seconds):
            self._defer()
        if len(self._outcomes) < len(self._tasks):
            raise UserError("The server is stopping: request the predictions again later.")
        version = self._preannotator.models.version_of(self._context.project)
        if len(self._tasks) == 1 and isinstance(self._outcomes[0], Exception):
            raise self._outcomes[0]
        empty: Prediction = {"result": [], "score": 0.0, "model_version": version}
        return [empty if isinstance(each, Exception) else each for each in self._outcomes]

    def _defer(self) -> None:
        """Leave the tasks to the background, unless they are done by now."""
        try:
            connect(self._context.settings)
            for task in self._tasks:
                task_number(task)
            with self._lock:
                if self._is_done.is_set():
                    return
                self._background.take_over(self._claim)
                self._is_deferred = True
        except UserError:
            self._is_cancelled = True
            raise
        raise UserError(
            f"{len(self._tasks)} tasks take longer than Label Studio waits: they are processed in "
            "the background, and their predictions appear one by one."
        )

    def _work(self) -> None:
        with suppress(_UnwantedError):
            for task in self._tasks:
                if self._is_deferred:
                    break
                self._check_wanted()
                self._outcomes.append(self._preannotate(task))
        with self._lock:
            if not self._is_deferred:
                self._is_done.set()
                return
        with self._background.write_lock:
            self._write()

    def _check_wanted(self, progress: float = 0.0) -> None:
        """End the work, also within a task, if its outcome is of no use: a task may take minutes.

        Raises:
            _UnwantedError: it is not.
        """
        if self._is_cancelled or self._background.is_shutting_down:
            raise _UnwantedError

    def _preannotate(self, task: Task) -> Prediction | Exception:
        try:
            return self._preannotator.preannotate(self._context, task, progress=self._check_wanted)
        except _UnwantedError:
            raise
        # One failure must not end the others; that of an only task is raised in `results`.
        except Exception as error:
            if len(self._tasks) > 1:
                _log_skipped(task, error)
            return error

    def _write(self) -> None:
        """Do the rest, and write all."""
        written = 0
        for number, task in enumerate(self._tasks):
            outcome = self._outcomes[number] if number < len(self._outcomes) else None
            try:
                self._check_wanted()
                written += self._write_outcome(task, outcome)
            except _UnwantedError:
                return
            # The request is over: only the log can report it.
            except Exception as error:
                _log_skipped(task, error)
            self._background.release(self._context.project, task_number(task))
        log.warning(
            "Project %s: %d of %d tasks are done.", self._context.project, written, len(self._tasks)
        )

    def _write_outcome(self, task: Task, outcome: Prediction | Exception | None) -> bool:
        """Write the prediction of a task, unless it failed; None if it has yet to be made."""
        if isinstance(outcome, Exception):
            if len(self._tasks) == 1:
                raise outcome
            return False
        write_prediction(
            self._preannotator, self._context, task, outcome, progress=self._check_wanted
        )
        return True


def _log_skipped(task: Task, error: Exception) -> None:
    if isinstance(error, UserError):
        log.warning("Task %s was skipped: %s", task.get("id"), error)
    else:
        log.error("Task %s was skipped", task.get("id"), exc_info=error)
