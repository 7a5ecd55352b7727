"""What the session requests of the model, and how the model responds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from samlet.predict.predictor import MaskPrediction
from samlet_napari.inference.prompts import Step, Steps
from samlet_napari.inference.roi import Roi

Kind = Literal["object", "hover", "rest"]


@dataclass(frozen=True)
class Request:
    """Prompts whose mask is wanted.

    Attributes:
        kind: "object" for one that is being clicked; "hover" for what lies under the cursor,
            predicted at once and so without zooming in; "rest" for the same under a cursor that
            stays in place, zooming in as for a click.
        number: of the object; a later request for the same one replaces this.
        roi: what the model sees.
        steps: the prompts, in pixels of the plane.
    """

    kind: Kind
    number: int
    roi: Roi
    steps: Steps


@dataclass(frozen=True)
class Response:
    """What the model has made of a request.

    Attributes:
        request: the request.
        prediction: masks in the ROI; None if it failed.
        error: why it failed, as a sentence; else "".
    """

    request: Request
    prediction: MaskPrediction | None
    error: str = ""

    @property
    def mask(self) -> np.ndarray | None:
        """The mask that the user has chosen, else the one of the highest predicted IoU.

        bool, h x w of the ROI; None if the request failed.
        """
        if self.prediction is None:
            return None
        return self.prediction.masks[chosen_index(self.request.steps[-1], self.prediction)]


def chosen_index(step: Step, prediction: MaskPrediction) -> int:
    """Which of the candidate masks counts after a step."""
    if step.choice is None:
        return prediction.best_index
    return min(step.choice, len(prediction.masks) - 1)
