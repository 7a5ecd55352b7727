"""From the distance maps of micro-sam's decoder to objects: where to click, or what each covers.

Distances are small in the middle of an object and 1 at its boundary. So where both are below their
thresholds is one connected region for each object, however narrowly they touch.

Source: Segment Anything for Microscopy (Archit et al., Nature Methods 2025) for the watershed, and
Revisiting foundation models for cell instance segmentation (Archit and Pape, arXiv 2603.17845) for
the prompts. The arithmetic is that of `torch_em.util.segmentation` 0.10.9
(`watershed_from_center_and_boundary_distances`) and of `micro_sam.instance_segmentation` 1.8
(`InstanceSegmentationWithDecoder`, `_derive_point_prompts`), and so are the default values.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries, relabel_sequential, watershed

from samlet.errors import UserError
from samlet.modeling.instance_decoder import BOUNDARY_DISTANCE, CENTER_DISTANCE, FOREGROUND

FOREGROUND_SMOOTHING = 1.0
"""Standard deviation in pixels with which the foreground is smoothed before the watershed."""

SMOOTHING_RADIUS = 3.0
"""How far smoothing reaches, in standard deviations."""


@dataclass(frozen=True)
class DistanceThresholds:
    """What counts as the middle of an object, and as an object at all; all 0 to 1.

    Attributes:
        center_distance_threshold: of the distance to the centre; less is the middle.
        boundary_distance_threshold: of the distance to the boundary; less is the middle.
        foreground_threshold: of the probability; more is an object.

    Raises:
        UserError: one of them is out of its range.
    """

    center_distance_threshold: float = 0.5
    boundary_distance_threshold: float = 0.5
    foreground_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} must be 0 to 1, not {value}.")

    def middles(self, center: np.ndarray, boundary: np.ndarray) -> np.ndarray:
        """Where an object's middle is, if it is one: bool, H x W of both distances."""
        is_near_center = center < self.center_distance_threshold
        is_deep: np.ndarray = boundary < self.boundary_distance_threshold
        return is_near_center & is_deep


def watershed_instances(
    maps: np.ndarray,
    thresholds: DistanceThresholds,
    distance_smoothing: float = 1.6,
    min_size: int = 0,
) -> np.ndarray:
    """Flood the distance to the boundary from the middles of objects, within the foreground.

    Args:
        maps: float32, 3 x H x W, see `samlet.modeling.instance_decoder.InstanceDecoder`.
        thresholds: see there.
        distance_smoothing: standard deviation in pixels with which distances are smoothed; 0 leaves
            them.
        min_size: objects of fewer pixels are left out.

    Returns:
        int32, H x W: the number of each pixel's object, from 1; 0 is background.
    """
    foreground = _smoothed(maps[FOREGROUND], FOREGROUND_SMOOTHING)
    center = _smoothed(maps[CENTER_DISTANCE], distance_smoothing)
    boundary = _smoothed(maps[BOUNDARY_DISTANCE], distance_smoothing)
    is_object = foreground > thresholds.foreground_threshold
    middles = label(thresholds.middles(center, boundary) & is_object)
    labels: np.ndarray = watershed(boundary, middles, mask=is_object).astype(np.int32)
    if min_size > 0:
        labels[np.bincount(labels.ravel())[labels] < min_size] = 0
        labels = relabel_sequential(labels)[0]
    return labels


def prompt_points(maps: np.ndarray, thresholds: DistanceThresholds) -> np.ndarray:
    """The deepest pixel of each object's middle.

    Args:
        maps: float32, 3 x H x W, see `samlet.modeling.instance_decoder.InstanceDecoder`.
        thresholds: see there.

    Returns:
        int, N x 2, (x, y).
    """
    is_object = maps[FOREGROUND] >= thresholds.foreground_threshold
    middles = thresholds.middles(maps[CENTER_DISTANCE], maps[BOUNDARY_DISTANCE]) & is_object
    labels = label(middles, connectivity=1)
    inner = ~find_boundaries(labels, mode="outer")
    # A click at the very border of the image sees half of the object.
    inner[[0, -1]] = inner[:, [0, -1]] = False
    depth = ndimage.distance_transform_edt(inner)
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        inside = np.where(labels[place] == number, depth[place], -1)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        found.append((place[1].start + column, place[0].start + row))
    return np.array(found, dtype=int).reshape(-1, 2)


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    if sigma <= 0:
        return values
    smooth: np.ndarray = ndimage.gaussian_filter(
        values, sigma, mode="mirror", truncate=SMOOTHING_RADIUS
    )
    return smooth
