"""The backend's service: one object that HTTP, the command line and label-studio-ml use."""

import json
import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.predict.embedding_cache import EmbeddingCache
from samlet_labelstudio.images.image_resolver import ImageResolver
from samlet_labelstudio.service.background import BackgroundBatches
from samlet_labelstudio.service.batches import preannotate_tasks
from samlet_labelstudio.service.interactive import InteractiveSegmenter
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.service.preannotation import Preannotator
from samlet_labelstudio.service.request_context import (
    Prediction,
    RequestContext,
    Task,
    parse_config,
)
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.trainer import Trainer
from samlet_labelstudio.training.versions import Versions

log = logging.getLogger(__name__)


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
            settings.folder / "embeddings",
            settings.memory_mb * 1_000_000,
            settings.disk_mb * 1_000_000,
        )
        self.segmenter = InteractiveSegmenter(self.models, images, embeddings)
        self.preannotator = Preannotator(self.models, images, embeddings)
        self.background = BackgroundBatches()
        self._project_settings: dict[str, Settings] = {}
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Load the model in the background, so that the first click need not wait for it."""

        def load() -> None:
            try:
                self.models.load(self.settings.model)
                log.info("The model %s is ready.", self.settings.model)
            except UserError as error:
                log.error("%s", error)

        self.background.start(load)

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
        return RequestContext(project, parse_config(label_config), self.settings_of(project))

    def predict(
        self, context: RequestContext, tasks: Sequence[Task], drawn: list[Any] | None
    ) -> list[Prediction]:
        """Answer a smart prompt, or pre-annotate tasks.

        Args:
            context: of the request.
            tasks: with "id" and "data".
            drawn: regions that an annotator has drawn with smart tools; without, tasks are
                pre-annotated.

        Returns:
            A prediction for each task.

        Raises:
            UserError: anything wrong with the request; for several tasks, see
                `samlet_labelstudio.service.batches`.
        """
        if drawn:
            return [self.segmenter.segment(context, task, drawn) for task in tasks]
        return preannotate_tasks(self.preannotator, self.background, context, tasks)


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
