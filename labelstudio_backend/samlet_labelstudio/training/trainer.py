"""Training on annotations: one at a time, in a process of its own.

A training that crashes is reported and harms nothing else: the server is another process. One that
runs when the server stops is stopped with it, and resumed at its next start.
"""

import logging
import threading
from datetime import datetime

from filelock import FileLock, Timeout

from samlet.errors import UserError
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.run import PENDING, StoppedError, TrainingRun
from samlet_labelstudio.training.status import TrainingOutcome, TrainingProgress, format_figures
from samlet_labelstudio.training.versions import Versions, folder_name

log = logging.getLogger(__name__)

START_EVENT = "START_TRAINING"
ANNOTATION_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
OUTCOME = "outcome.json"
LOCK = "training.lock"


class Trainer:
    """Finetunes the mask decoder on a project's annotations on request.

    Args:
        settings: see there.
        versions: where trained models go.
    """

    def __init__(self, settings: Settings, versions: Versions) -> None:
        self._settings = settings
        self._versions = versions
        self._lock = threading.Lock()
        # Acquired by the thread of a request, released by that of the training.
        self._folder_lock = FileLock(settings.folder / LOCK, thread_local=False)
        self._run: TrainingRun | None = None
        self._thread: threading.Thread | None = None
        self._is_shutting_down = False
        self._outcomes: dict[str, TrainingOutcome] = {}
        self._timers: dict[str, threading.Timer] = {}

    @property
    def running(self) -> str | None:
        """The project that is being trained on."""
        run = self._run
        return None if run is None else run.project

    def progress(self) -> TrainingProgress | None:
        """How far the running training is; None if there is none."""
        run = self._run
        return None if run is None else run.progress()

    def outcome(self, project: str) -> TrainingOutcome | None:
        """What came of the last training on a project.

        Raises:
            UserError: not a project's number.
        """
        stored = self._settings.folder / "training" / folder_name(project) / OUTCOME
        return self._outcomes.get(project) or TrainingOutcome.read(stored)

    def handle_event(self, project: str, event: str) -> str:
        """Start training, now or once no more annotations arrive; or do nothing.

        Args:
            project: its number, or "".
            event: of a webhook of Label Studio.

        Returns:
            What happens now, in a sentence.

        Raises:
            UserError: not a project's number.
        """
        folder_name(project)
        if event == START_EVENT:
            return self._start(TrainingRun(project, self._settings, self._versions))
        if event in ANNOTATION_EVENTS and self._settings.train_on_annotations:
            with self._lock:
                if project in self._timers:
                    self._timers[project].cancel()
                timer = threading.Timer(self._settings.train_pause, self._start_if_idle, [project])
                timer.daemon = True
                self._timers[project] = timer
                timer.start()
            return f"Training starts {self._settings.train_pause:g} s after the last annotation."
        return "Nothing to do."

    def stop(self) -> str:
        """Stop the running training for good.

        Returns:
            What happens now, in a sentence.
        """
        run = self._run
        if run is None:
            return "No training is running."
        run.stop()
        log.warning("Project %s: the training is asked to stop.", run.project)
        return f"The training on project {run.project} stops after its current step."

    def resume(self) -> None:
        """Go on with the training that was running when the server stopped, if there was one."""
        for path in sorted((self._settings.folder / "training").glob(f"*/{PENDING}")):
            run = TrainingRun(path.parent.name, self._settings, self._versions)
            self._start(run, is_resumed=True)

    def shut_down(self, seconds: float) -> None:
        """Stop the running training, so that the next start of the server resumes it.

        Args:
            seconds: to wait for its state to be saved; then it is ended without.
        """
        self._is_shutting_down = True
        with self._lock:
            for timer in self._timers.values():
                timer.cancel()
            run, thread = self._run, self._thread
        if run is None or thread is None:
            return
        log.warning(
            "Project %s: the server stops, and the training with it (%s); it is resumed at the "
            "next start.",
            run.project,
            run.progress(),
        )
        run.stop()
        thread.join(seconds)
        job = run.job
        if thread.is_alive() and job is not None:
            job.kill()
        thread.join(1.0)

    def _start_if_idle(self, project: str) -> None:
        if self._run is None:
            self._start(TrainingRun(project, self._settings, self._versions))
        else:
            self.handle_event(project, ANNOTATION_EVENTS[0])

    def _start(self, run: TrainingRun, is_resumed: bool = False) -> str:
        with self._lock:
            if self._run is not None:
                return (
                    f"Training on project {self._run.project} is running "
                    f"({self._run.progress()}): try again when it has finished."
                )
            if self._is_shutting_down:
                return "The server is stopping: try again when it runs."
            if not self._take_folder():
                message = (
                    f"Project {run.project}: another backend that uses {self._settings.folder}, "
                    "too, is training: try again when it has finished."
                )
                log.warning("%s", message)
                return message
            if is_resumed and not run.prepare_to_resume():
                run.forget()
                self._folder_lock.release()
                return f"The training on project {run.project} was resumed too often."
            self._run = run
            self._thread = threading.Thread(target=self._train, args=[run], daemon=True)
            log.warning(
                "Project %s: %s.",
                run.project,
                "the training of before is resumed" if is_resumed else "training has started",
            )
            self._thread.start()
        return (
            f"Training on project {run.project} has started: the backend's page (/) and its log "
            "show how far it is."
        )

    def _take_folder(self) -> bool:
        """Lock the folder; False if another process that shares it is training."""
        try:
            self._folder_lock.acquire(blocking=False)
        except Timeout:
            return False
        # It cannot be written: the training reports that.
        except (OSError, NotImplementedError):
            pass
        return True

    def _train(self, run: TrainingRun) -> None:
        try:
            outcome = self._outcome_of(run)
            if outcome is not None:
                self._outcomes[run.project] = outcome
                outcome.write(run.folder / OUTCOME)
                level = logging.ERROR if outcome.is_error else logging.WARNING
                log.log(level, "%s", outcome.message)
        finally:
            self._folder_lock.release()
            self._run = None

    def _outcome_of(self, run: TrainingRun) -> TrainingOutcome | None:
        """Train; None if the training will be resumed."""
        is_error, name, failed = True, None, f"Training on project {run.project} failed"
        try:
            version, is_better = run.train()
            use = "used from now on" if is_better else "not used, since it is no better"
            figures = format_figures(version.facts)
            message = (
                f"Project {run.project}: {version.name} was trained, and is {use} ({figures})."
            )
            is_error, name = False, version.name
            for note in version.facts["notes"]:
                log.warning("Project %s: %s", run.project, note)
        except StoppedError:
            if self._is_shutting_down:
                return None
            is_error = False
            message = f"Training on project {run.project} was stopped; its model is as it was."
        except UserError as error:
            if self._is_shutting_down:
                return None
            message = f"{failed}: {error}"
        except OSError as error:
            message = (
                f"{failed}: cannot write {error.filename or self._settings.folder} "
                f"({error.strerror or error}): free space, or set SAMLET_FOLDER to another folder."
            )
        except Exception as error:
            log.exception("%s", failed)
            message = f"{failed} ({type(error).__name__}): the backend's log has more."
        run.forget()
        return TrainingOutcome(
            datetime.now().astimezone().isoformat(timespec="seconds"), message, is_error, name
        )
