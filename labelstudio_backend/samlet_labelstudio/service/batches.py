"""Tasks to pre-annotate: those that are quick are answered, the others done in the background.

Label Studio sends all chosen tasks in one request, shows nothing while it waits, and gives up after
100 s, with nothing stored. So they are done in a thread of their own; when the request is to wait
no longer, that thread continues and writes its predictions through Label Studio's API.
"""

import logging
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress

from samlet.errors import UserError
from samlet_labelstudio.label_studio.client import LabelStudioUnavailableError, connect
from samlet_labelstudio.service.background import BackgroundBatches, Claim
from samlet_labelstudio.service.preannotation import Preannotator, PreparedTask
from samlet_labelstudio.service.predictions import (
    ProjectDeletedError,
    task_number,
    write_prediction,
)
from samlet_labelstudio.service.request_context import Answer, Prediction, RequestContext, Task

log = logging.getLogger(__name__)

WAIT_SECONDS = 80.0
"""For a task that is being opened; or for all, if they cannot be written through the API."""
MANY_WAIT_SECONDS = 10.0
"""For several tasks, since whoever has chosen them need not wait."""

POLL_SECONDS = 0.2

NOTHING: list[Prediction] = []
"""An answer of which Label Studio stores nothing: a task's predictions may also be a list."""


def preannotate_tasks(
    preannotator: Preannotator,
    background: BackgroundBatches,
    context: RequestContext,
    tasks: Sequence[Task],
) -> list[Answer]:
    """Pre-annotate tasks; those that fail get an empty prediction, and the log says why.

    Label Studio stores each answer. So a task that has a prediction of the same model, or for which
    one is on its way, gets `NOTHING`: opening a task asks for it twice.

    Args:
        preannotator: does the work.
        background: where work that takes too long is continued.
        context: of the request.
        tasks: see `PreparedTask`.

    Returns:
        A prediction for each task, or `NOTHING` where it is stored already or will be: if they take
        too long, all are written through Label Studio's API, in the background.

    Raises:
        UserError: the only task cannot be read; or the tasks take too long, and Label Studio's
            address and key are not known; or they are in work for an earlier request.
        Exception: whatever else is wrong with the only task.
    """
    prepared = [preannotator.prepare(context, task) for task in tasks]
    versions = [preannotator.version_of(each) for each in prepared]
    keys = [
        _key(context.project, version, task) for version, task in zip(versions, tasks, strict=True)
    ]
    with background.deliveries.take(keys) as taken:
        wanted = [
            each
            for each, version, is_taken in zip(prepared, versions, taken, strict=True)
            if is_taken and not _has_prediction(each.task, version)
        ]
        answers: dict[int, Answer] = {}
        if wanted:
            with background.claim(context.project, [each.task for each in wanted]) as claim:
                results = Batch(preannotator, background, context, wanted, claim).results()
            answers = {id(each.task): answer for each, answer in zip(wanted, results, strict=True)}
    return [answers.get(id(task), NOTHING) for task in tasks]


def resume_tasks(
    preannotator: Preannotator,
    background: BackgroundBatches,
    context: RequestContext,
    tasks: Sequence[Task],
) -> None:
    """Pre-annotate tasks in the background; those that have a prediction by now are left out.

    Raises:
        UserError: a request waits for one of them.
    """
    prepared = [preannotator.prepare(context, task) for task in tasks]
    with background.claim(context.project, tasks) as claim:
        Batch(preannotator, background, context, prepared, claim).resume()


def _key(project: str, version: str, task: Task) -> Hashable:
    """What two requests have in common that would be answered with the same prediction."""
    number = task.get("id")
    return (project, version, number) if isinstance(number, int) else object()


def _has_prediction(task: Task, version: str) -> bool:
    predictions = task.get("predictions")
    return isinstance(predictions, list) and any(
        isinstance(each, Mapping) and each.get("model_version") == version for each in predictions
    )


class _UnwantedError(Exception):
    """Nobody waits for the tasks any more, or the server stops."""


class Batch:
    """The tasks of one request.

    Args:
        preannotator: does the work.
        background: where it is continued.
        context: of the request.
        prepared: its tasks.
        claim: to them.
    """

    def __init__(
        self,
        preannotator: Preannotator,
        background: BackgroundBatches,
        context: RequestContext,
        prepared: Sequence[PreparedTask],
        claim: Claim,
    ) -> None:
        self._preannotator = preannotator
        self._background = background
        self._context = context
        self._prepared = prepared
        self._tasks = [each.task for each in prepared]
        self._claim = claim
        self._outcomes: list[Prediction | Exception] = []
        self._lock = threading.Lock()
        self._is_done = threading.Event()
        self._is_cancelled = False
        self._is_deferred = False

    def results(self) -> Sequence[Answer]:
        """Wait for the predictions.

        Returns:
            A prediction for each task, an empty one for those that failed; `NOTHING` for each if
            they take too long, and are done in the background.

        Raises:
            UserError: the only task cannot be read; or they take too long, or the server stops, and
                they cannot be done in the background.
            Exception: whatever else is wrong with the only task.
        """
        self._background.start(self._work)
        seconds = WAIT_SECONDS
        if len(self._tasks) > 1 and self._why_not_deferrable() is None:
            seconds = min(WAIT_SECONDS, MANY_WAIT_SECONDS)
        if not self._wait(seconds) and not self._background.is_shutting_down and self._defer():
            return [NOTHING] * len(self._tasks)
        if len(self._outcomes) < len(self._tasks):
            if len(self._tasks) > 1 and self._why_not_deferrable() is None:
                self._background.postpone(self._context, self._tasks)
                return [NOTHING] * len(self._tasks)
            raise UserError("The server is stopping: request the predictions again later.")
        version = self._preannotator.models.version_of(self._context.project)
        if len(self._tasks) == 1 and isinstance(self._outcomes[0], Exception):
            raise self._outcomes[0]
        empty: Prediction = {"result": [], "score": 0.0, "model_version": version}
        return [empty if isinstance(each, Exception) else each for each in self._outcomes]

    def _wait(self, seconds: float) -> bool:
        """Wait for the tasks, but not while the server stops: loading a model cannot be ended."""
        deadline = time.monotonic() + seconds
        while not self._background.is_shutting_down:
            left = deadline - time.monotonic()
            if self._is_done.wait(max(0.0, min(POLL_SECONDS, left))):
                return True
            if left <= 0:
                break
        return self._is_done.is_set()

    def _why_not_deferrable(self) -> UserError | None:
        """Why predictions cannot be written through the API; None if they can."""
        try:
            connect(self._context.settings)
            for task in self._tasks:
                task_number(task)
        except UserError as error:
            return error
        return None

    def _defer(self) -> bool:
        """Leave the tasks to the background; False if they are done by now."""
        try:
            if (error := self._why_not_deferrable()) is not None:
                raise error
            with self._lock:
                if self._is_done.is_set():
                    return False
                self._background.take_over(self._claim, self._context, self._tasks)
                self._is_deferred = True
        except UserError:
            self._is_cancelled = True
            raise
        log.warning(
            "Project %s: %d tasks are processed in the background, and their predictions appear "
            "one by one.",
            self._context.project,
            len(self._tasks),
        )
        return True

    def resume(self) -> None:
        """Do the tasks in the background, after a server was stopped that was at them."""
        self._background.take_over(self._claim, self._context, self._tasks)
        self._is_deferred = True
        self._background.start(self._work)

    def _work(self) -> None:
        with suppress(_UnwantedError):
            for each in self._prepared:
                if self._is_deferred:
                    break
                self._check_wanted()
                self._outcomes.append(self._preannotate(each))
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

    def _preannotate(self, prepared: PreparedTask) -> Prediction | Exception:
        try:
            return self._preannotator.preannotate(prepared, progress=self._check_wanted)
        except _UnwantedError:
            raise
        # One failure must not end the others; that of an only task is raised in `results`.
        except Exception as error:
            if len(self._tasks) > 1:
                _log_skipped(prepared.task, error)
            return error

    def _write(self) -> None:
        """Do the rest, and write all."""
        written, project = 0, self._context.project
        for number, each in enumerate(self._prepared):
            task = each.task
            outcome = self._outcomes[number] if number < len(self._outcomes) else None
            try:
                self._check_wanted()
                written += self._write_outcome(each, outcome)
            except _UnwantedError:
                return
            except ProjectDeletedError as error:
                self._background.give_up(self._claim, is_resumed=False)
                log.error(
                    "%s Its batch ends: %d of %d tasks were done.",
                    error,
                    written,
                    len(self._tasks),
                )
                return
            except LabelStudioUnavailableError as error:
                self._background.give_up(self._claim, is_resumed=True)
                log.error(
                    "Project %s: %d of %d tasks are left, and resumed when the backend is started "
                    "again, unless they are requested before. %s",
                    project,
                    len(self._tasks) - number,
                    len(self._tasks),
                    error,
                )
                return
            # The request is over: only the log can report it.
            except Exception as error:
                _log_skipped(task, error)
            self._background.release(project, task_number(task))
        self._background.finish(self._claim)
        log.warning("Project %s: %d of %d tasks are done.", project, written, len(self._tasks))

    def _write_outcome(
        self, prepared: PreparedTask, outcome: Prediction | Exception | None
    ) -> bool:
        """Write the prediction of a task, unless it failed; None if it has yet to be made."""
        if isinstance(outcome, Exception):
            if len(self._tasks) == 1:
                raise outcome
            return False
        write_prediction(self._preannotator, prepared, outcome, progress=self._check_wanted)
        return True


def _log_skipped(task: Task, error: Exception) -> None:
    if isinstance(error, UserError):
        log.warning("Task %s was skipped: %s", task.get("id"), error)
    else:
        log.error("Task %s was skipped", task.get("id"), exc_info=error)
