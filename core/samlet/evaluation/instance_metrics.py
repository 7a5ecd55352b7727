"""Metrics of instance segmentation: COCO's AP and the score of the 2018 Data Science Bowl.

Masks are bool, H x W, or COCO's compressed RLE, which takes less memory. There are no classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from samlet.masks import Mask, from_label_map, from_rle, iou_matrix, to_rle

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoUs at which a mask matches an object: 0.50, 0.55, ..., 0.95."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO samples the precision: 0, 0.01, ..., 1."""


def average_precision(ious: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Average precision over a set of images, as COCO defines it, for any number of masks.

    In each image the masks, in order of falling score, are each matched with the free object of
    highest IoU, if that is at least the threshold. At each of 101 recalls counts the highest
    precision at that recall or above, and the mean of these is the AP.

    The figures are those of pycocotools' COCOeval (all areas, no maxDets), which the tests compare
    with. It is not used here since its loops in Python take about 40 times as long: more than a
    minute for two images with 3,000 objects each.

    Args:
        ious: for each image, P x T, IoUs of its masks with its objects.
        scores: for each image, P.

    Returns:
        float64, 10: AP at each of `THRESHOLDS`; their mean is "AP", the first is "AP50". It is nan
        if no image has an object.
    """
    total = sum(matrix.shape[1] for matrix in ious)
    if total == 0:
        return np.full(len(THRESHOLDS), np.nan)
    hits = np.concatenate(
        [_matches(matrix, image) for matrix, image in zip(ious, scores, strict=True)], axis=1
    )
    order = np.argsort(-np.concatenate([np.asarray(s, float) for s in scores]), kind="stable")
    return np.array([_area_under(row[order], total) for row in hits])


def _matches(ious: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whether each mask matches an object: bool, 10 x P, in the order of the masks."""
    hits = np.zeros((len(THRESHOLDS), len(ious)), bool)
    best_first = np.argsort(-np.asarray(scores, float), kind="stable")
    for matched, threshold in zip(hits, THRESHOLDS, strict=True):
        overlaps = np.where(ious >= threshold, ious, 0)
        for mask in best_first:
            if overlaps[mask].any():
                matched[mask] = True
                # Of equal overlaps COCOeval takes the last object.
                taken = overlaps.shape[1] - 1 - overlaps[mask, ::-1].argmax()
                overlaps[:, taken] = 0
    return hits


def _area_under(hits: np.ndarray, total: int) -> float:
    """Area under the curve of precision over recall, from the hits in order of falling score."""
    found = hits.cumsum()
    precision = found / np.arange(1, len(hits) + 1)
    highest_from_here = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(highest_from_here[np.searchsorted(found / total, RECALLS)].mean())


def without_overlaps(predicted: Sequence[Mask], scores: Sequence[float] | np.ndarray) -> list[Mask]:
    """Assign each pixel to the mask with the highest score; of equal scores, to the earlier mask.

    Returns:
        RLEs of what is left of the masks, by falling score, without those that have no pixel left.
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
    """Score of one image in the 2018 Data Science Bowl: mean TP / (TP + FP + FN) over `THRESHOLDS`.

    The masks are first made disjoint (`without_overlaps`), as the competition demanded. A mask
    matches an object if their IoU is greater than the threshold. Objects that overlap, which the
    competition did not have, are matched one to one, with as many matches as possible.

    Source: kaggle.com/competitions/data-science-bowl-2018, "Evaluation".

    Args:
        predicted: P masks.
        scores: P.
        truth: T objects.

    Returns:
        0 to 1; 1 if there is neither an object nor a mask.
    """
    disjoint = without_overlaps(predicted, scores)
    if not disjoint and not truth:
        return 1.0
    ious = iou_matrix(disjoint, truth)
    values = []
    # THRESHOLDS has a number just below 0.9, which an IoU of exactly 0.9 would exceed.
    for threshold in THRESHOLDS.round(2):
        hits = _most_pairs(ious > threshold)
        values.append(hits / (len(disjoint) + len(truth) - hits))
    return float(np.mean(values))


def _most_pairs(allowed: np.ndarray) -> int:
    if not allowed.any():
        return 0
    return int(np.count_nonzero(maximum_bipartite_matching(csr_array(allowed)) >= 0))
