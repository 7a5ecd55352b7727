"""One training on a project's annotations: exported, finetuned in a process of its own, measured.

It can be stopped. What a stopped server leaves in the folder is enough to resume it.
"""

import json
import logging
import shutil
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.training.job import FinetuneJob, FinetuneResult
from samlet.utils.files import atomic_path
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.annotations import ANNOTATIONS, IMAGES, export_annotations
from samlet_labelstudio.training.status import TrainingProgress
from samlet_labelstudio.training.versions import Version, Versions, folder_name

log = logging.getLogger(__name__)

PENDING = "pending.json"
"""In the folder of a training until it is over: what is needed to resume it."""

MIN_IMAGES = 2
"""One to train on, and one to evaluate on."""
MAX_STEPS, MIN_STEPS = 200, 20
"""Of a training whose length is chosen by how long it may take."""
MAX_RESUMES = 3
"""A training during which the server died so often is not resumed again."""
POLL_SECONDS = 0.1
STOP_SECONDS = 60.0
"""After these a training that was asked to stop is ended without its state."""


class StoppedError(Exception):
    """The training was stopped, and there is no model."""


class TrainingRun:
    """A training of the mask decoder of the model that a project uses.

    Args:
        project: its number.
        settings: see there.
        versions: where the trained model goes.

    Attributes:
        folder: of the training.
        job: the process; None before it is started and after it has ended.

    Raises:
        UserError: not a project's number.
    """

    def __init__(self, project: str, settings: Settings, versions: Versions) -> None:
        self.project = project
        self.folder = settings.folder / "training" / folder_name(project)
        self.job: FinetuneJob | None = None
        self._settings = settings
        self._versions = versions
        self._steps = settings.train_steps or MAX_STEPS
        self._phase = "training: reading the annotations"
        self._stop = threading.Event()
        self._is_resumed = False

    def stop(self) -> None:
        """Ask it to stop after the current step, with its state saved."""
        self._stop.set()

    def progress(self) -> TrainingProgress:
        """How far it is."""
        job = self.job
        last = None if job is None else next(reversed(job.progress()), None)
        step, rate, phase = 0, None, self._phase
        if last is not None and last.step:
            step, rate = min(last.step, self._steps), last.seconds / last.step
            is_trained = step == self._steps
            phase = "training: measuring the model on held-out images" if is_trained else "training"
        if self._stop.is_set():
            phase = "training: stopping"
        return TrainingProgress(self.project, phase, step, self._steps, rate)

    def train(self) -> tuple[Version, bool]:
        """Export, finetune, evaluate, and use the new model if it is better.

        Returns:
            The new version, and whether it is used.

        Raises:
            UserError: too few annotations, Label Studio does not answer, or the training failed.
            OSError: the folder cannot be written.
            StoppedError: it was stopped.
        """
        pending = self._pending()
        if "base" not in pending:
            pending = self._prepare(pending)
        self._steps = pending.get("steps", self._steps)
        if self._stop.is_set():
            raise StoppedError
        model, outcome = self._finetune(pending["base"])
        now = datetime.now().astimezone()
        facts = outcome | {
            "base": pending["base name"],
            "project": self.project,
            "images": pending["images"],
            "date": now.isoformat(timespec="seconds"),
        }
        name = (
            f"{Path(self._settings.model).stem}.project-{self.project}.{pending['images']}-images."
            f"{now:%Y-%m-%dT%H-%M-%S}"
        )
        version = self._versions.add(self.project, name, model, facts)
        is_better = _mean_iou(outcome["after"]) > _mean_iou(outcome["before"])
        if is_better:
            self._versions.choose(self.project, version.name)
        return version, is_better

    def prepare_to_resume(self) -> bool:
        """Make `train` go on with what is in the folder; False if that was tried too often."""
        self._is_resumed = True
        pending = self._pending()
        count = pending.get("resumes", 0) + 1
        self._note(pending | {"resumes": count})
        return bool(count <= MAX_RESUMES)

    def forget(self) -> None:
        """Record that it is over, and need not be resumed."""
        with suppress(OSError):
            (self.folder / PENDING).unlink()

    def _prepare(self, pending: dict[str, Any]) -> dict[str, Any]:
        """Export the annotations, and add what the training needs to know when it is resumed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._note(pending)
        count = export_annotations(self.project, self.folder, self._settings)
        if count < MIN_IMAGES:
            raise UserError(
                f"the project has {count} annotated images: submit at least {MIN_IMAGES}, one to "
                "train on and one to evaluate on."
            )
        chosen = self._versions.chosen(self.project)
        pending = pending | {
            "images": count,
            "base": self._settings.model if chosen is None else str(chosen.path),
            "base name": self._settings.model if chosen is None else chosen.name,
        }
        self._note(pending)
        return pending

    def _pending(self) -> dict[str, Any]:
        return _read_json(self.folder / PENDING) if self._is_resumed else {}

    def _note(self, pending: dict[str, Any]) -> None:
        with atomic_path(self.folder / PENDING) as temporary:
            temporary.write_text(json.dumps(pending), encoding="utf-8")

    def _finetune(self, base: str) -> tuple[Path, dict[str, Any]]:
        """Finetune in a process that ends with this one.

        Returns:
            The checkpoint; and scores on held-out images before and after, and notes on the labels.

        Raises:
            UserError: it failed, or there is nothing to evaluate on.
            StoppedError: it was stopped.
        """
        self._phase = "training: checking the labels, and measuring how long a step takes"
        result = self._do_job(base)
        if result.is_stopped and not self._stop.is_set():
            # It was too slow for so many steps: `_watch` has chosen fewer.
            self._note(_read_json(self.folder / PENDING) | {"steps": self._steps})
            result = self._do_job(base)
        if result.is_stopped or (self._stop.is_set() and result.model is None):
            raise StoppedError
        if result.error is not None:
            raise UserError(result.error)
        if result.model is None or result.before is None or result.after is None:
            raise UserError("the held-out annotated images have no objects: annotate more.")
        facts = {"before": result.before, "after": result.after, "notes": result.notes}
        return result.model, facts

    def _do_job(self, base: str) -> FinetuneResult:
        job = FinetuneJob(self.folder)
        job.start(
            {
                "images": str(self.folder / IMAGES),
                "labels": str(self.folder / ANNOTATIONS),
                "model": base,
                # Cached embeddings stay valid, and a few wrong labels do less harm.
                "train": "decoder",
                # Regions are as annotators have drawn them.
                "split": False,
                "steps": self._steps,
                # A server that is killed loses so much.
                "save_minutes": 1.0,
            }
        )
        self.job = job
        try:
            self._watch(job)
            return job.wait()
        finally:
            self.job = None

    def _watch(self, job: FinetuneJob) -> None:
        """Wait for the job; stop it if that is wanted, or if it takes too long for its steps."""
        # In a session before, the length was chosen.
        is_chosen = self._settings.train_steps is not None or bool(job.progress())
        deadline = None
        while job.is_running:
            if not is_chosen and (rows := job.progress()):
                is_chosen = True
                per_step = max(rows[0].seconds / rows[0].step, 1e-6)
                fitting = max(MIN_STEPS, int(self._settings.train_minutes * 60 / per_step))
                if fitting < self._steps:
                    log.info("Project %s: %d steps, not %d.", self.project, fitting, self._steps)
                    self._steps = fitting
                    job.stop()
            if self._stop.is_set():
                if deadline is None:
                    deadline = time.monotonic() + STOP_SECONDS
                    job.stop()
                elif time.monotonic() > deadline:
                    job.kill()
            time.sleep(POLL_SECONDS)


def _mean_iou(figures: dict[str, float]) -> float:
    return (figures["click"] + figures["box"]) / 2


def _read_json(path: Path) -> dict[str, Any]:
    """What is in a file that `TrainingRun` wrote; nothing if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
