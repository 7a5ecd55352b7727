"""What a request brings with it, and what follows from that for its results."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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

    def for_task(self, task: Task) -> "RequestContext":
        """The same, with the labels that come with a task."""
        return replace(self, config=self.config.for_task(task))

    def pages(self, task: Task, image: str) -> list[int | None]:
        """The places of an image's pages in the list of their addresses; [None] without a list.

        Args:
            task: any.
            image: name of the Image tag.

        Raises:
            UserError: the task has no list of addresses where the labeling config expects it.
        """
        if image not in self.config.paged:
            return [None]
        return [*range(len(self._addresses(task, image)))]

    def image_url(self, task: Task, image: str, page: int | None = None) -> str:
        """Look up the address of a task's image.

        Args:
            task: any.
            image: name of the Image tag.
            page: the place in the list of addresses, if the task has one; None is the first.

        Raises:
            UserError: the task has no address where the labeling config expects it.
        """
        key, page = self.config.images[image], page or 0
        if image in self.config.paged:
            addresses = self._addresses(task, image)
            url = addresses[page] if page < len(addresses) else None
        else:
            url = _data_field(task, key)
        if not isinstance(url, str) or not url:
            raise UserError(
                f'The task has no image in its data under "{key}", where the labeling config '
                f"expects it: import the task again with that field."
            )
        return url

    def _addresses(self, task: Task, image: str) -> list[Any]:
        key = self.config.images[image]
        addresses = _data_field(task, key)
        if not isinstance(addresses, list):
            raise UserError(
                f'The task has no list of images in its data under "{key}", where the labeling '
                "config expects it (valueList): import the task again with that field."
            )
        return addresses

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
                "BrushLabels, BitmaskLabels, PolygonLabels, RectangleLabels or EllipseLabels with "
                f"that label for the image {image}."
            )
        return control


def _data_field(task: Task, key: str) -> Any:
    data = task.get("data")
    return data.get(key) if isinstance(data, Mapping) else None


@lru_cache(maxsize=64)
def parse_config(text: str) -> LabelingConfig:
    """Parse a labeling config, once.

    Raises:
        UserError: see `samlet_labelstudio.label_studio.labeling_config.parse`.
    """
    return labeling_config.parse(text)
