"""An object carried through a stack: each slice is prompted with the mask of the one before.

An object has ended where the model finds nothing like it any more, or where it no longer stands
out from its surroundings: prompted on plain background, the model draws a mask all the same.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import ndimage

from samlet.masks import Box, area, bounding_slices, iou
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.objects import FoundObject
from samlet_napari.inference.prompts import Step
from samlet_napari.inference.roi import FloatBox, choose_roi
from samlet_napari.layers.plane import Plane

MIN_IOU = 0.3
"""Of the masks of neighbouring slices."""

MIN_PREDICTED_IOU = 0.4

MIN_CONTRAST_RATIO = 0.45
"""Of a mask to its surroundings, relative to where the user has seen it."""

MIN_CONTRAST = 2.0
"""In grey levels: whatever shows less is no object, nor was what it is compared with."""

MIN_AREA = 12
"""Pixels of a mask."""


def propagate(
    embeddings: EmbeddingProvider,
    start: Plane,
    box: Box,
    mask: np.ndarray,
    planes: Iterable[Plane],
    visible_size: float,
) -> Iterator[FoundObject]:
    """Follow an object from slice to slice until it ends.

    Args:
        embeddings: of the stack.
        start: the slice where it is known.
        box: of its mask.
        mask: bool, h x w.
        planes: the slices to go through, the nearest first.
        visible_size: pixels along the longer side of what the user sees.

    Yields:
        the object in each slice, up to where it ends; nothing if the mask has no pixel.

    Raises:
        UserError: a slice cannot be shown to the model.
    """
    if not mask.any():
        return
    predictor, snapshot = embeddings.predictor, embeddings.snapshot
    start_contrast = contrast(snapshot.read(start, box, _longer_side(box)), mask)
    for plane in planes:
        around = _mask_box(mask, box)
        roi = choose_roi(plane, snapshot.size(plane), around, visible_size, embeddings.input_size)
        left, top = roi.box[:2]
        prediction = predictor.segment(
            embeddings.get(roi),
            box=np.array(around) - (left, top, left, top),
            multimask_output=False,
        )
        found = prediction.best
        before = shift_mask(mask, box, roi.box)
        found_contrast = contrast(snapshot.read(plane, roi.box, _longer_side(roi.box)), found)
        if (
            area(found) < MIN_AREA
            or prediction.iou_predictions[prediction.best_index] < MIN_PREDICTED_IOU
            or iou(before, found) < MIN_IOU
            or found_contrast * np.sign(start_contrast)
            < max(MIN_CONTRAST_RATIO * abs(start_contrast), MIN_CONTRAST)
        ):
            return
        yield FoundObject(plane, (Step(box=around),), roi.box, found)
        mask, box = found, roi.box


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


def shift_mask(mask: np.ndarray, box: Box, to: Box) -> np.ndarray:
    """What of a mask in one box lies in another: bool, of the other's size."""
    placed = np.zeros((to[3] - to[1], to[2] - to[0]), bool)
    x0, y0 = max(box[0], to[0]), max(box[1], to[1])
    x1, y1 = min(box[2], to[2]), min(box[3], to[3])
    if x0 < x1 and y0 < y1:
        placed[y0 - to[1] : y1 - to[1], x0 - to[0] : x1 - to[0]] = mask[
            y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]
        ]
    return placed


def _mask_box(mask: np.ndarray, box: Box) -> FloatBox:
    rows, columns = bounding_slices(mask)
    left, top = box[:2]
    return (
        float(left + columns.start),
        float(top + rows.start),
        float(left + columns.stop),
        float(top + rows.stop),
    )


def _longer_side(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])
