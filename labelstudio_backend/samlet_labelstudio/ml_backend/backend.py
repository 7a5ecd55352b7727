"""The backend as label-studio-ml knows it: `predict` and `fit`, for versions 1.x and 2.x."""

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from samlet.errors import UserError
from samlet_labelstudio.ml_backend import compat
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings

_lock = threading.Lock()


def open_service() -> Service:
    """The service of this process, made from the environment when it is first needed."""
    with _lock:
        return _service()


@lru_cache(maxsize=1)
def _service() -> Service:
    service = Service(Settings.read())
    service.warm_up()
    service.resume()
    return service


class SamletBackend(compat.LabelStudioMLBase):
    """The backend for one project; the work is done by a service that all projects share.

    For label-studio-ml's own server. samlet's server, `samlet-labelstudio`, uses the service
    directly.

    Args:
        project_id: number of the project, or "".
        label_config: its labeling config, XML.
        service: the service; by default that of the process.
        unused: what else label-studio-ml 1.x passes.

    Raises:
        UserError: the labeling config cannot be read, or nothing can be done in it.
    """

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        service: Service | None = None,
        **unused: Any,
    ) -> None:
        self.service = open_service() if service is None else service
        self.project = project_id or ""
        # 1.x makes its first backend before it knows of any project.
        if label_config:
            self.service.check_config(label_config)
        self._config_text = label_config
        compat.initialise(self, project_id, label_config)

    def setup(self) -> None:
        """Set the model version that Label Studio is told; see `Service.model_status`."""
        version = self.service.model_status(self.project)
        if compat.IS_FIRST:
            self.model_version = version
        else:
            self.set("model_version", version)

    def set_extra_params(self, extra_params: Any) -> None:
        """Apply the "extra_params" that 2.x's server received; see `Service.set_extra_params`."""
        self.service.set_extra_params(self.project, extra_params)

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        **unused: Any,
    ) -> list[Any]:
        """Answer a smart prompt, or pre-annotate tasks; see `Service.predict`.

        Args:
            tasks: with "id" and "data".
            context: holds in "result" what an annotator has drawn with smart tools; without, tasks
                are pre-annotated.
            unused: what else Label Studio sends.

        Returns:
            See `Service.predict`.

        Raises:
            UserError: anything wrong with the request.
        """
        if not self._config_text:
            raise UserError(
                "The request has no labeling config: update Label Studio, or connect the backend "
                "to a project again."
            )
        request = self.service.context(self.project, self._config_text)
        return list(
            self.service.predict(request, tasks, context.get("result") if context else None)
        )

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Train on a project's annotations, in the background; see `Trainer.handle_event`.

        Args:
            args: see `samlet_labelstudio.ml_backend.compat.event_and_data`.
            kwargs: the same.

        Returns:
            {"status": sentence}.
        """
        event, data = compat.event_and_data(*args, **kwargs)
        project = data.get("project")
        number = str(project.get("id", "")) if isinstance(project, Mapping) else self.project
        return {"status": self.service.trainer.handle_event(number, event)}
