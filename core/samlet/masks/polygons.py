"""Masks to polygons: outlines along pixel edges, simplified, and still valid."""

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, points_in_poly

# Pairs of segments compared at once: bounds the memory at a few tens of megabytes.
_BLOCK = 1_000_000


def to_polygons(
    mask: np.ndarray, tolerance: float = 1.0, origin: tuple[int, int] = (0, 0)
) -> list[list[np.ndarray]]:
    """Trace a mask as polygons with holes, one for each 4-connected part, in reading order.

    The outlines run along pixel edges, so that a full H x W mask gives the corners (0, 0), (W, 0),
    (W, H), (0, H). They are simplified after Douglas and Peucker, small rings less so. Where this
    would make an outline cross itself, vanish or lose a hole, that part is simplified less, in the
    limit not at all: with tolerance 0 the polygons cover exactly the mask's pixels. Every polygon
    is valid by itself: its rings are simple, and two rings meet in single corners at most. COCO
    polygons have no holes: use RLE there.

    Args:
        mask: H x W, bool or 0 and 1.
        tolerance: pixels that an outline may be off, at most a tenth of the root of a ring's area.
        origin: (x, y) of the mask's upper left pixel in the image whose coordinates are wanted.

    Returns:
        Polygons, each a list of rings: the outer one, then the holes. A ring is float64, N x 2 of
        (x, y), N >= 3, its first point not repeated. Outer rings run clockwise on the screen
        (positive shoelace area with y down), holes the other way, as GeoJSON wants.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.size == 0:
        return []
    parts, _ = ndimage.label(mask)
    polygons = []
    for label, extent in enumerate(ndimage.find_objects(parts), start=1):
        offset = (origin[0] + extent[1].start, origin[1] + extent[0].start)
        rings = [ring + offset for ring in _trace(parts[extent] == label)]
        polygons.append(_simplified(sorted(rings, key=_signed_area, reverse=True), tolerance))
    return polygons


def _trace(part: np.ndarray) -> list[np.ndarray]:
    """Follow the pixel edges between a part and its outside, as rings that never self-touch."""
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
    arriving, leaving = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[np.any(arriving != leaving, axis=1)]


def _signed_area(ring: np.ndarray) -> float:
    (x, y), (x_next, y_next) = ring.T, np.roll(ring, -1, axis=0).T
    return float(np.sum(x * y_next - x_next * y) / 2)


def _simplified(rings: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    # A pixel matters more to a small ring: without this, one of 25 pixels would lose a quarter.
    limits = [0.1 * abs(_signed_area(ring)) ** 0.5 for ring in rings]
    while tolerance > 0.25:
        simpler = [
            approximate_polygon(np.vstack([ring, ring[:1]]), min(tolerance, limit))[:-1]
            for ring, limit in zip(rings, limits, strict=True)
        ]
        if _is_valid(simpler):
            return simpler
        tolerance /= 2
    return rings


def _is_valid(rings: list[np.ndarray]) -> bool:
    outer, *holes = rings
    # A ring that collapsed to two points has no area.
    if _signed_area(outer) <= 0 or any(_signed_area(hole) >= 0 for hole in holes):
        return False
    # The middles of the sides tell where a hole lies, as corners may lie on another ring.
    middles = [(hole + np.roll(hole, 1, axis=0)) / 2 for hole in holes]
    if not all(points_in_poly(points, outer).all() for points in middles):
        return False
    low, high = (np.array([f(hole, axis=0) for hole in holes]) for f in (np.min, np.max))
    for i, points in enumerate(middles):
        for j in np.flatnonzero(np.all((low <= high[i]) & (high >= low[i]), axis=1)):
            if i != j and points_in_poly(points, holes[j]).any():
                return False
    return not _cross(rings)


def _cross(rings: list[np.ndarray]) -> bool:
    """Tell whether any two sides meet elsewhere than in a corner that they share."""
    start = np.vstack(rings)
    end = np.vstack([np.roll(ring, -1, axis=0) for ring in rings])
    by_left = np.argsort(np.minimum(start, end)[:, 0])
    start, end = start[by_left], end[by_left]
    low, high = np.minimum(start, end), np.maximum(start, end)
    # Sorted by their left ends, the sides that may meet side i follow it up to its right end.
    candidates = np.searchsorted(low[:, 0], high[:, 0], side="right") - np.arange(len(low)) - 1
    blocks = np.searchsorted(np.cumsum(candidates), np.arange(0, candidates.sum(), _BLOCK))
    for rows in np.split(np.arange(len(low)), blocks[1:]):
        a = np.repeat(rows, candidates[rows])
        firsts = np.cumsum(candidates[rows]) - candidates[rows]
        b = a + 1 + np.arange(len(a)) - np.repeat(firsts, candidates[rows])
        near = (low[a, 1] <= high[b, 1]) & (low[b, 1] <= high[a, 1])
        if _meet_outside_corners(start, end, a[near], b[near]):
            return True
    return False


def _meet_outside_corners(start: np.ndarray, end: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    sides = np.stack(
        [
            _side(start[a], end[a], start[b]),
            _side(start[a], end[a], end[b]),
            _side(start[b], end[b], start[a]),
            _side(start[b], end[b], end[a]),
        ]
    )
    meet = (sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0)
    corner = np.any(
        [np.all(p[a] == q[b], axis=1) for p in (start, end) for q in (start, end)], axis=0
    )
    low, high = np.minimum(start, end), np.maximum(start, end)
    shared_length = np.max(np.minimum(high[a], high[b]) - np.maximum(low[a], low[b]), axis=1)
    overlap = np.all(sides == 0, axis=0) & (shared_length > 0)
    return bool(np.any(meet & (~corner | overlap)))


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    ahead, aside = end - start, point - start
    return np.sign(ahead[:, 0] * aside[:, 1] - ahead[:, 1] * aside[:, 0])
