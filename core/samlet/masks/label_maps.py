"""Label maps: many masks in one array of integers, 0 being the background."""

from collections.abc import Iterator, Sequence

import numpy as np

from samlet.errors import UserError
from samlet.masks.rle import Mask, crop_mask


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
        shape = crop_mask(masks[0]).size
    else:
        raise UserError("No mask tells the size: give an array of shape 0 x H x W instead.")
    if scores is not None and len(scores) != len(masks):
        raise UserError(f"{len(masks)} masks have {len(scores)} scores: give one each.")
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
    """Yield each object of a label map as (label, bool H x W), by rising label, one at a time.

    Args:
        labels: H x W integers; 0 and below are background.
    """
    for label in np.unique(labels[labels > 0]).tolist():
        yield label, labels == label
