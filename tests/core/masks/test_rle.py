"""Run lengths and cropped masks, against pycocotools."""

import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco

import samlet.masks
from samlet.errors import UserError
from samlet.masks import (
    CroppedMask,
    area,
    bounding_slices,
    box_xyxy,
    crop_mask,
    from_rle,
    to_label_map,
    to_rle,
)


def masks_of_all_kinds() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, 9), (9, 1), (7, 5), (12, 31)]
    random = [
        rng.random(shape) < share for shape in shapes * 20 for share in (0.02, 0.3, 0.7, 0.98)
    ]
    # Full columns go on in the next column; rows and single pixels do not.
    column, row, corner, stripes = np.zeros((4, 9, 13), bool)
    column[:, 4:7] = row[3, :] = corner[-1, -1] = True
    stripes[:, ::2] = True
    return [*random, column, row, corner, corner[::-1, ::-1], stripes, ~stripes, column | row]


def reference(mask: np.ndarray) -> dict:
    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def test_cutouts_make_the_rle_that_coco_makes_of_the_whole_mask() -> None:
    for mask in masks_of_all_kinds():
        whole = reference(mask)
        for cropped in (crop_mask(mask), crop_mask(whole), CroppedMask(mask, 0, 0, mask.shape)):
            assert cropped.to_rle() == whole == to_rle(mask)
            runs = cropped.to_uncompressed_rle()
            assert all(type(n) is int for n in runs["counts"])
            assert reference(coco.decode(coco.frPyObjects(runs, *mask.shape))) == whole
            assert np.array_equal(cropped.to_full(), mask)


def test_a_cropped_mask_is_the_masks_box() -> None:
    for mask in masks_of_all_kinds():
        for cropped in (
            crop_mask(mask),
            crop_mask(to_rle(mask)),
            crop_mask(crop_mask(mask).to_uncompressed_rle()),
        ):
            assert cropped.size == mask.shape and cropped.mask.dtype == bool
            if mask.any():
                x0, y0, x1, y1 = box_xyxy(mask)
                assert (cropped.x, cropped.y) == (x0, y0)
                assert np.array_equal(cropped.mask, mask[y0:y1, x0:x1])
            else:
                assert cropped.mask.shape == (0, 0)


def test_a_cutout_is_placed_anywhere() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        height, width = rng.integers(1, 20, 2).tolist()
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        small = rng.random((h, w)) < 0.6
        expected = np.zeros((height, width), bool)
        expected[y : y + h, x : x + w] = small
        assert CroppedMask(small, x, y, (height, width)).to_rle() == reference(expected)


def test_area_and_empty_runs() -> None:
    for mask in masks_of_all_kinds():
        assert (
            area(mask)
            == area(to_rle(mask))
            == area(crop_mask(mask).to_uncompressed_rle())
            == mask.sum()
        )
    # Other programs write runs of length 0 in the middle.
    odd = {"size": [3, 4], "counts": [0, 2, 0, 3, 4, 0, 1, 0, 1, 1]}
    mask = coco.decode(coco.frPyObjects(odd, 3, 4)).astype(bool)
    assert np.array_equal(from_rle(odd), mask) and np.array_equal(crop_mask(odd).to_full(), mask)
    assert crop_mask(odd).to_rle() == reference(mask)


def test_large_images_cost_no_more_than_the_mask() -> None:
    """Of 3.6 gigapixels, only the mask's own box is ever made."""
    size = (60_000, 60_000)
    cropped = CroppedMask(np.ones((40, 30), bool), 50_000, 40_000, size)
    tracemalloc.start()
    again = crop_mask(cropped.to_rle())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (again.x, again.y, again.size) == (50_000, 40_000, size)
    assert np.array_equal(again.mask, cropped.mask)
    assert peak < 1e6


def test_damaged_rle_cannot_be_cut_out() -> None:
    for rle in ({"size": [4, 5], "counts": [3, 4]}, {"size": [4, 5], "counts": "0"}, {"size": 4}):
        for use in (crop_mask, area, from_rle):
            with pytest.raises(UserError, match="not a valid COCO RLE"):
                use(rle)


def test_label_maps_of_rle() -> None:
    stack = np.random.default_rng(2).random((5, 12, 17)) < 0.2
    scores = [0.4, 0.9, 0.9, 0.1, 0.5]
    expected = to_label_map(stack, scores)
    assert np.array_equal(to_label_map([to_rle(mask) for mask in stack], scores), expected)
    with pytest.raises(UserError, match="not of one image"):
        to_label_map([to_rle(stack[0]), stack[1].T])


def test_old_names_still_import() -> None:
    for old, new in (("Cutout", CroppedMask), ("cut_out", crop_mask), ("extent", bounding_slices)):
        with pytest.warns(DeprecationWarning, match=f"{old} is now"):
            assert getattr(samlet.masks, old) is new
    assert not hasattr(samlet.masks, "nothing_of_this_name")
