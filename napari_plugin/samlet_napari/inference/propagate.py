"""An object carried through a stack: each slice is prompted with the mask of the one before.

An object has ended where the model finds nothing like it any more, or where it no longer stands
out from its surroundings: asked for an object in an empty place, the model draws one all the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samlet.masks import Box, area, bounding_slices, iou
from samlet_napari.inference.prompts import Placed, Step
from samlet_napari.inference.roi import Extent, window_for
from samlet_napari.inference.worker import Encodings
from samlet_napari.layers.layer_reader import Plane

LEAST_IOU = 0.3
"""Of the masks of neighbouring slices."""

LEAST_TRUST = 0.4
"""Predicted IoU."""

LEAST_CONTRAST = 0.45
"""Of a mask to its surroundings, as a share of what it was where the user has seen it."""

LEAST_VISIBLE = 2.0
"""Contrast in grey levels: whatever shows less is no object, nor was what it is compared with."""

SMALLEST = 12
"""Pixels of a mask."""


@dataclass(frozen=True)
class Found:
    """The object in a slice.

    Attributes:
        placed: where, and the box that it was prompted with.
        box: of the window.
        mask: bool, h x w, in the window.
    """

    placed: Placed
    box: Box
    mask: np.ndarray


def propagate(
    encodings: Encodings,
    start: Plane,
    box: Box,
    mask: np.ndarray,
    planes: Iterable[Plane],
    visible: float,
) -> Iterator[Found]:
    """Follow an object from slice to slice until it ends.

    Args:
        encodings: of the stack.
        start: the slice where it is known.
        box: of the window of its mask.
        mask: bool, h x w.
        planes: the slices to go through, the nearest first.
        visible: pixels along the longer side of what the user sees.

    Yields:
        the object in each slice, up to where it ends; nothing if the mask has no pixel.

    Raises:
        UserError: a slice cannot be shown to the model.
    """
    if not mask.any():
        return
    predictor, picture = encodings.predictor, encodings.picture
    known = contrast(picture.read(start, box, _longest(box)), mask)
    for plane in planes:
        around = _extent(mask, box)
        window = window_for(plane, picture.size(plane), around, visible, encodings.side)
        left, top = window.box[:2]
        answer = predictor.segment(
            encodings.get(window),
            box=np.array(around) - (left, top, left, top),
            multimask_output=False,
        )
        found = answer.best
        before = moved(mask, box, window.box)
        stands_out = contrast(picture.read(plane, window.box, _longest(window.box)), found)
        if (
            area(found) < SMALLEST
            or answer.iou_predictions[answer.best_index] < LEAST_TRUST
            or iou(before, found) < LEAST_IOU
            or stands_out * np.sign(known) < max(LEAST_CONTRAST * abs(known), LEAST_VISIBLE)
        ):
            return
        yield Found(Placed(plane, (Step(box=around),), None), window.box, found)
        mask, box = found, window.box


def contrast(pixels: np.ndarray, mask: np.ndarray) -> float:
    """How much brighter a mask is than a rim around it: grey levels; 0 without either.

    Args:
        pixels: uint8, H x W x 3; if it is smaller than the mask, as of a pyramid, the mask is
            brought to it.
        mask: bool, H x W.
    """
    if pixels.shape[:2] != mask.shape:
        rows = np.arange(pixels.shape[0]) * mask.shape[0] // pixels.shape[0]
        columns = np.arange(pixels.shape[1]) * mask.shape[1] // pixels.shape[1]
        mask = mask[np.ix_(rows, columns)]
    if not mask.any():
        return 0.0
    rows, columns = bounding_slices(mask)
    reach = max(3, round(0.3 * np.sqrt(area(mask))))
    near = (
        slice(max(rows.start - reach - 2, 0), rows.stop + reach + 2),
        slice(max(columns.start - reach - 2, 0), columns.stop + reach + 2),
    )
    inside, grey = mask[near], pixels[near].mean(axis=2)
    distance = ndimage.distance_transform_edt(~inside)
    # The pixels at the border belong to both.
    rim = (distance > 1.5) & (distance <= reach + 1.5)
    if not rim.any():
        return 0.0
    return float(grey[inside].mean() - grey[rim].mean())


def moved(mask: np.ndarray, box: Box, to: Box) -> np.ndarray:
    """What of a mask in one window lies in another: bool, of the other's size."""
    placed = np.zeros((to[3] - to[1], to[2] - to[0]), bool)
    x0, y0 = max(box[0], to[0]), max(box[1], to[1])
    x1, y1 = min(box[2], to[2]), min(box[3], to[3])
    if x0 < x1 and y0 < y1:
        placed[y0 - to[1] : y1 - to[1], x0 - to[0] : x1 - to[0]] = mask[
            y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]
        ]
    return placed


def _extent(mask: np.ndarray, box: Box) -> Extent:
    rows, columns = bounding_slices(mask)
    left, top = box[:2]
    return (
        float(left + columns.start),
        float(top + rows.start),
        float(left + columns.stop),
        float(top + rows.stop),
    )


def _longest(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])
