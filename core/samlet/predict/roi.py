"""Regions of interest (ROIs): squares of an image that show one object large.

Boxes are (x0, y0, x1, y1) in pixels of the image, half open.
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

CONTEXT_RATIO = 4.5
"""Side of an ROI, relative to the longer side of its object, at least."""

MIN_CONTEXT_RATIO = 1.8
"""The same for the largest ROI, the whole image, so that larger objects profit, too."""

LARGE_OBJECT_SIDE = 140
"""Longer side of an object, in pixels of the model's input. Larger ones are segmented better at
half the input size even in the whole image, smaller ones at full size."""

ROI_SCALE_STEP = 2**0.5
"""Factor between the side of an ROI and that of the next larger scale."""

ROI_GRID_DIVISIONS = 8
"""ROIs of a scale start at multiples of their side divided by this, so that objects share them."""

MIN_ROI_SIDE = 32
"""Side of the smallest ROI, in pixels of the image; below it nothing is gained."""

BACKGROUND_LOGIT = -8.0
"""Logit of pixels outside an ROI."""


@dataclass(frozen=True)
class LogitGrid:
    """Where a grid of logits lies in an image.

    Attributes:
        corner: (x, y) of its upper left corner, in pixels of the image.
        cell: (width, height) of a cell, in pixels of the image.
    """

    corner: tuple[float, float]
    cell: tuple[float, float]


def logit_grid_of(embedding: ImageEmbedding, corner: tuple[float, float] = (0, 0)) -> LogitGrid:
    """Where the logits of an embedding's low-resolution masks lie.

    Args:
        embedding: of an image, or of an ROI.
        corner: (x, y) of that ROI in the image.
    """
    (height, width), (h, w) = embedding.original_size, embedding.input_size
    return LogitGrid(corner, (4 * width / w, 4 * height / h))


def full_image_box(size: tuple[int, int]) -> Box:
    """The box of a whole image of (H, W) pixels."""
    return 0, 0, size[1], size[0]


def choose_roi(
    object_box: tuple[float, ...],
    points: np.ndarray,
    size: tuple[int, int],
    input_size: int,
    scale_step: float = ROI_SCALE_STEP,
    grid_divisions: int = ROI_GRID_DIVISIONS,
) -> Box | None:
    """Choose the ROI at whose scale an object is segmented best, and which holds all clicks.

    Args:
        object_box: x0, y0, x1, y1 of the object, in pixels.
        points: N x 2, (x, y) of the clicks.
        size: (H, W) of the image.
        input_size: the model's input size, which the image's longest side is resized to.
        scale_step: factor between the scales of ROIs.
        grid_divisions: ROIs of one scale start at multiples of their side divided by this.

    Returns:
        None for the whole image at full input size: for an object that fills it, and for a small
        one whose clicks lie far apart. ROIs are encoded at half the input size, also the largest,
        the whole image.
    """
    x0, y0, x1, y1 = object_box
    object_side, image_side = max(x1 - x0, y1 - y0), max(size)
    if MIN_CONTEXT_RATIO * object_side > image_side:
        return None
    min_side = max(CONTEXT_RATIO * object_side, MIN_ROI_SIDE)
    is_large = object_side * input_size > LARGE_OBJECT_SIDE * image_side
    for level in range(max(0, floor(log(image_side / min_side, scale_step))), 0, -1):
        side = image_side / scale_step**level
        if side > image_side / 2 and not is_large:
            break  # At half the input size it would be seen at a lower scale than in the image.
        roi = _place((x0 + x1) / 2, (y0 + y1) / 2, side, side / grid_divisions, size)
        if (points >= roi[:2]).all() and (points <= roi[2:]).all():
            return roi
    return full_image_box(size) if is_large else None


def _place(x: float, y: float, side: float, stride: float, size: tuple[int, int]) -> Box:
    starts, ends = [], []
    for centre, length in ((x, size[1]), (y, size[0])):
        start = round((centre - side / 2) / stride) * stride
        starts.append(floor(min(max(start, 0), max(length - side, 0))))
        ends.append(min(ceil(starts[-1] + side), length))
    return starts[0], starts[1], ends[0], ends[1]


def object_box(
    mask: np.ndarray, grid: LogitGrid, points: np.ndarray
) -> tuple[float, float, float, float] | None:
    """Bound the parts of a mask that are clicked on, or all of it if no click hits it.

    Args:
        mask: bool, a low-resolution mask.
        grid: where it lies in the image.
        points: N x 2, (x, y) of the clicks on the object, in pixels of the image.

    Returns:
        x0, y0, x1, y1 in pixels of the image; None if the mask is empty.
    """
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if not count:
        return None
    cells = (points + 0.5 - grid.corner) / grid.cell
    columns, rows = cells.astype(int).clip(0, (mask.shape[1] - 1, mask.shape[0] - 1)).T
    hit = np.setdiff1d(parts[rows, columns], 0)
    rows, columns = np.nonzero(np.isin(parts, hit) if len(hit) else mask)
    low = np.array([columns.min(), rows.min()]) * grid.cell + grid.corner
    high = np.array([columns.max() + 1, rows.max() + 1]) * grid.cell + grid.corner
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def resample_logits(logits: Tensor, source: LogitGrid, target: LogitGrid, side: int) -> Tensor:
    """Resample logits on another grid; cells that they do not cover become `BACKGROUND_LOGIT`.

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
    return moved[0].masked_fill((grid.abs() > 1).any(-1), BACKGROUND_LOGIT)
