"""Which part of an image the model looks at to answer a prompt.

An image that is not much larger than the model's input is seen whole. Of a larger one the model
sees a square as large as what the user sees, so that zooming in shows it more detail.
"""

from dataclasses import dataclass
from math import floor, log2

from samlet.everything.tiling import UNTILED_RATIO
from samlet.masks import Box
from samlet_napari.layers.layer_reader import Plane

Extent = tuple[float, float, float, float]
"""x0, y0, x1, y1 of points, which may coincide."""


@dataclass(frozen=True)
class Window:
    """A part of a plane.

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

    def holds(self, extent: Extent) -> bool:
        """Whether all of an extent lies inside."""
        x0, y0, x1, y1 = self.box
        return x0 <= extent[0] and y0 <= extent[1] and extent[2] <= x1 and extent[3] <= y1


def window_for(
    plane: Plane, size: tuple[int, int], extent: Extent, visible: float, side: int
) -> Window:
    """Choose a window around prompts.

    Windows of a size lie on a grid with half their side as its step, so that nearby prompts share
    one, and every prompt has a quarter of the side around it, the image's border excepted.

    Args:
        plane: where the prompts are.
        size: its height and width.
        extent: of the prompts.
        visible: pixels along the longer side of what the user sees.
        side: of the model's input.
    """
    height, width = size
    if max(size) <= UNTILED_RATIO * side:
        return Window(plane, (0, 0, width, height))
    reach = max(extent[2] - extent[0], extent[3] - extent[1])
    times = max(1.0, visible / side, 2 * reach / side)
    tile = side * 2 ** floor(log2(times))
    # Rounding down must not leave less room around the prompts than they need.
    if 2 * reach > tile:
        tile *= 2
    if tile >= max(size):
        return Window(plane, (0, 0, width, height))
    x0, x1 = _span((extent[0] + extent[2]) / 2, tile, width)
    y0, y1 = _span((extent[1] + extent[3]) / 2, tile, height)
    return Window(plane, (x0, y0, x1, y1))


def surroundings(box: Box, size: tuple[int, int], side: int) -> Box:
    """Widen a part of a plane until the model sees it at a scale that it knows.

    The part alone would be enlarged to the model's input, and its objects with it.

    Args:
        box: the part.
        size: the plane's height and width.
        side: of the model's input.

    Returns:
        the whole plane where a window would be; else the part, with at least `side` pixels each
        way as far as the plane has them.
    """
    height, width = size
    if max(size) <= UNTILED_RATIO * side:
        return 0, 0, width, height
    (x0, x1), (y0, y1) = (
        _widened(box[axis], box[axis + 2], side, length)
        for axis, length in ((0, width), (1, height))
    )
    return x0, y0, x1, y1


def _widened(start: int, stop: int, least: int, length: int) -> tuple[int, int]:
    missing = max(0, least - (stop - start))
    start = min(max(0, start - missing // 2), max(0, length - max(least, stop - start)))
    return start, min(length, max(stop, start + least))


def _span(centre: float, tile: int, length: int) -> tuple[int, int]:
    step = tile // 2
    start = min(max(round((centre - tile / 2) / step) * step, 0), max(length - tile, 0))
    return start, min(start + tile, length)
