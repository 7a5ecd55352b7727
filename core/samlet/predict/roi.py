"""Views: square parts of an image that show one object large, and how logits move between them.

Boxes are (x0, y0, x1, y1) in pixels of the image, half open, as in `samlet.everything.crops`.
"""

from dataclasses import dataclass
from math import ceil, floor, log

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from samlet.masks import Box
from samlet.predict.embedding import ImageEmbedding

SIDES = 4.5
"""A view's side is at least so many times the longer side of the object that it is about."""

TIGHT_SIDES = 1.8
"""The same for the largest view, all of the image, so that larger objects profit, too."""

LARGE = 140
"""A model that sees all of an image at half its input size sees an object better there if it would
otherwise be larger than this, in pixels of the input; smaller ones it sees better at full size."""

STEP = 2**0.5
"""Each view is smaller than the next larger one by this factor."""

PLACES = 8
"""Views of one size lie on a grid of so many places a side, so that neighbours share them."""

SMALLEST = 32
"""Side of the smallest view, in pixels of the image: nearer there is nothing more to see."""

NOTHING = -8.0
"""Logit of what lies outside a view: surely not the object."""


@dataclass(frozen=True)
class Frame:
    """Where a grid of logits lies in an image.

    Attributes:
        corner: (x, y) of its upper left corner, in pixels of the image.
        cell: (width, height) of a cell, in pixels of the image.
    """

    corner: tuple[float, float]
    cell: tuple[float, float]


def frame_of(embedding: ImageEmbedding, corner: tuple[float, float] = (0, 0)) -> Frame:
    """Where the logits of an embedding's low-resolution masks lie.

    Args:
        embedding: of an image, or of a part of one.
        corner: (x, y) of that part in the image.
    """
    (height, width), (h, w) = embedding.original_size, embedding.input_size
    return Frame(corner, (4 * width / w, 4 * height / h))


def whole_of(size: tuple[int, int]) -> Box:
    """The view that shows all of an image of (H, W) pixels."""
    return 0, 0, size[1], size[0]


def view_around(
    extent: tuple[float, ...],
    points: np.ndarray,
    size: tuple[int, int],
    input_size: int,
    step: float = STEP,
    places: int = PLACES,
) -> Box | None:
    """Choose a view in which an object is neither small nor too large, and which holds all clicks.

    Args:
        extent: x0, y0, x1, y1 of the object, in pixels.
        points: N x 2, (x, y).
        size: (H, W) of the image.
        input_size: longest side at which the model sees the whole image, in its pixels.
        step: factor between the sizes of views.
        places: views of one size lie on a grid of so many places a side.

    Returns:
        None for all of the image at full input size: for an object that fills it, and for a small
        one whose clicks lie far apart. Views are seen at half of it, the largest of them, all of
        the image, too.
    """
    x0, y0, x1, y1 = extent
    object_side, largest = max(x1 - x0, y1 - y0), max(size)
    if TIGHT_SIDES * object_side > largest:
        return None
    wanted = max(SIDES * object_side, SMALLEST)
    is_large = object_side * input_size > LARGE * largest
    for level in range(max(0, floor(log(largest / wanted, step))), 0, -1):
        side = largest / step**level
        if side > largest / 2 and not is_large:
            break  # At half the input size it would show less than the whole image does.
        view = _place((x0 + x1) / 2, (y0 + y1) / 2, side, side / places, size)
        if (points >= view[:2]).all() and (points <= view[2:]).all():
            return view
    return whole_of(size) if is_large else None


def _place(x: float, y: float, side: float, pace: float, size: tuple[int, int]) -> Box:
    starts, ends = [], []
    for centre, length in ((x, size[1]), (y, size[0])):
        start = round((centre - side / 2) / pace) * pace
        starts.append(floor(min(max(start, 0), max(length - side, 0))))
        ends.append(min(ceil(starts[-1] + side), length))
    return starts[0], starts[1], ends[0], ends[1]


def extent_of(
    mask: np.ndarray, frame: Frame, points: np.ndarray
) -> tuple[float, float, float, float] | None:
    """Bound what is clicked on, or all of a mask if no click hits it; None if it is empty.

    Args:
        mask: bool, a low-resolution mask.
        frame: where it lies in the image.
        points: N x 2, (x, y) of the clicks on the object, in pixels of the image.

    Returns:
        x0, y0, x1, y1 in pixels of the image.
    """
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if not count:
        return None
    cells = (points + 0.5 - frame.corner) / frame.cell
    columns, rows = cells.astype(int).clip(0, (mask.shape[1] - 1, mask.shape[0] - 1)).T
    hit = np.setdiff1d(parts[rows, columns], 0)
    rows, columns = np.nonzero(np.isin(parts, hit) if len(hit) else mask)
    low = np.array([columns.min(), rows.min()]) * frame.cell + frame.corner
    high = np.array([columns.max() + 1, rows.max() + 1]) * frame.cell + frame.corner
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def resampled(logits: Tensor, source: Frame, target: Frame, side: int) -> Tensor:
    """Bring logits to another frame; what they do not cover becomes `NOTHING`.

    Args:
        logits: float32, C x h x w.
        source: where they lie.
        target: where they are to lie.
        side: cells of the target, each way.

    Returns:
        C x side x side.
    """
    # Where cells become larger, each is the mean of those that it covers.
    factors = [max(1, round(b / a)) for a, b in zip(source.cell, target.cell, strict=True)]
    means = F.avg_pool2d(logits, factors[::-1], ceil_mode=True, count_include_pad=False)
    places = []
    for axis, length in enumerate(reversed(means.shape[-2:])):
        centres = target.corner[axis] + (torch.arange(side) + 0.5) * target.cell[axis]
        span = source.cell[axis] * factors[axis] * length
        places.append(2 * (centres - source.corner[axis]) / span - 1)
    grid = torch.stack(torch.meshgrid(*places, indexing="xy"), dim=-1)
    moved = F.grid_sample(
        means.unsqueeze(0), grid.unsqueeze(0), padding_mode="border", align_corners=False
    )
    return moved[0].masked_fill((grid.abs() > 1).any(-1), NOTHING)
