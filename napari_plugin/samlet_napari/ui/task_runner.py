"""Runs tasks in napari's worker threads, one at a time."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from napari.qt.threading import create_worker
from psygnal import Signal

from samlet.errors import UserError
from samlet_napari.inference.objects import FoundObject
from samlet_napari.ui.main_thread import in_main_thread
from samlet_napari.viewer.task import Task
from samlet_napari.viewer.workspace import Workspace


class _StoppedError(Exception):
    """The user has stopped the task."""


class TaskRunner:
    """Runs tasks of a workspace, and reports on them.

    Args:
        workspace: whose status is kept up to date.

    Attributes:
        progress: emitted with the fraction done, 0 to 1; -1 at the end.
    """

    progress = Signal(float)

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stopped = threading.Event()
        self._dropped = threading.Event()
        self._worker: Any = None

    @property
    def is_running(self) -> bool:
        """Whether there is a task that `stop` would end."""
        return self._worker is not None

    def start(self, make_task: Callable[[], Task], message: str) -> None:
        """Start a task.

        Args:
            make_task: makes it, if no other task is running.
            message: for the status while it runs.

        Raises:
            UserError: another task is running, or what `make_task` raises.
        """
        if self._worker is not None:
            raise UserError("Another task is still running: wait for it, or press Stop.")
        task = make_task()
        stopped = self._stopped = threading.Event()
        dropped = self._dropped = threading.Event()
        errors: list[str] = []

        def receive(found: list[FoundObject] | str) -> None:
            if isinstance(found, str):
                errors.append(found)
            elif not dropped.is_set():
                try:
                    task.write(found)
                except UserError as error:
                    errors.append(str(error))
                    stopped.set()
                    dropped.set()

        def end() -> None:
            self._worker = None
            self.progress.emit(-1.0)
            self._workspace.status.emit(_outcome(task, errors, stopped.is_set()))

        self._workspace.status.emit(message)
        self._worker = create_worker(self._run, task, stopped, dropped, _start_thread=False)
        self._worker.yielded.connect(receive)
        self._worker.finished.connect(end)
        self.progress.emit(0.0)
        self._worker.start()

    def stop(self) -> None:
        """End the task that is running; what it has found is written."""
        self._stopped.set()

    def drop(self) -> None:
        """End the task that is running, and write nothing more."""
        self._dropped.set()
        self._stopped.set()

    def _run(
        self, task: Task, stopped: threading.Event, dropped: threading.Event
    ) -> Iterator[list[FoundObject] | str]:
        def progress(fraction: float) -> None:
            if stopped.is_set():
                raise _StoppedError
            self._emit_progress(fraction)

        try:
            for found in task.run(progress):
                if dropped.is_set():
                    return
                yield found
        except _StoppedError:
            return
        except UserError as error:
            # napari would show a dialog for an error that is raised.
            yield str(error)

    @in_main_thread
    def _emit_progress(self, fraction: float) -> None:
        if self.is_running:
            self.progress.emit(fraction)


def _outcome(task: Task, errors: list[str], is_stopped: bool) -> str:
    if errors:
        return errors[0]
    if is_stopped:
        return "Stopped."
    try:
        return task.finish()
    except UserError as error:
        return str(error)
