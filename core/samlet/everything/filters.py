"""What everything mode drops after the search: small regions, and masks that lie under others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from samlet.errors import UserError
from samlet.everything.candidates import Candidate, box_and_rle, box_nms
from samlet.masks import from_rle, remove_small_regions


def check_limits(min_mask_region_area: int, max_covered: float) -> None:
    """Check what `without_small_regions` and `without_covered` are asked for.

    Raises:
        UserError: one of them is out of its range.
    """
    if min_mask_region_area < 0:
        raise UserError(f"min_mask_region_area must be at least 0, not {min_mask_region_area}.")
    if not 0 <= max_covered <= 1:
        raise UserError(f"max_covered must be 0 to 1, not {max_covered}.")


def without_small_regions(
    candidates: Sequence[Candidate], size: tuple[int, int], min_area: int, nms_thresh: float
) -> list[Candidate]:
    """Fill small holes, drop small islands, and then suppress new duplicates.

    Args:
        candidates: of one image.
        size: (H, W) of the image.
        min_area: pixels of the smallest hole and island that stay.
        nms_thresh: box IoU of duplicates; those that did not change stay first.
    """
    cleaned, untouched = [], []
    for candidate in candidates:
        mask, filled = remove_small_regions(candidate.cutout(size).to_full(), min_area, "holes")
        mask, dropped = remove_small_regions(mask, min_area, "islands")
        if filled or dropped:
            box, rle = box_and_rle(mask)
            candidate = replace(candidate, box=box, rle=rle)
        cleaned.append(candidate)
        untouched.append(not (filled or dropped))
    return box_nms(cleaned, untouched, nms_thresh)


def without_covered(candidates: Sequence[Candidate], max_covered: float) -> list[Candidate]:
    """Drop masks that lie mostly under masks with a higher predicted IoU.

    Args:
        candidates: of one image; of equal ones the first stays.
        max_covered: share of a mask, 0 to 1, that may be covered.
    """
    if not candidates:
        return []
    boxes = np.array([candidate.box for candidate in candidates])
    left, top = boxes[:, :2].min(axis=0)
    width, height = boxes[:, 2:].max(axis=0) + 1 - (left, top)
    covered, kept = np.zeros((height, width), dtype=bool), []
    for i in sorted(range(len(candidates)), key=lambda i: -candidates[i].predicted_iou):
        x0, y0, x1, y1 = boxes[i] - (left, top, left, top)
        mask, below = from_rle(candidates[i].rle), covered[y0 : y1 + 1, x0 : x1 + 1]
        if below[mask].mean() <= max_covered:
            below |= mask
            kept.append(i)
    return [candidates[i] for i in sorted(kept)]
