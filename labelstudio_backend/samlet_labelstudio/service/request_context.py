"""What a request brings with it, and what follows from that for its results."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from samlet.errors import UserError
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.labeling_config import Control, LabelingConfig
from samlet_labelstudio.settings import Settings

Task = Mapping[str, Any]
"""As Label Studio sends it: "id", "data", and where it has some, "predictions"."""
Prediction = dict[str, Any]
"""{"result": regions, "score": 0 to 1, "model_version": name}."""
Answer = Prediction | list[Prediction]
"""What is answered for a task: its prediction, or a list of any number of them."""


@dataclass(frozen=True)
class RequestContext:
    """The project that a request is about.

    Attributes:
        project: its number, or "".
        config: its labeling config.
        settings: the backend's, with the project's extra parameters applied.
        config_text: the labeling config as XML; "" if no request will need it.
    """

    project: str
    config: LabelingConfig
    settings: Settings
    config_text: str = ""

    def image_url(self, task: Task, image: str) -> str:
        """Look up the address of a task's image.

        Args:
            task: any.
            image: name of the Image tag.

        Raises:
            UserError: the task has no address where the labeling config expects it.
        """
        key = self.config.images[image]
        data = task.get("data")
        url = data.get(key) if isinstance(data, Mapping) else None
        if not isinstance(url, str) or not url:
            raise UserError(
                f'The task has no image in its data under "{key}", where the labeling config '
                f"expects it: import the task again with that field."
            )
        return url

    def result_control(self, image: str, label: str | None) -> Control:
        """Choose the control in which masks of an image are returned.

        Args:
            image: name of the Image tag.
            label: what the regions will be labelled as; None if any label will do.

        Raises:
            UserError: the labeling config has none.
        """
        control = self.config.result_control(image, label)
        if control is None and self.config.unsupported:
            raise UserError(next(iter(self.config.unsupported.values())))
        if control is None:
            raise UserError(
                f"The labeling config has nothing to draw {label or 'objects'} with: add "
                "BrushLabels, PolygonLabels, RectangleLabels or EllipseLabels with that label for "
                f"the image {image}."
            )
        return control


@lru_cache(maxsize=64)
def parse_config(text: str) -> LabelingConfig:
    """Parse a labeling config, once.

    Raises:
        UserError: see `samlet_labelstudio.label_studio.labeling_config.parse`.
    """
    return labeling_config.parse(text)
