"""The backend's service: one object that HTTP, the command line and label-studio-ml use."""

import atexit
import json
import logging
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.predict.embedding_cache import EmbeddingCache
from samlet_labelstudio.images.image_resolver import ImageResolver
from samlet_labelstudio.label_studio.client import connect
from samlet_labelstudio.regions.prompts import image_of
from samlet_labelstudio.service.background import BackgroundBatches
from samlet_labelstudio.service.batches import preannotate_tasks, resume_tasks
from samlet_labelstudio.service.interactive import InteractiveSegmenter
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.service.preannotation import Preannotator
from samlet_labelstudio.service.prefetch import Prefetcher
from samlet_labelstudio.service.recent_log import RecentLog
from samlet_labelstudio.service.request_context import (
    Answer,
    RequestContext,
    Task,
    parse_config,
)
from samlet_labelstudio.service.unfinished import Unfinished
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.trainer import Trainer
from samlet_labelstudio.training.versions import Versions

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 8.0
"""Seconds that a shutdown leaves to running work: gunicorn kills the server after 10."""


class Service:
    """One per server; safe to use from any number of threads.

    Args:
        settings: see there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        _warn_if_unwritable(settings.folder)
        self.versions = Versions(settings.folder / "projects")
        self.models = Models(settings, self.versions)
        self.trainer = Trainer(settings, self.versions)
        images = ImageResolver(settings)
        embeddings = EmbeddingCache(
            settings.embeddings_folder,
            settings.memory_mb * 1_000_000,
            settings.disk_mb * 1_000_000,
        )
        self.segmenter = InteractiveSegmenter(self.models, images, embeddings)
        self.preannotator = Preannotator(self.models, images, embeddings)
        self.background = BackgroundBatches(settings.folder / "batches")
        self.prefetcher = Prefetcher(self.models, images, embeddings, self.background)
        self.recent_log = RecentLog()
        self._project_settings: dict[str, Settings] = {}
        self._lock = threading.Lock()
        self._is_shut_down = False
        # Without keeping a service that nobody uses any more, and its models, in memory.
        atexit.register(_end, weakref.ref(self))

    def warm_up(self) -> None:
        """Load the model in the background, so that the first click need not wait for it."""

        def load() -> None:
            try:
                self.models.load(self.settings.model)
                log.info("The model %s is ready.", self.settings.model)
            except UserError as error:
                log.error("%s", error)

        self.background.start(load)

    def resume(self) -> None:
        """Go on with what the server was doing when it was stopped."""
        self.trainer.resume()
        for batch in self.background.unfinished():
            self._resume_batch(batch)

    def _resume_batch(self, batch: Unfinished) -> None:
        try:
            self.set_extra_params(batch.project, batch.extra_params)
            context = self.context(batch.project, batch.label_config)
            connect(context.settings)
            resume_tasks(self.preannotator, self.background, context, batch.tasks)
        except UserError as error:
            log.error("Project %s: its batch of before cannot be resumed: %s", batch.project, error)
            return
        log.warning("Project %s: %d tasks of before are resumed.", batch.project, len(batch.tasks))

    def shut_down(self) -> None:
        """Stop running work, keep what is needed to resume it, and log what was stopped."""
        with self._lock:
            if self._is_shut_down:
                return
            self._is_shut_down = True
        # At once, since it takes what is left of the time.
        self.background.is_shutting_down = True
        self.trainer.shut_down(SHUTDOWN_SECONDS / 2)
        self.background.shut_down(SHUTDOWN_SECONDS / 2)

    def model_status(self, project: str) -> str:
        """The model version of a project; and in brackets what became of a training.

        That is a running training, or that the last one failed or brought nothing. Label Studio
        1.23 has it in its API, but shows it nowhere.

        Raises:
            UserError: not a project's number.
        """
        version = self.models.version_of(project)
        progress, outcome = self.trainer.progress(), self.trainer.outcome(project)
        if progress is not None and progress.project == project:
            return f"{version} ({progress})"
        if outcome is not None and (outcome.is_error or outcome.version != version):
            return f"{version} ({outcome.message.removesuffix('.')})"
        return version

    def set_extra_params(self, project: str, given: Any) -> None:
        """Apply the extra parameters of a project's backend; see `Settings.with_extra_params`.

        Args:
            project: its number, or "".
            given: an object, JSON, or nothing.

        Raises:
            UserError: they are no JSON object, or a value is wrong.
        """
        try:
            params = json.loads(given) if isinstance(given, str) and given.strip() else given or {}
        except (ValueError, RecursionError) as error:
            raise UserError(f"The backend's extra parameters are not JSON: {error}.") from error
        if not isinstance(params, Mapping):
            raise UserError(
                'The backend\'s extra parameters are no object: write {"min_area": 50}.'
            )
        changed = self.settings.with_extra_params(params)
        with self._lock:
            self._project_settings[project] = changed

    def projects(self) -> list[str]:
        """The numbers of the projects that this backend was connected to, or has trained for."""
        with self._lock:
            numbers = set(self._project_settings)
        for name in ("projects", "training"):
            numbers |= {path.name for path in (self.settings.folder / name).glob("*")}
        return sorted((n for n in numbers if n.isdecimal()), key=int)

    def settings_of(self, project: str) -> Settings:
        """The settings, with the extra parameters of a project's backend applied."""
        with self._lock:
            return self._project_settings.get(project, self.settings)

    def context(self, project: str, label_config: str) -> RequestContext:
        """Describe the project that a request is about.

        Args:
            project: its number, or "".
            label_config: its labeling config, XML.

        Raises:
            UserError: the labeling config cannot be read.
        """
        settings = self.settings_of(project)
        return RequestContext(project, parse_config(label_config), settings, label_config)

    def check_config(self, label_config: str) -> None:
        """Check that a labeling config can be used at all.

        Raises:
            UserError: it cannot; the sentence names what is missing.
        """
        useless = parse_config(label_config).why_useless()
        if useless is not None:
            raise UserError(useless)

    def predict(
        self, context: RequestContext, tasks: Sequence[Task], drawn: list[Any] | None
    ) -> Sequence[Answer]:
        """Answer a smart prompt, or pre-annotate tasks.

        Args:
            context: of the request.
            tasks: with "id" and "data".
            drawn: regions that an annotator has drawn with smart tools; without, tasks are
                pre-annotated.

        Returns:
            A prediction for each task; see also `samlet_labelstudio.service.batches`.

        Raises:
            UserError: anything wrong with the request.
        """
        with self.prefetcher.pause():
            if not drawn:
                return preannotate_tasks(self.preannotator, self.background, context, tasks)
            answers = [self.segmenter.segment(context, task, drawn) for task in tasks]
        for task in tasks:
            self.prefetcher.answered(context, task, *image_of(drawn, context.config))
        return answers


def _end(reference: "weakref.ref[Service]") -> None:
    """End the work of a service at the exit of the process."""
    service = reference()
    if service is not None:
        service.shut_down()
        service.background.join()


def _warn_if_unwritable(folder: Path) -> None:
    """Clicks work without it: say once what does not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        log.warning(
            "Cannot write %s (%s): images are encoded again after every restart, and training is "
            "not possible. Set SAMLET_FOLDER to another folder.",
            folder,
            error.strerror,
        )
