"""Point prompts of everything mode: a grid, from coarse to fine, or one point per region."""

import numpy as np
from scipy import ndimage
from skimage.segmentation import felzenszwalb, find_boundaries

from samlet.everything.crops import point_grid
from samlet.images import resize_longest

REGION_SIDE = 512
"""Longest side, in pixels, of the reduced image that is segmented into regions."""

MAX_REGIONS = 1024
"""As many as a grid of 32 x 32 has points; noise has more regions, and none is an object."""

COARSEST = 4
"""A search from coarse to fine starts with every fourth point of each row and column."""


def region_points(image: np.ndarray) -> np.ndarray:
    """One point per region of even colour, where it is deepest: likely an object.

    Prompting objects rather than a grid is the idea of MobileSAMv2 (arXiv 2312.09579), which uses a
    trained detector; regions (Felzenszwalb and Huttenlocher, IJCV 2004) need no training, and fit
    any kind of image.

    Args:
        image: RGB uint8, H x W x 3.

    Returns:
        float64, N x 2, (x, y) in 0..1; at least one point, at most `MAX_REGIONS`: the deepest.
    """
    frame = resize_longest(image, REGION_SIDE)
    # Found on BBBC038: half the scale doubles the clicks and finds hardly more, twice misses more.
    regions = felzenszwalb(frame, scale=50, sigma=1, min_size=20) + 1
    inner = ~np.pad(find_boundaries(regions, mode="inner"), 1, constant_values=True)
    depth = ndimage.distance_transform_edt(inner)[1:-1, 1:-1]
    # Regions that are all boundary are the blurred edges of others.
    thick = np.unique(regions[depth > 0])
    if not len(thick):
        return np.array([[0.5, 0.5]])
    if len(thick) > MAX_REGIONS:
        shallowest_first = np.argsort(ndimage.maximum(depth, regions, thick), kind="stable")
        thick = np.sort(thick[shallowest_first[-MAX_REGIONS:]])
    points = np.array(ndimage.maximum_position(depth, regions, thick)).reshape(-1, 2)[:, ::-1]
    return (points + 0.5) / (frame.shape[1], frame.shape[0])


def coarse_to_fine(points_per_side: int) -> list[np.ndarray]:
    """Split a grid into rounds: every fourth point each way, then every second, then the rest.

    A round can leave out what earlier ones have covered, as TinySAM does (arXiv 2312.13789).

    Returns:
        float64, N x 2 each, (x, y) in 0..1; together `samlet.everything.crops.point_grid`.
    """
    grid = point_grid(points_per_side)
    rows, columns = np.divmod(np.arange(len(grid)), points_per_side)
    rounds, taken = [], np.zeros(len(grid), dtype=bool)
    step = COARSEST
    while step:
        # From the middle of a cell of `step` points, so that the round is centred.
        chosen = (rows % step == step // 2) & (columns % step == step // 2) & ~taken
        rounds.append(grid[chosen])
        taken |= chosen
        step //= 2
    return [points for points in rounds if len(points)]
