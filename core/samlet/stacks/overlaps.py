"""How the objects of two slices overlap, and which of them match one to one."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Overlap(NamedTuple):
    """Two objects that share pixels.

    Attributes:
        before: label in the first slice.
        after: label in the second slice.
        iou: shared pixels divided by the pixels of either.
        share: shared pixels divided by the pixels of `after`.
    """

    before: int
    after: int
    iou: float
    share: float


def find_overlaps(before: np.ndarray, after: np.ndarray) -> list[Overlap]:
    """All pairs of objects of two label maps that share a pixel, by ascending labels.

    Args:
        before: H x W, integers from 0, the background.
        after: the same of the second slice.
    """
    shared = np.flatnonzero((before > 0) & (after > 0))
    pairs = np.stack([before.ravel()[shared], after.ravel()[shared]], axis=1).astype(np.int64)
    # One number per pair, since np.unique is slow on rows.
    base = int(after.max(initial=0)) + 1
    keys, counts = np.unique(pairs[:, 0] * base + pairs[:, 1], return_counts=True)
    areas_before, areas_after = _areas(before), _areas(after)
    overlaps = []
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        first, second = divmod(key, base)
        area = areas_after[second]
        iou = count / (areas_before[first] + area - count)
        overlaps.append(Overlap(first, second, iou, count / area))
    return overlaps


def match_one_to_one(overlaps: list[Overlap], min_iou: float) -> dict[int, int]:
    """Match objects so that the sum of the IoUs is the largest possible.

    Args:
        overlaps: of two slices.
        min_iou: pairs below it are not matched.

    Returns:
        from labels of the second slice to labels of the first.
    """
    chosen = {}
    for group in _independent_groups([pair for pair in overlaps if pair.iou >= min_iou]):
        rows = {label: i for i, label in enumerate(sorted({pair.before for pair in group}))}
        columns = {label: i for i, label in enumerate(sorted({pair.after for pair in group}))}
        ious = np.zeros((len(rows), len(columns)))
        for pair in group:
            ious[rows[pair.before], columns[pair.after]] = pair.iou
        before, after = list(rows), list(columns)
        for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
            if ious[row, column] > 0:
                chosen[after[column]] = before[row]
    return chosen


def _areas(labels: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _independent_groups(overlaps: list[Overlap]) -> Iterator[list[Overlap]]:
    """Groups of pairs without a common object: a matrix of all objects could be very large."""
    if not overlaps:
        return
    before, rows = np.unique([pair.before for pair in overlaps], return_inverse=True)
    after, columns = np.unique([pair.after for pair in overlaps], return_inverse=True)
    count = len(before) + len(after)
    edges = (np.ones(len(overlaps)), (rows, columns + len(before)))
    _, components = connected_components(coo_array(edges, shape=(count, count)), directed=False)
    groups: dict[int, list[Overlap]] = {}
    for pair, row in zip(overlaps, rows.tolist(), strict=True):
        groups.setdefault(int(components[row]), []).append(pair)
    yield from groups.values()
