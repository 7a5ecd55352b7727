"""Regions of interest (ROIs): the part of an image that the model sees to respond to a prompt.

An image that is not much larger than the model's input is one ROI. Of a larger one the model sees a
square as large as what the user sees, so that zooming in shows it more detail.
"""

from dataclasses import dataclass
from math import floor, log2

from samlet.everything.tiling import UNTILED_RATIO
from samlet.masks import Box
from samlet_napari.layers.plane import Plane

FloatBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 of points, which may coincide."""


@dataclass(frozen=True)
class Roi:
    """A part of a plane that is encoded by itself.

    Attributes:
        plane: whose.
        box: x0, y0, x1, y1, half open.
    """

    plane: Plane
    box: Box

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    def contains(self, box: FloatBox) -> bool:
        """Whether all of a box lies inside."""
        x0, y0, x1, y1 = self.box
        return x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1


def choose_roi(
    plane: Plane, size: tuple[int, int], prompts: FloatBox, visible_size: float, input_size: int
) -> Roi:
    """Choose the ROI for prompts.

    ROIs of one size lie on a grid with half their side as its step, so that nearby prompts share
    one, and every prompt has a quarter of the side around it, the image's border excepted.

    Args:
        plane: where the prompts are.
        size: its height and width.
        prompts: the box around them.
        visible_size: pixels along the longer side of what the user sees.
        input_size: side of the model's input, in pixels.
    """
    height, width = size
    if max(size) <= UNTILED_RATIO * input_size:
        return Roi(plane, (0, 0, width, height))
    reach = max(prompts[2] - prompts[0], prompts[3] - prompts[1])
    scale = max(1.0, visible_size / input_size, 2 * reach / input_size)
    side = input_size * 2 ** floor(log2(scale))
    # Rounding down must not leave less room around the prompts than they need.
    if 2 * reach > side:
        side *= 2
    if side >= max(size):
        return Roi(plane, (0, 0, width, height))
    x0, x1 = _interval((prompts[0] + prompts[2]) / 2, side, width)
    y0, y1 = _interval((prompts[1] + prompts[3]) / 2, side, height)
    return Roi(plane, (x0, y0, x1, y1))


def with_context(box: Box, size: tuple[int, int], input_size: int) -> Box:
    """Widen a part of a plane until the model sees it at a scale that it was trained for.

    Without context, a small part would be enlarged to the model's input, and its objects with it.

    Args:
        box: the part.
        size: the plane's height and width.
        input_size: side of the model's input, in pixels.

    Returns:
        the whole plane where an ROI would be; else the part, with at least `input_size` pixels
        each way as far as the plane has them.
    """
    height, width = size
    if max(size) <= UNTILED_RATIO * input_size:
        return 0, 0, width, height
    (x0, x1), (y0, y1) = (
        _widen(box[axis], box[axis + 2], input_size, length)
        for axis, length in ((0, width), (1, height))
    )
    return x0, y0, x1, y1


def _widen(start: int, stop: int, least: int, length: int) -> tuple[int, int]:
    missing = max(0, least - (stop - start))
    start = min(max(0, start - missing // 2), max(0, length - max(least, stop - start)))
    return start, min(length, max(stop, start + least))


def _interval(centre: float, side: int, length: int) -> tuple[int, int]:
    step = side // 2
    start = min(max(round((centre - side / 2) / step) * step, 0), max(length - side, 0))
    return start, min(start + side, length)
