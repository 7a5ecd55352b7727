"""Masks as Label Studio's regions, drawn again by other code."""

import json
from pathlib import Path
from typing import Any

import label_studio_brush_rle_rs as reference_brush
import numpy as np
import pytest
from scipy import ndimage
from skimage import draw
from skimage.measure import label as parts_of
from skimage.measure import regionprops

from samlet.datasets.label_studio.regions import is_shape, to_mask, without_repetitions
from samlet.masks import crop_mask, iou
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import is_own, to_results

TAGS = (
    "BrushLabels",
    "BitmaskLabels",
    "PolygonLabels",
    "VectorLabels",
    "RectangleLabels",
    "EllipseLabels",
)
SIZE = (90, 160)


def control(tag: str) -> Control:
    return Control("answer", tag, "img", ("cell",), False)


def results_of(mask: np.ndarray, tag: str, **options: Any) -> list[dict[str, Any]]:
    results = to_results(crop_mask(mask), control(tag), "cell", 0.875, **options)
    return json.loads(json.dumps(results))


def drawn(results: list[dict[str, Any]], size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    for result in results:
        mask |= to_mask(result, Path("a.png"), size, "It")
    return mask


def ellipse_mask(y: float, x: float, down: float, across: float, clockwise: float) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[draw.ellipse(y, x, down, across, SIZE, rotation=-np.deg2rad(clockwise))] = True
    return mask


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def blob(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(SIZE), 6)
    return noise > np.quantile(noise, 0.8)


@pytest.mark.parametrize("tag", TAGS)
def test_what_is_common(tag: str) -> None:
    results = results_of(ellipse_mask(40, 70, 10, 20, 0), tag)
    (result,) = results
    kind = tag.lower()
    assert is_own(result) and result.pop("id") and result["value"].pop(kind) == ["cell"]
    assert result.pop("value")
    assert result == {
        "from_name": "answer",
        "to_name": "img",
        "type": kind,
        "original_width": 160,
        "original_height": 90,
        "image_rotation": 0,
        "score": 0.875,
    }


def test_ids_differ() -> None:
    mask = box_mask(3, 4, 20, 9)
    ids = {results_of(mask, "RectangleLabels")[0]["id"] for _ in range(50)}
    assert len(ids) == 50 and {len(identifier) for identifier in ids} == {17}


@pytest.mark.parametrize("tag", TAGS)
def test_the_label_of_a_labels_tag_is_an_entry_of_its_own(tag: str) -> None:
    mask = ellipse_mask(40, 70, 10, 20, 0)
    bare = Control("answer", tag.removesuffix("Labels"), "img", ("cell",), False, "kind")
    results = to_results(crop_mask(mask), bare, "cell", 0.875, page=3)
    shape, label = results
    assert shape["id"] == label["id"] and is_own(shape)
    assert (shape["from_name"], shape["type"]) == ("answer", tag.lower().removesuffix("labels"))
    assert (label["from_name"], label["type"]) == ("kind", "labels")
    assert label["value"] == {**shape["value"], "labels": ["cell"]}
    assert shape["item_index"] == label["item_index"] == 3
    # Exported again, it is one object.
    kept = without_repetitions([each for each in results if is_shape(each)])
    assert kept == [shape]
    assert np.array_equal(drawn(kept), drawn(results_of(mask, tag)))


def test_vectors_are_the_same_outlines_as_polygons() -> None:
    mask = blob(1)
    polygons, vectors = (results_of(mask, tag) for tag in ("PolygonLabels", "VectorLabels"))
    assert len(polygons) == len(vectors) > 1
    for polygon, vector in zip(polygons, vectors, strict=True):
        corners = [[vertex["x"], vertex["y"]] for vertex in vector["value"]["vertices"]]
        assert corners == polygon["value"]["points"] and vector["value"]["closed"] is True


@pytest.mark.parametrize("tag", TAGS)
def test_nothing_of_an_empty_mask(tag: str) -> None:
    assert results_of(np.zeros(SIZE, bool), tag) == []


@pytest.mark.parametrize(
    "mask",
    [blob(0), np.ones(SIZE, bool), box_mask(159, 89, 160, 90), box_mask(0, 10, 160, 20)],
)
def test_brush(mask: np.ndarray) -> None:
    (result,) = results_of(mask, "BrushLabels")
    assert result["value"]["format"] == "rle"
    rgba = np.reshape(reference_brush.decode_rle(bytes(result["value"]["rle"]), False), (*SIZE, 4))
    assert np.array_equal(rgba, np.repeat(mask[..., None] * 255, 4, axis=2))


@pytest.mark.parametrize("box", [(0, 0, 160, 90), (30, 20, 31, 21), (7, 80, 160, 90)])
def test_rectangle(box: tuple[int, int, int, int]) -> None:
    mask = box_mask(*box)
    mask[box[1] + 1 : box[3] - 1, box[0] + 1 : box[2] - 1] = False
    results = results_of(mask, "RectangleLabels")
    assert np.array_equal(drawn(results), box_mask(*box))
    value = results[0]["value"]
    edges = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
    assert np.allclose(edges, np.array(box) * 100 / (160, 90, 160, 90))
    assert value["rotation"] == 0


@pytest.mark.parametrize("clockwise", [0, 25, 90, 130, 179])
def test_ellipse_of_an_ellipse(clockwise: float) -> None:
    mask = ellipse_mask(45, 80, 12, 34, clockwise)
    results = results_of(mask, "EllipseLabels")
    value = results[0]["value"]
    assert iou(drawn(results), mask) > 0.96
    turned = (value["rotation"] - clockwise + 90) % 180 - 90
    assert abs(turned) < 1 and value["x"] == pytest.approx(100 * 80.5 / 160, abs=0.05)
    assert value["radiusX"] == pytest.approx(100 * 34 / 160, rel=0.02)
    assert value["radiusY"] == pytest.approx(100 * 12 / 90, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_ellipse_of_any_mask(seed: int) -> None:
    mask = parts_of(blob(seed)) == 1
    (result,) = results_of(mask, "EllipseLabels")
    (region,) = regionprops(mask.astype(np.uint8))
    value = result["value"]
    centre = [value["y"] * 0.9 - 0.5, value["x"] * 1.6 - 0.5]
    assert np.allclose(centre, region.centroid)
    # scikit-image takes pixels for points, not for squares.
    lengths = np.hypot([region.axis_major_length, region.axis_minor_length], (4 / 3) ** 0.5)
    assert np.allclose([value["radiusX"] * 1.6, value["radiusY"] * 0.9], lengths / 2)


@pytest.mark.parametrize("tag", TAGS[2:])
def test_a_speck_far_away_changes_no_shape(tag: str) -> None:
    mask = ellipse_mask(45, 80, 12, 30, 20)
    with_speck = mask | box_mask(3, 3, 6, 6)
    alone, beside = (drawn(results_of(each, tag)) for each in (mask, with_speck))
    assert np.array_equal(alone, beside)


def test_ellipse_of_one_pixel() -> None:
    mask = box_mask(30, 20, 31, 21)
    results = results_of(mask, "EllipseLabels")
    assert np.array_equal(drawn(results), mask)


@pytest.mark.parametrize(("tolerance", "least"), [(0.0, 1.0), (1.0, 0.93), (3.0, 0.85)])
def test_polygon(tolerance: float, least: float) -> None:
    masks = [ellipse_mask(45, 80, 30, 60, 15), box_mask(30, 20, 31, 21), np.ones(SIZE, bool)]
    for mask in masks:
        results = results_of(mask, "PolygonLabels", tolerance=tolerance)
        assert len(results) == 1 and results[0]["value"]["closed"] is True
        assert iou(drawn(results), mask) >= least


def test_tolerance_saves_corners() -> None:
    mask = ellipse_mask(45, 80, 30, 60, 15)
    corners = [
        len(results_of(mask, "PolygonLabels", tolerance=tolerance)[0]["value"]["points"])
        for tolerance in (0.0, 1.0, 3.0)
    ]
    assert corners == sorted(corners, reverse=True) and corners[0] > 3 * corners[2]


def test_parts_and_holes_of_polygons() -> None:
    large, middle = box_mask(10, 10, 60, 60), box_mask(100, 10, 120, 30)
    speck, hole, within = (
        box_mask(140, 70, 145, 75),
        box_mask(20, 20, 50, 50),
        box_mask(25, 25, 45, 45),
    )
    mask = (large | middle | speck) & ~hole | within
    results = results_of(mask, "PolygonLabels", tolerance=0.0)
    assert len({result["id"] for result in results}) == 2
    assert np.array_equal(drawn(results), large | middle)


def test_parts_that_touch_in_a_corner_stay_apart() -> None:
    mask = box_mask(10, 10, 20, 20) | box_mask(20, 20, 30, 30) | box_mask(20, 0, 30, 10)
    mask |= box_mask(30, 10, 40, 20)
    results = results_of(mask, "PolygonLabels", tolerance=0.0)
    assert len(results) == 4
    assert np.array_equal(drawn(results), mask)


def test_polygons_of_noise_never_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = np.zeros(SIZE, bool)
        mask[30:55, 100:125] = rng.random((25, 25)) < rng.uniform(0.2, 0.8)
        masks = [drawn([result]) for result in results_of(mask, "PolygonLabels", tolerance=0.0)]
        assert np.sum(masks, axis=0).max() == 1
        for part in masks:
            assert np.array_equal(part, ndimage.binary_fill_holes(part & mask))


@pytest.mark.parametrize("tag", TAGS)
def test_right_place_in_large_images(tag: str) -> None:
    small, height, width = ellipse_mask(45, 80, 20, 30, 40), 3000, 4000
    mask = np.zeros((height, width), bool)
    mask[2500:2590, 3700:3860] = small
    again = drawn(results_of(mask, tag), (height, width))
    least = 0.6 if tag == "RectangleLabels" else 0.95
    assert iou(again[2500:2590, 3700:3860], small) > least
    again[2500:2590, 3700:3860] = False
    assert not again.any()
