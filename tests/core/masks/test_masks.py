"""Masks as values, against pycocotools, OpenCV and segment_anything."""

import time

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from scipy import ndimage
from segment_anything.utils import amg

from samlet import masks
from samlet.errors import UserError


def blobs(seed: int, shape: tuple[int, int] = (60, 80), level: float = 0.5) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return noise > np.quantile(noise, level)


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(xs - x, ys - y) <= radius


CASES = [blobs(0), blobs(1, level=0.9), blobs(2, (1, 30)), np.zeros((4, 7), bool), np.ones((5, 3))]


@pytest.mark.parametrize("mask", CASES)
def test_rle_round_trip_and_pycocotools_agrees(mask: np.ndarray) -> None:
    rle = masks.to_rle(mask)
    assert rle["size"] == list(mask.shape) and isinstance(rle["counts"], str)
    assert np.array_equal(coco.decode(rle), mask)
    assert np.array_equal(masks.from_rle(rle), mask)
    assert np.array_equal(masks.from_rle({**rle, "counts": rle["counts"].encode()}), mask)
    plain = amg.mask_to_rle_pytorch(torch.from_numpy(mask.astype(bool))[None])[0]
    decoded = masks.from_rle(plain)
    assert np.array_equal(decoded, mask) and decoded.dtype == bool


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 5], "counts": [3, 4]},
        {"size": [4, 5], "counts": [-3, 23]},
        {"size": [4, 5], "counts": [20, 1]},
        {"size": [4, 5]},
        {"size": [4], "counts": [4]},
        {"size": [4, 5], "counts": "not an rle"},
        {"size": [4, 5], "counts": "0"},
        {"size": [4, 5], "counts": b""},
    ],
)
def test_bad_rle(rle: dict) -> None:
    with pytest.raises(UserError, match="not a valid COCO RLE"):
        masks.from_rle(rle)


def test_box_and_area_match_coco() -> None:
    mask = np.zeros((40, 50), bool)
    mask[7:12, 30:33] = mask[20, 4] = True
    rle = masks.to_rle(mask)
    x, y, width, height = coco.toBbox(rle).tolist()
    assert masks.box_xyxy(mask) == (x, y, x + width, y + height) == (4, 7, 33, 21)
    assert masks.area(mask) == coco.area(rle) == 16
    assert masks.box_xyxy(np.ones((3, 8), bool)) == (0, 0, 8, 3)
    with pytest.raises(UserError, match="empty"):
        masks.box_xyxy(np.zeros((3, 3), bool))


def test_iou_matches_coco() -> None:
    for seed in range(5):
        a, b = blobs(seed), blobs(seed + 10, level=0.7)
        expected = coco.iou([masks.to_rle(a)], [masks.to_rle(b)], [0])[0, 0]
        assert masks.iou(a, b) == pytest.approx(expected, abs=1e-12)
    empty = np.zeros((3, 4), bool)
    assert masks.iou(empty, empty) == 1 and masks.iou(empty, ~empty) == 0
    with pytest.raises(UserError, match="compared"):
        masks.iou(empty, empty.T)


@pytest.mark.parametrize("seed", range(10))
def test_deepest_point_matches_opencv(seed: int) -> None:
    mask = blobs(seed, (70, 50), 0.3 + seed / 20)
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 0)[1:-1, 1:-1]
    x, y = masks.deepest_point(mask)
    assert mask[y, x]
    assert distance[y, x] == pytest.approx(distance.max(), abs=1e-3)


def test_deepest_point_of_simple_shapes() -> None:
    assert masks.deepest_point(disc((50, 60), 41, 17, 9)) == (41, 17)
    # The image's border is a border: the middle of the visible half, not the edge.
    assert masks.deepest_point(np.ones((9, 21), bool))[1] == 4
    line = np.zeros((5, 101), bool)
    line[2] = True
    assert masks.deepest_point(line) == (50, 2)
    ring = disc((41, 41), 20, 20, 18) & ~disc((41, 41), 20, 20, 12)
    x, y = masks.deepest_point(ring)
    assert ring[y, x]
    with pytest.raises(UserError, match="empty"):
        masks.deepest_point(np.zeros((3, 3), bool))


def test_deepest_point_is_fast_in_large_images() -> None:
    mask = disc((4000, 4000), 3000, 2000, 10)
    start = time.perf_counter()
    assert masks.deepest_point(mask) == (3000, 2000)
    # The transform of the whole image takes seconds.
    assert time.perf_counter() - start < 1.5


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("threshold", [0, 2, 10, 40, 10_000])
def test_remove_small_regions_equals_segment_anything(mode: str, threshold: int) -> None:
    for seed in range(8):
        mask = blobs(seed, (50, 70), 0.2 + seed / 12)
        before = mask.copy()
        sizes = np.bincount(ndimage.label(mask, np.ones((3, 3)))[0].ravel())[1:]
        if mode == "islands" and threshold > sizes.max() and (sizes == sizes.max()).sum() > 1:
            continue  # which of equals is kept is each library's own choice
        expected, expected_changed = amg.remove_small_regions(mask, threshold, mode)
        result, changed = masks.remove_small_regions(mask, threshold, mode)  # type: ignore[arg-type]
        assert changed == expected_changed and result.dtype == bool
        assert np.array_equal(result, expected)
        assert np.array_equal(mask, before)


def test_remove_small_regions_of_an_empty_mask() -> None:
    empty = np.zeros((5, 5), bool)
    assert masks.remove_small_regions(empty, 10, "islands") == (empty, False)
    filled, changed = masks.remove_small_regions(~empty, 10, "holes")
    assert filled.all() and not changed


def test_label_map_gives_overlaps_to_the_higher_score() -> None:
    stack = np.zeros((3, 4, 6), bool)
    stack[0, :, :4], stack[1, :, 2:], stack[2, 0] = True, True, True
    labels = masks.to_label_map(stack, [0.9, 0.5, 0.7])
    assert labels.dtype == np.uint16
    assert labels[0].tolist() == [1, 1, 1, 1, 3, 3] and labels[1].tolist() == [1, 1, 1, 1, 2, 2]
    # With no scores, and with equal ones, the earlier mask wins.
    for scores in (None, [1.0, 1.0, 1.0]):
        labels = masks.to_label_map(list(stack), scores)
        assert labels.tolist() == [[1, 1, 1, 1, 2, 2]] * 4
    assert masks.to_label_map(np.zeros((0, 3, 4), bool)).tolist() == [[0] * 4] * 3
    with pytest.raises(UserError, match="3 masks have 2 scores"):
        masks.to_label_map(stack, [1, 2])
    with pytest.raises(UserError, match="size"):
        masks.to_label_map([])


def test_label_map_round_trip() -> None:
    parts, count = ndimage.label(blobs(3, level=0.7))
    again = dict(masks.from_label_map(parts))
    assert sorted(again) == list(range(1, count + 1))
    assert np.array_equal(masks.to_label_map(list(again.values())), parts)
    sparse = np.array([[0, 7], [70_000, 7]], np.uint32)
    assert [label for label, _ in masks.from_label_map(sparse)] == [7, 70_000]


def test_many_masks_need_32_bits() -> None:
    stack = np.zeros((65_536, 1, 2), bool)
    stack[-1, 0, 1] = True
    labels = masks.to_label_map(stack)
    assert labels.dtype == np.uint32 and labels.tolist() == [[0, 65_536]]
