"""Masks for EllipseLabels: ellipses of the same centre, area moments and direction."""

from typing import Any

import numpy as np

from samlet.masks import CroppedMask
from samlet_labelstudio.regions.parts import larger_parts


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Give the "value" of the one region, without its label.

    The ellipse has the centre and the second moments of the mask's larger parts, each pixel being
    a square. Label Studio has its radii in percent of the image's width and of its height, and
    turns it clockwise in pixels, not in percent.

    Args:
        mask: with a pixel at least.
    """
    inside = larger_parts(mask.mask)
    height, width = mask.size
    area = np.count_nonzero(inside)
    x, y = (np.arange(side) + 0.5 for side in reversed(inside.shape))
    columns, rows = np.count_nonzero(inside, axis=0) / area, np.count_nonzero(inside, axis=1) / area
    centre_x, centre_y = columns @ x, rows @ y
    x, y = x - centre_x, y - centre_y
    covariance = np.einsum("yx,y,x->", inside, y, x) / area
    # A square of side 1 has the variance 1/12 in itself.
    moments = np.array([[columns @ x**2, covariance], [covariance, rows @ y**2]]) + np.eye(2) / 12
    variances, axes = np.linalg.eigh(moments)
    # An ellipse's variance along an axis is a quarter of the squared radius; the longest is last.
    radius_y, radius_x = 2 * np.sqrt(variances)
    along_x, along_y = axes[:, 1]
    return [
        {
            "x": float(100 * (mask.x + centre_x) / width),
            "y": float(100 * (mask.y + centre_y) / height),
            "radiusX": float(100 * radius_x / width),
            "radiusY": float(100 * radius_y / height),
            "rotation": float(np.rad2deg(np.arctan2(along_y, along_x)) % 180),
        }
    ]
