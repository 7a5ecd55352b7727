"""Masks as values: H x W bool arrays or their RLE, and what they turn into.

Coordinates are (x, y) in pixels. Outlines and boxes run along pixel edges: pixel (0, 0) covers the
square from (0, 0) to (1, 1), and a full H x W mask spans (0, 0) to (W, H), as in COCO. Points name
a pixel, so their centre is at integers, as in segment_anything's prompts.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from samlet.errors import UserError
from samlet.polygons import to_polygons
from samlet.rle import Cutout, Mask, area, cut_out, extent, from_rle, to_rle

__all__ = [
    "Cutout",
    "area",
    "box_xyxy",
    "cut_out",
    "deepest_point",
    "from_label_map",
    "from_rle",
    "iou",
    "remove_small_regions",
    "to_label_map",
    "to_polygons",
    "to_rle",
]


def box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Bound an H x W mask by (x0, y0, x1, y1) along pixel edges: a full mask gives (0, 0, W, H).

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = _extent(mask)
    return columns.start, rows.start, columns.stop, rows.stop


def _extent(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = extent(mask)
    if rows.stop == 0:
        raise UserError("The mask is empty: it has no box and no inside. Leave it out.")
    return rows, columns


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two H x W masks, 0 to 1; two empty masks agree, hence 1.

    Raises:
        UserError: the shapes differ.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape:
        raise UserError(f"Masks of {a.shape} and {b.shape} cannot be compared: resize one.")
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def deepest_point(mask: np.ndarray) -> tuple[int, int]:
    """Find the pixel farthest from the mask's border: where a careful annotator clicks.

    The image's border counts as the mask's. Of several such pixels the middle one in reading order
    is taken, so that a line is clicked near its middle.

    Args:
        mask: H x W, bool or 0 and 1.

    Returns:
        (x, y) of a pixel inside the mask.

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = _extent(mask)
    inside = np.pad(np.asarray(mask[rows, columns], dtype=bool), 1)
    depth = ndimage.distance_transform_edt(inside)
    ys, xs = np.nonzero(depth == depth.max())
    middle = len(ys) // 2
    return int(xs[middle]) - 1 + columns.start, int(ys[middle]) - 1 + rows.start


def to_label_map(
    masks: np.ndarray | Sequence[Mask], scores: Sequence[float] | None = None
) -> np.ndarray:
    """Paint masks into one image of labels: 0 background, i + 1 for mask i.

    Where masks overlap, the higher score wins, and of equal scores (or none) the earlier mask. A
    mask that is covered altogether leaves no pixel, and its label is then missing.

    Args:
        masks: N x H x W, or a non-empty sequence of H x W or RLE.
        scores: N.

    Returns:
        H x W, uint16, or uint32 beyond 65535 masks.

    Raises:
        UserError: an empty list (use an array of 0 x H x W), another number of scores, masks of
            unlike sizes, or RLE that is not valid.
    """
    if isinstance(masks, np.ndarray) and masks.ndim == 3:
        shape = masks.shape[1:]
    elif len(masks):
        shape = cut_out(masks[0]).size
    else:
        raise UserError("No mask tells the size: give an array of shape 0 x H x W instead.")
    if scores is not None and len(scores) != len(masks):
        raise UserError(f"{len(masks)} masks have {len(scores)} scores: give one each.")
    labels = np.zeros(shape, np.uint16 if len(masks) <= np.iinfo(np.uint16).max else np.uint32)
    best_first = np.argsort(-np.asarray(scores), kind="stable") if scores is not None else None
    for i in reversed(range(len(masks)) if best_first is None else best_first.tolist()):
        cutout = cut_out(masks[i])
        if cutout.size != shape:
            raise UserError(f"Masks of {shape} and {cutout.size} are not of one image: resize one.")
        labels[cutout.window][cutout.mask] = i + 1
    return labels


def from_label_map(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each object of a label map as (label, bool H x W), by rising label, one at a time.

    Args:
        labels: H x W integers; 0 and below are background.
    """
    for label in np.unique(labels[labels > 0]).tolist():
        yield label, labels == label


def remove_small_regions(
    mask: np.ndarray, area_thresh: float, mode: Literal["holes", "islands"]
) -> tuple[np.ndarray, bool]:
    """Fill holes or drop islands smaller than a threshold, as segment_anything.utils.amg does.

    Regions are 8-connected. If every island is small, the largest stays (the first of equals). Open
    background counts as a hole where it is smaller than the threshold.

    Args:
        mask: H x W bool.
        area_thresh: pixels; smaller regions go.
        mode: "holes" or "islands".

    Returns:
        The mask, bool H x W, and whether it changed.
    """
    regions, count = ndimage.label(~mask if mode == "holes" else mask, structure=np.ones((3, 3)))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    small = sizes < area_thresh
    if not small.any():
        return mask, False
    if mode == "islands" and small.all():
        small[np.argmax(sizes)] = False
    flips = np.concatenate([[False], small])
    return mask ^ flips[regions], True
