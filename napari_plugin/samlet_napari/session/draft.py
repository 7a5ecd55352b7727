"""An object in the making."""

from dataclasses import dataclass, field

from samlet_napari.inference.prompts import Steps
from samlet_napari.inference.requests import Response
from samlet_napari.inference.roi import Roi
from samlet_napari.layers.plane import Plane


@dataclass
class Draft:
    """An object that is not committed yet.

    Attributes:
        number: identifies it.
        plane: where it is.
        steps: its prompts.
        label: the label that it had, if it was committed before.
        response: to `steps`; to fewer of them while the model is busy.
        is_committed: whether it is written as soon as it is complete.
        rois: in which its prompts were run, by the number of steps.
    """

    number: int
    plane: Plane
    steps: Steps
    label: int | None = None
    response: Response | None = None
    is_committed: bool = False
    rois: dict[int, Roi] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the response is to all of the prompts."""
        return self.response is not None and self.response.request.steps == self.steps
