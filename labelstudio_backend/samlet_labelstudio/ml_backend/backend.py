"""The backend as label-studio-ml knows it: `predict` and `fit`, on 1.x and 2.x."""

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from samlet.errors import UserError
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.ml_backend import compat
from samlet_labelstudio.service import Asked, Service
from samlet_labelstudio.service.batches import preannotate_all
from samlet_labelstudio.settings import Settings

_lock = threading.Lock()


def open_service() -> Service:
    """The service of this process, made from the environment when it is first needed."""
    with _lock:
        return _service()


@lru_cache(maxsize=1)
def _service() -> Service:
    return Service(Settings.read({}))


@lru_cache(maxsize=64)
def _parsed(label_config: str) -> LabelingConfig:
    return labeling_config.parse(label_config)


class SamletBackend(compat.LabelStudioMLBase):
    """Answers Label Studio for one project; all the work is done by a service that is shared.

    Runs in samlet's own server (`samlet-labelstudio`) as in label-studio-ml's.

    Args:
        project_id: number of the project, or "".
        label_config: its labeling config, XML.
        service: that does the work; that of the process if none is given.
        first_generation: what else label-studio-ml 1.x passes; of no use here.

    Raises:
        UserError: the labeling config cannot be read.
    """

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        service: Service | None = None,
        **first_generation: Any,
    ) -> None:
        self.service = open_service() if service is None else service
        self.project = project_id or ""
        # 1.x makes its first backend before it knows of any project.
        self.config = _parsed(label_config) if label_config else None
        compat.initialise(self, project_id, label_config)

    def setup(self) -> None:
        """Tell which model will answer."""
        version = self.service.model_version(self.project)
        if compat.IS_FIRST:
            self.model_version = version
        else:
            self.set("model_version", version)

    def set_extra_params(self, extra_params: Any) -> None:
        """Take what 2.x's server is sent as "extra_params"; see `Service.set_extra_params`."""
        self.service.set_extra_params(self.project, extra_params)

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Answer a smart prompt, or pre-annotate tasks.

        Args:
            tasks: with "id" and "data".
            context: holds in "result" what an annotator has drawn with smart tools; without, tasks
                are pre-annotated.
            kwargs: what else Label Studio sends; of no use here.

        Returns:
            A prediction for each task.

        Raises:
            UserError: anything wrong with the request, or see `samlet_labelstudio.service.batches`.
        """
        if self.config is None:
            raise UserError(
                "The request has no labeling config: update Label Studio, or connect the backend "
                "to a project again."
            )
        asked = Asked(self.project, self.config, self.service.settings_of(self.project))
        drawn = context.get("result") if context else None
        if drawn:
            return [self.service.interactive(asked, task, drawn) for task in tasks]
        return preannotate_all(self.service, asked, tasks)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Learn from a project's annotations, in the background; see `training.trainer`.

        Args:
            args: see `samlet_labelstudio.ml_backend.compat.event_and_data`.
            kwargs: the same.

        Returns:
            {"status": sentence}.
        """
        event, data = compat.event_and_data(*args, **kwargs)
        project = data.get("project")
        number = str(project.get("id", "")) if isinstance(project, Mapping) else self.project
        return {"status": self.service.trainer.take(number, event)}
