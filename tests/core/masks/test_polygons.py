"""Polygons against the masks that they came from, with an independent rasteriser and checks."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from samlet.masks import iou, to_polygons

NOISE = [
    np.random.default_rng(seed).random((14, 17)) < level
    for seed, level in enumerate([0.2, 0.4, 0.5, 0.6, 0.7, 0.9] * 3)
]
SMOOTH = [
    ndimage.gaussian_filter(np.random.default_rng(seed).random((90, 120)), 3) > level
    for seed, level in enumerate([0.48, 0.5, 0.52] * 3)
]


def rasterised(polygons: list[list[np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """Fill the pixels whose centre an odd number of edges lies to the left of."""
    centres = np.stack(np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5), 2)
    inside = np.zeros(shape, bool)
    for ring in (ring for polygon in polygons for ring in polygon):
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                spans = (centres[..., 1] > min(y0, y1)) & (centres[..., 1] <= max(y0, y1))
                at = x0 + (centres[..., 1] - y0) * (x1 - x0) / (y1 - y0)
                inside ^= spans & (at < centres[..., 0])
    return inside


def shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def meet(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Tell whether the segments a-b and c-d meet but for a shared end, by solving for the point."""
    if any(np.array_equal(p, q) for p in (a, b) for q in (c, d)):
        return False
    matrix = np.column_stack([b - a, c - d])
    if abs(np.linalg.det(matrix)) < 1e-9:
        return False
    s, t = np.linalg.solve(matrix, c - a)
    return bool(-1e-9 < s < 1 + 1e-9 and -1e-9 < t < 1 + 1e-9)


def assert_valid(polygon: list[np.ndarray]) -> None:
    outer, *holes = polygon
    assert shoelace(outer) > 0 and all(shoelace(hole) < 0 for hole in holes)
    segments = []
    for ring in polygon:
        assert len(ring) >= 3 and len(np.unique(ring, axis=0)) == len(ring)
        segments += list(zip(ring, np.roll(ring, -1, axis=0), strict=True))
    for i, first in enumerate(segments):
        assert not any(meet(*first, *second) for second in segments[:i])
    for hole in holes:
        for x, y in hole:
            assert cv2.pointPolygonTest(outer.astype(np.float32), (float(x), float(y)), False) >= 0


@pytest.mark.parametrize("mask", [*NOISE, *SMOOTH])
def test_exact_polygons_cover_exactly_the_mask(mask: np.ndarray) -> None:
    polygons = to_polygons(mask, tolerance=0)
    assert np.array_equal(rasterised(polygons, mask.shape), mask)
    assert sum(shoelace(ring) for polygon in polygons for ring in polygon) == mask.sum()
    assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    for polygon in polygons:
        for ring in polygon:
            assert len(np.unique(ring, axis=0)) == len(ring) >= 4


@pytest.mark.parametrize("tolerance", [1.0, 6.0])
def test_simplified_polygons_are_valid(tolerance: float) -> None:
    for mask in [*NOISE[:6], SMOOTH[0][:40, :40]]:
        polygons = to_polygons(mask, tolerance)
        exact = to_polygons(mask, 0)
        assert [len(p) for p in polygons] == [len(p) for p in exact]
        for polygon in polygons:
            assert_valid(polygon)


def test_simplifying_stops_where_it_would_break_a_polygon() -> None:
    for seed in (8, 25, 56):  # winding outlines that cross themselves when much simplified
        noise = np.random.default_rng(seed).random((90, 120))
        for polygon in to_polygons(ndimage.gaussian_filter(noise, 3) > 0.5, 9):
            assert_valid(polygon)
    thin = np.zeros((3, 900), bool)
    thin[1, 5:-5] = True
    (polygon,) = to_polygons(thin, 2)
    assert_valid(polygon)
    bump = np.zeros((220, 220), bool)
    bump[:200] = bump[200:212, 100:112] = True
    bump[204:208, 104:108] = False
    (polygon,) = to_polygons(bump, 14)
    assert len(polygon) == 2
    assert_valid(polygon)


def test_simplifying_keeps_the_shape_with_few_points() -> None:
    for mask in SMOOTH:
        polygons, exact = to_polygons(mask), to_polygons(mask, 0)
        # Corners that are equally far off are told apart by rounding, which differs between
        # processors: 0.938 without AVX-512.
        assert iou(rasterised(polygons, mask.shape), mask) > 0.93
        points = [sum(len(ring) for p in result for ring in p) for result in (polygons, exact)]
        assert points[0] < points[1] / 2
    ys, xs = np.ogrid[:9, :9]
    small = np.hypot(xs - 4, ys - 4) < 2.6
    assert abs(shoelace(to_polygons(small)[0][0]) / small.sum() - 1) < 0.15


def test_convention() -> None:
    (full,) = to_polygons(np.ones((3, 5), bool))
    assert [ring.tolist() for ring in full] == [[[0, 0], [5, 0], [5, 3], [0, 3]]]
    pixel = np.zeros((4, 6), bool)
    pixel[2, 4] = True
    assert to_polygons(pixel)[0][0].tolist() == [[4, 2], [5, 2], [5, 3], [4, 3]]
    assert to_polygons(np.zeros((4, 6), bool)) == []


def test_holes_and_diagonals() -> None:
    frame = np.ones((7, 9), bool)
    frame[2:5, 3:6] = False
    (polygon,) = to_polygons(frame)
    assert [shoelace(ring) for ring in polygon] == [63, -9]
    # Pixels that meet at a corner are two parts; a hole that meets the outside there stays a hole.
    assert len(to_polygons(np.eye(2, dtype=bool))) == 2
    pinched = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    (polygon,) = to_polygons(pinched)
    assert [shoelace(ring) for ring in polygon] == [8, -1]
    assert_valid(polygon)


def test_small_holes_keep_their_area() -> None:
    mask = np.ones((80, 80), bool)
    mask[40:43, 20:23] = mask[60, 30:35] = mask[10, 10] = False
    (polygon,) = to_polygons(mask, 3.0)
    assert [shoelace(ring) for ring in polygon] == [6400, -1, -5, -9]
