"""Training on annotations: one job at a time, in a process of its own.

A job that crashes is reported in the log and harms nothing else: the server is another process.
"""

import logging
import shutil
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.training.job import FinetuneJob
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.annotations import ANNOTATIONS, IMAGES, export_annotations
from samlet_labelstudio.training.versions import Version, Versions, folder_name

log = logging.getLogger(__name__)

START_EVENT = "START_TRAINING"
ANNOTATION_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
MIN_IMAGES = 2
"""One to train on, and one to evaluate on."""


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
        self._running: str | None = None
        self._job: FinetuneJob | None = None
        self._timers: dict[str, threading.Timer] = {}

    @property
    def running(self) -> str | None:
        """The project that is being trained on."""
        return self._running

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
            return self._start(project)
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

    def _start_if_idle(self, project: str) -> None:
        if self._running is None:
            self._start(project)
        else:
            self.handle_event(project, ANNOTATION_EVENTS[0])

    def _start(self, project: str) -> str:
        with self._lock:
            if self._running is not None:
                return (
                    f"Training on project {self._running} is running: try again when it has "
                    "finished."
                )
            self._running = project
        threading.Thread(target=self._run, args=[project], daemon=True).start()
        return "Training has started."

    def _run(self, project: str) -> None:
        try:
            version, is_better = self.train(project)
            log.warning(
                "Project %s: %s was trained, and is %s (%s).",
                project,
                version.name,
                "used from now on" if is_better else "not used, since it is no better",
                _format_figures(version.facts),
            )
            for note in version.facts["notes"]:
                log.warning("Project %s: %s", project, note)
        except UserError as error:
            log.error("Training on project %s failed: %s", project, error)
        except OSError as error:
            log.error(
                "Training on project %s failed: cannot write %s (%s): free space, or set "
                "SAMLET_FOLDER to another folder.",
                project,
                error.filename or self._settings.folder,
                error.strerror or error,
            )
        except Exception:
            log.exception("Training on project %s failed", project)
        finally:
            self._running = None

    def train(self, project: str) -> tuple[Version, bool]:
        """Export, finetune, evaluate, and use the new model if it is better.

        Returns:
            The new version, and whether it is used.

        Raises:
            UserError: too few annotations, Label Studio does not answer, or the training failed.
            OSError: the folder cannot be written.
        """
        folder = self._settings.folder / "training" / folder_name(project)
        shutil.rmtree(folder, ignore_errors=True)
        count = export_annotations(project, folder, self._settings)
        if count < MIN_IMAGES:
            raise UserError(
                f"the project has {count} annotated images: submit at least {MIN_IMAGES}, one to "
                "train on and one to evaluate on."
            )
        chosen = self._versions.chosen(project)
        base = self._settings.model if chosen is None else str(chosen.path)
        model, outcome = self._finetune(folder, base)
        now = datetime.now().astimezone()
        facts = outcome | {
            "base": self._settings.model if chosen is None else chosen.name,
            "project": project,
            "images": count,
            "date": now.isoformat(timespec="seconds"),
        }
        name = (
            f"{Path(self._settings.model).stem}.project-{project}.{count}-images."
            f"{now:%Y-%m-%dT%H-%M-%S}"
        )
        version = self._versions.add(project, name, model, facts)
        is_better = _mean_iou(outcome["after"]) > _mean_iou(outcome["before"])
        if is_better:
            self._versions.choose(project, version.name)
        return version, is_better

    def _finetune(self, folder: Path, base: str) -> tuple[Path, dict[str, Any]]:
        """Finetune in a process that ends with this one.

        Returns:
            The checkpoint; and scores on held-out images before and after, and notes on the labels.

        Raises:
            UserError: it failed, or there is nothing to evaluate on.
        """
        self._job = FinetuneJob(folder)
        self._job.start(
            {
                "images": str(folder / IMAGES),
                "labels": str(folder / ANNOTATIONS),
                "model": base,
                # Cached embeddings stay valid, and a few wrong labels do less harm.
                "train": "decoder",
                # Regions are as annotators have drawn them.
                "split": False,
                "steps": self._settings.train_steps,
            }
        )
        result = self._job.wait()
        self._job = None
        if result.error is not None:
            raise UserError(result.error)
        if result.model is None or result.before is None or result.after is None:
            raise UserError("the held-out annotated images have no objects: annotate more.")
        facts = {"before": result.before, "after": result.after, "notes": result.notes}
        return result.model, facts


def _mean_iou(figures: dict[str, float]) -> float:
    return (figures["click"] + figures["box"]) / 2


def _format_figures(facts: dict[str, Any]) -> str:
    return "; ".join(
        f"IoU {when}: click {facts[when]['click']:.3f}, box {facts[when]['box']:.3f}"
        for when in ("before", "after")
    )
