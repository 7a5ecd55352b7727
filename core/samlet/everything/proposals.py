"""From the proposal head's output to objects: where to click, and how large they are.

Cells of the foreground vote for the centre of their object, weighted so that an object of any size
has one vote altogether. Peaks of the votes are objects, and each cell belongs to the peak that it
voted for. That is how instance embeddings with centre votes are read (Neven et al., CVPR 2019,
arXiv 1906.11109; CellPose, Stringer et al., 2021).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from samlet.modeling.proposal_head import (
    BOX_DISTANCES,
    CELL,
    CENTRE_OFFSETS,
    FOREGROUND,
    OFFSET_UNIT,
)

MIN_FOREGROUND = 0.5
"""Probability above which a cell votes."""

VOTE_SPREAD = 1.0
"""Standard deviation in cells with which votes are smoothed."""

MIN_PEAK = 0.25
"""Least height of a peak: about the share of an object's votes that agree."""

MIN_PEAK_DISTANCE = 0.35
"""Distance between peaks, relative to the shorter side of the object at the higher one."""

MAX_VOTE_ERROR = 0.6
"""How far from the peak a cell's vote may be, relative to the shorter side of its box."""

FILLED_SHARE = 0.75
"""Share of its box that an object fills; about that of an ellipse."""

NEAREST_VOTES = 8
"""Votes around a peak that tell how large its object is."""


@dataclass(frozen=True)
class Proposals:
    """N objects that may be in an image, in pixels of the model's input.

    Attributes:
        points: N x 2, (x, y) within the object, near its centre.
        boxes: N x 4, x0, y0, x1, y1.
        completeness: N: share of the area that the box lets expect that belongs to the object;
            little where cells do not agree on one.
    """

    points: np.ndarray
    boxes: np.ndarray
    completeness: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: np.ndarray) -> "Proposals":
        return Proposals(self.points[rows], self.boxes[rows], self.completeness[rows])

    @property
    def sides(self) -> np.ndarray:
        """Square roots of the boxes' areas, N."""
        sides: np.ndarray = np.sqrt(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1))
        return sides


NONE = Proposals(np.zeros((0, 2)), np.zeros((0, 4)), np.zeros(0))


def find_proposals(predicted: np.ndarray, input_size: tuple[int, int]) -> Proposals:
    """Read the proposal head's output.

    Args:
        predicted: float, 7 x h x w, see `samlet.modeling.proposal_head.ProposalHead`.
        input_size: (height, width) of the image in the model's input, in pixels; the rest of it is
            padding.

    Returns:
        the objects, by falling agreement of their votes.
    """
    height, width = (-(-side // CELL) for side in input_size)
    predicted = predicted[:, :height, :width]
    foreground = 1 / (1 + np.exp(-predicted[FOREGROUND][0]))
    rows, columns = np.nonzero(foreground > MIN_FOREGROUND)
    if not len(rows):
        return NONE
    cells = np.stack([columns, rows], axis=1)
    votes = cells + OFFSET_UNIT * predicted[CENTRE_OFFSETS, rows, columns].T
    distances = OFFSET_UNIT * predicted[BOX_DISTANCES, rows, columns].T.clip(0.5 / OFFSET_UNIT)
    boxes = np.tile(cells + 0.5, 2) + distances * (-1, -1, 1, 1)
    sides = boxes[:, 2:] - boxes[:, :2]
    expected_area = np.maximum(FILLED_SHARE * sides.prod(axis=1), 1)
    weights = foreground[rows, columns] / expected_area
    peaks = _peaks(votes, weights, sides.min(axis=1), (height, width))
    if not len(peaks):
        return NONE
    distance, nearest_peak = cKDTree(peaks).query(votes)
    peak_of = np.asarray(nearest_peak)
    peak_of[distance > np.maximum(2, MAX_VOTE_ERROR * sides.min(axis=1))] = len(peaks)
    order = np.argsort(peak_of, kind="stable")
    ends = np.searchsorted(peak_of[order], np.arange(len(peaks)), side="right")
    points, object_boxes, completeness = [], [], []
    for peak, members in zip(peaks, np.split(order, ends)[: len(peaks)], strict=True):
        if len(members):
            nearest = members[np.square(cells[members] - peak).sum(axis=1).argmin()]
            box = np.median(boxes[members], axis=0)
            points.append(cells[nearest] + 0.5)
            object_boxes.append(box)
            area = FILLED_SHARE * (box[2] - box[0]) * (box[3] - box[1])
            completeness.append(len(members) / max(area, 1))
    if not points:
        return NONE
    limits = np.array([input_size[1], input_size[0]] * 2)
    return Proposals(
        CELL * np.array(points),
        (CELL * np.array(object_boxes)).clip(0, limits),
        np.array(completeness),
    )


def _peaks(
    votes: np.ndarray, weights: np.ndarray, sides: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Where votes meet: K x 2, (x, y) in cells, by falling height.

    Args:
        votes: N x 2, (x, y) in cells.
        weights: N.
        sides: N: the shorter side of the voter's object, in cells.
        size: (height, width) in cells.
    """
    height, width = size
    counts = np.zeros((height + 1, width + 1))
    inside = votes.clip(0, (width - 1, height - 1))
    corner = inside.astype(int)
    right, down = (inside - corner).T
    # Shared between the four nearest cells, as small objects are only a few cells apart.
    for dx, share_x in ((0, 1 - right), (1, right)):
        for dy, share_y in ((0, 1 - down), (1, down)):
            cells = (corner[:, 1] + dy) * (width + 1) + corner[:, 0] + dx
            counts += np.bincount(cells, weights * share_x * share_y, counts.size).reshape(
                counts.shape
            )
    smooth: np.ndarray = ndimage.gaussian_filter(
        counts[:height, :width], VOTE_SPREAD, mode="constant"
    )
    total = smooth * (2 * np.pi * VOTE_SPREAD**2)
    is_peak = (total == ndimage.maximum_filter(total, 3)) & (total > MIN_PEAK)
    rows, columns = np.nonzero(is_peak)
    order = np.argsort(-total[rows, columns], kind="stable")
    peaks = np.stack([columns, rows], axis=1)[order]
    if not len(peaks):
        return peaks
    nearest = cKDTree(votes).query(peaks, k=min(NEAREST_VOTES, len(votes)))[1]
    reach = MIN_PEAK_DISTANCE * np.median(sides[nearest].reshape(len(peaks), -1), axis=1)
    tree, is_kept = cKDTree(peaks), np.ones(len(peaks), dtype=bool)
    for i in range(len(peaks)):
        if is_kept[i]:
            lower = np.array(tree.query_ball_point(peaks[i], reach[i]), dtype=int)
            is_kept[lower[lower > i]] = False
    return peaks[is_kept]
