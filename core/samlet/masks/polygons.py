"""Masks to polygons: outlines along pixel edges, simplified with shapely, and valid.

The outlines are traced here, since `skimage.measure.find_contours` cuts every corner off, and
OpenCV's contours run through pixel centres, which makes every object a pixel smaller.
"""

from collections.abc import Sequence

import numpy as np
import shapely
from scipy import ndimage
from scipy.spatial import cKDTree


def to_polygons(
    mask: np.ndarray, tolerance: float = 1.0, origin: tuple[int, int] = (0, 0)
) -> list[list[np.ndarray]]:
    """Trace a mask as polygons with holes, one for each 4-connected part, in reading order.

    The outlines run along pixel edges, so that a full H x W mask gives the corners (0, 0), (W, 0),
    (W, H), (0, H). They are simplified after Douglas and Peucker, small rings less so, and keep
    their number of rings. Where the polygon would become invalid (an outline that crosses itself
    or a hole), it is simplified less, in the limit not at all: with tolerance 0 the polygons cover
    exactly the mask's pixels. Every polygon is valid in the sense of OGC's Simple Features: its
    rings are simple, and touch each other in single points at most. For formats without holes see
    `join_rings`.

    Args:
        mask: H x W, bool or 0 and 1.
        tolerance: largest distance in pixels between an outline and its simplification; at most a
            tenth of the square root of the ring's area is used.
        origin: (x, y) of the mask's upper left pixel in the image whose coordinates are wanted.

    Returns:
        Polygons, each a list of rings: the outer one, then the holes. A ring is float64, N x 2 of
        (x, y), N >= 3, its first point not repeated. Outer rings run clockwise on the screen
        (positive shoelace area with y down) and holes the other way, as GeoJSON requires.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.size == 0:
        return []
    parts, _ = ndimage.label(mask)
    polygons = []
    for label, extent in enumerate(ndimage.find_objects(parts), start=1):
        offset = (origin[0] + extent[1].start, origin[1] + extent[0].start)
        rings = [ring + offset for ring in _trace(parts[extent] == label)]
        polygons.append(_simplify(sorted(rings, key=_signed_area, reverse=True), tolerance))
    return polygons


def join_rings(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Join the rings of polygons in one, for formats that have neither holes nor several parts.

    From the nearest corners, a bridge of no width leads to each further ring and back, so that the
    even-odd rule and the non-zero rule fill the same pixels as before.

    Args:
        rings: N x 2 of (x, y) each, as in `to_polygons`.

    Returns:
        float64, M x 2 of (x, y), its first point not repeated.
    """
    joined = np.asarray(rings[0], dtype=float)
    for ring in rings[1:]:
        distances, nearest = cKDTree(ring).query(joined)
        start = int(np.argmin(distances))
        turned = np.roll(ring, -int(np.atleast_1d(nearest)[start]), axis=0)
        joined = np.concatenate([joined[: start + 1], turned, turned[:1], joined[start:]])
    return joined


def _trace(part: np.ndarray) -> list[np.ndarray]:
    """Follow the edges between a part and its outside, as rings that never touch themselves."""
    padded = np.pad(part, 1)
    inside = padded[1:-1, 1:-1]
    # Directed edges with the part on their right: neighbour, start and end as offsets from (x, y).
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbour, start, end in sides:
        ys, xs = np.nonzero(inside & ~neighbour)
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))

    rings = []
    while following:
        path = [next(iter(following))]
        position = {path[0]: 0}
        while path[-1] in following:
            ends = following[path[-1]]
            vertex = ends.pop()
            if not ends:
                del following[path[-1]]
            if vertex in position:
                # Cutting off the loop at once keeps a ring from touching itself at a corner.
                loop = path[position[vertex] :]
                del path[position[vertex] + 1 :]
                for passed in loop[1:]:
                    del position[passed]
                rings.append(_corners(np.array(loop, dtype=float)))
            else:
                position[vertex] = len(path)
                path.append(vertex)
    return rings


def _corners(ring: np.ndarray) -> np.ndarray:
    """The points of a closed ring where it turns."""
    arriving, leaving = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[np.any(arriving != leaving, axis=1)]


def _signed_area(ring: np.ndarray) -> float:
    """The shoelace formula: positive for a ring that runs clockwise on the screen."""
    (x, y), (x_next, y_next) = ring.T, np.roll(ring, -1, axis=0).T
    return float(np.sum(x * y_next - x_next * y) / 2)


def _simplify(rings: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Simplify the outer ring and the holes of a polygon, as far as it stays valid."""
    linear_rings = [shapely.LinearRing(ring) for ring in rings]
    # A pixel matters more to a small ring: without this, one of 25 pixels would lose a quarter.
    limits = [0.1 * abs(_signed_area(ring)) ** 0.5 for ring in rings]
    while tolerance > 0.25:
        outer, *holes = shapely.simplify(linear_rings, np.minimum(tolerance, limits))
        if shapely.Polygon(outer, holes).is_valid:
            return [shapely.get_coordinates(ring)[:-1] for ring in (outer, *holes)]
        tolerance /= 2
    return rings
