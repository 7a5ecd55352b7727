"""Objects that are like examples, of which a threshold keeps some, before they are written."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from samlet.masks import Box
from samlet_napari.inference.objects import FoundObject
from samlet_napari.layers.plane import Plane


class SimilarObjects:
    """Objects in a plane, none of them without a mask.

    Args:
        plane: of all of them.
        objects: what was found.
        likeness: of each, 0 to 1.
        threshold: those below it are left out.
        thickness: of outlines, in pixels.

    Attributes:
        plane: of all of them.
        box: around all of them, half open.
        threshold: may be changed.
    """

    def __init__(
        self,
        plane: Plane,
        objects: Sequence[FoundObject],
        likeness: Sequence[float],
        threshold: float,
        thickness: int,
    ) -> None:
        self.plane = plane
        self.threshold = threshold
        self._objects, self._likeness = list(objects), np.asarray(likeness, np.float32)
        boxes = np.array([each.box for each in objects])
        first, last = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
        self.box: Box = (first[0], first[1], last[0], last[1])
        self._draw(thickness)

    @property
    def kept(self) -> list[FoundObject]:
        """Those with at least the likeness of the threshold, the most similar first."""
        best_first = np.argsort(-self._likeness, kind="stable").tolist()
        return [self._objects[i] for i in best_first if self._likeness[i] >= self.threshold]

    def values(self, mask_value: int, line_value: int) -> np.ndarray:
        """What to show in `box`: uint8, h x w, of the objects that are kept; 0 elsewhere.

        Args:
            mask_value: of their pixels.
            line_value: of their outlines.
        """
        drawn = np.where(self._is_line, line_value, mask_value).astype(np.uint8)
        drawn[self._shown < self.threshold] = 0
        return drawn

    def _draw(self, thickness: int) -> None:
        """Draw all objects once, so that a threshold is applied in one comparison."""
        left, top, right, bottom = self.box
        # Background is below every threshold.
        self._shown = np.full((bottom - top, right - left), -1, np.float32)
        self._is_line = np.zeros(self._shown.shape, bool)
        for i in np.argsort(self._likeness, kind="stable").tolist():
            x0, y0, x1, y1 = self._objects[i].box
            place = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            mask = self._objects[i].mask
            assert mask is not None
            inner = ndimage.binary_erosion(np.pad(mask, 1), iterations=thickness)[1:-1, 1:-1]
            self._shown[place][mask] = self._likeness[i]
            self._is_line[place][mask] = ~inner[mask]
