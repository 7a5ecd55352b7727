"""EllipseLabels: ellipses of the same centre, area moments and direction, and box prompts."""

from typing import Any

import numpy as np

from samlet.datasets.label_studio.geometry import Ellipse, RegionValue
from samlet.masks import CroppedMask
from samlet_labelstudio.regions.components import larger_components


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Write the "value" of the one region, without its label.

    The ellipse has the centre and the second moments of the mask's larger components, each pixel
    being a square.

    Args:
        mask: with at least one pixel.
    """
    inside = larger_components(mask.mask)
    area = np.count_nonzero(inside)
    x, y = (np.arange(side) + 0.5 for side in reversed(inside.shape))
    columns, rows = np.count_nonzero(inside, axis=0) / area, np.count_nonzero(inside, axis=1) / area
    centre_x, centre_y = columns @ x, rows @ y
    x, y = x - centre_x, y - centre_y
    covariance = np.einsum("yx,y,x->", inside, y, x) / area
    # A square of side 1 has itself a variance of 1/12.
    moments = np.array([[columns @ x**2, covariance], [covariance, rows @ y**2]]) + np.eye(2) / 12
    variances, axes = np.linalg.eigh(moments)
    # An ellipse's variance along an axis is a quarter of the squared radius; the longest is last.
    radius_y, radius_x = (2 * np.sqrt(variances)).tolist()
    along_x, along_y = axes[:, 1]
    degrees = float(np.rad2deg(np.arctan2(along_y, along_x)) % 180)
    centre = float(mask.x + centre_x), float(mask.y + centre_y)
    return [Ellipse(*centre, radius_x, radius_y, degrees).to_value(mask.size)]


def bounds(value: RegionValue) -> np.ndarray:
    """The least and the greatest (x, y) of an ellipse, in pixels: float64, 2 x 2.

    Raises:
        UserError: a field is missing or wrong, or the ellipse has no area.
    """
    ellipse = Ellipse.read(value)
    value.check_not_zero(radiusX=ellipse.radius_x, radiusY=ellipse.radius_y)
    return ellipse.bounds()
