"""Masks of a whole image against its objects: COCO's AP, and the Data Science Bowl's score.

Masks are bool, H x W, or COCO's compressed RLE, which takes few bytes. There are no classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from samlet.masks import Mask, from_label_map, from_rle, iou_matrix, to_rle

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoUs from which a mask counts as found: 0.50, 0.55, ..., 0.95."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO samples the precision."""


def average_precision(ious: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Average precision over a set of images, as COCO defines it, with no limit of masks an image.

    In each image the masks, by falling score, each take the free object that they overlap most, if
    the IoU is at least the threshold; the precision at each recall, or at any higher one, is then
    averaged over 101 recalls. The same as COCOeval's with all areas and unlimited maxDets.

    Args:
        ious: for each image, P x T, IoUs of its masks with its objects.
        scores: for each image, P.

    Returns:
        float64, 10: AP at each of `THRESHOLDS`; their mean is "AP", the first "AP50". It is not
        defined, and nan, where no image has an object.
    """
    total = sum(matrix.shape[1] for matrix in ious)
    if total == 0:
        return np.full(len(THRESHOLDS), np.nan)
    hits = np.concatenate(
        [_hits(matrix, image) for matrix, image in zip(ious, scores, strict=True)], axis=1
    )
    order = np.argsort(-np.concatenate([np.asarray(s, float) for s in scores]), kind="stable")
    return np.array([_area_under(row[order], total) for row in hits])


def _hits(ious: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whether each mask found an object: bool, 10 x P, in the order that they came in."""
    hits = np.zeros((len(THRESHOLDS), len(ious)), bool)
    best_first = np.argsort(-np.asarray(scores, float), kind="stable")
    for found, threshold in zip(hits, THRESHOLDS, strict=True):
        overlaps = np.where(ious >= threshold, ious, 0)
        for mask in best_first:
            if overlaps[mask].any():
                found[mask] = True
                # Of equal overlaps COCOeval takes the last object.
                taken = overlaps.shape[1] - 1 - overlaps[mask, ::-1].argmax()
                overlaps[:, taken] = 0
    return hits


def _area_under(hits: np.ndarray, total: int) -> float:
    """Area under the curve of precision over recall, from the hits by falling score."""
    found = hits.cumsum()
    precision = found / np.arange(1, len(hits) + 1)
    highest_from_here = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(highest_from_here[np.searchsorted(found / total, RECALLS)].mean())


def without_overlaps(predicted: Sequence[Mask], scores: Sequence[float] | np.ndarray) -> list[Mask]:
    """Give each pixel to the mask with the highest score, of equal scores to the earlier mask.

    Returns:
        RLEs of what is left of the masks, by falling score; those with no pixel left are dropped.
    """
    labels = None
    for rank, mask in enumerate(_by_rising_score(predicted, scores)):
        pixels = from_rle(mask) if isinstance(mask, Mapping) else mask
        if labels is None:
            labels = np.zeros(pixels.shape, np.int32)
        labels[pixels] = len(predicted) - rank
    return [] if labels is None else [to_rle(mask) for _, mask in from_label_map(labels)]


def _by_rising_score(predicted: Sequence[Mask], scores: Sequence[float] | np.ndarray) -> list[Mask]:
    best_first = np.argsort(-np.asarray(scores, float), kind="stable")
    return [predicted[i] for i in best_first[::-1]]


def bowl_score(
    predicted: Sequence[Mask], scores: Sequence[float] | np.ndarray, truth: Sequence[Mask]
) -> float:
    """Score of one image in the 2018 Data Science Bowl: mean of TP / (TP + FP + FN) over IoUs.

    The masks are first made disjoint (`without_overlaps`), as the competition demanded. A mask and
    an object are a hit if their IoU is greater than the threshold. Objects that overlap, which the
    competition did not have, are matched one to one, with as many hits as possible.

    Source: kaggle.com/competitions/data-science-bowl-2018, "Evaluation".

    Args:
        predicted: P masks.
        scores: P.
        truth: T objects.

    Returns:
        0 to 1; 1 where there is nothing to find and nothing was found.
    """
    disjoint = without_overlaps(predicted, scores)
    if not disjoint and not truth:
        return 1.0
    ious = iou_matrix(disjoint, truth)
    values = []
    # COCO's 0.90 is just below the decimal number, which an IoU of nine tenths must not exceed.
    for threshold in THRESHOLDS.round(2):
        hits = _most_pairs(ious > threshold)
        values.append(hits / (len(disjoint) + len(truth) - hits))
    return float(np.mean(values))


def _most_pairs(allowed: np.ndarray) -> int:
    if not allowed.any():
        return 0
    return int(np.count_nonzero(maximum_bipartite_matching(csr_array(allowed)) >= 0))
