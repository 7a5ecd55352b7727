"""Label maps: many masks in one array of integers, in which 0 is the background."""

from collections.abc import Iterator, Sequence

import numpy as np

from samlet.errors import UserError
from samlet.masks.rle import Mask, crop_mask


def to_label_map(
    masks: np.ndarray | Sequence[Mask], scores: Sequence[float] | None = None
) -> np.ndarray:
    """Combine masks in one label map: 0 is background, i + 1 is mask i.

    Where masks overlap, the one of higher score is on top, and of equal scores (or without scores)
    the earlier one. The label of a mask that is completely covered is missing.

    Args:
        masks: N x H x W, or a non-empty sequence of H x W or RLE.
        scores: N.

    Returns:
        H x W, uint16, or uint32 beyond 65535 masks.

    Raises:
        UserError: an empty list (use an array of 0 x H x W), another number of scores, masks of
            different sizes, or invalid RLE.
    """
    if isinstance(masks, np.ndarray) and masks.ndim == 3:
        shape = masks.shape[1:]
    elif len(masks):
        shape = crop_mask(masks[0]).size
    else:
        raise UserError("No mask, so the size is unknown: give an array of shape 0 x H x W.")
    if scores is not None and len(scores) != len(masks):
        raise UserError(f"{len(masks)} masks have {len(scores)} scores: give one for each.")
    labels = np.zeros(shape, np.uint16 if len(masks) <= np.iinfo(np.uint16).max else np.uint32)
    best_first = np.argsort(-np.asarray(scores), kind="stable") if scores is not None else None
    for i in reversed(range(len(masks)) if best_first is None else best_first.tolist()):
        cropped = crop_mask(masks[i])
        if cropped.size != shape:
            raise UserError(
                f"Masks of {shape} and {cropped.size} are not of one image: resize one."
            )
        labels[cropped.slices][cropped.mask] = i + 1
    return labels


def from_label_map(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the objects of a label map one by one as (label, bool H x W), by ascending label.

    Args:
        labels: H x W integers; 0 and below are background.
    """
    for label in np.unique(labels[labels > 0]).tolist():
        yield label, labels == label
