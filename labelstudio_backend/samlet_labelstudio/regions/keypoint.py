"""KeyPointLabels: clicks."""

import numpy as np

from samlet.datasets.label_studio.geometry import RegionValue, read_keypoint


def points(value: RegionValue) -> np.ndarray:
    """The click as a point prompt.

    Returns:
        float64, 1 x 2 of (x, y), in the image; pixel centres are at integers.

    Raises:
        UserError: a field is missing or wrong.
    """
    height, width = value.size
    # From pixel edges to pixel centres.
    point = np.array([read_keypoint(value)]) - 0.5
    return np.clip(point, 0, (width - 1, height - 1))
