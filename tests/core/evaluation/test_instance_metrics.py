"""AP against COCOeval, the Data Science Bowl's score against counting by hand."""

from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from samlet import samples
from samlet.evaluation.instance_metrics import average_precision, bowl_score, without_overlaps
from samlet.masks import from_label_map, from_rle, iou, iou_matrix, to_label_map, to_rle
from samlet.outputs import read_label_map

Image = tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]
"""Masks, their scores, and the objects."""


def perturbed(objects: list[np.ndarray], rng: np.random.Generator) -> Image:
    """Objects as a poor model finds them: moved, eroded, grown, merged, missed and made up."""
    masks = []
    for number, mask in enumerate(objects):
        chance = rng.random()
        if chance < 0.1:
            continue
        if chance < 0.3:
            masks.append(np.roll(mask, rng.integers(-4, 5, 2), axis=(0, 1)))
        elif chance < 0.45:
            masks.append(ndimage.binary_erosion(mask))
        elif chance < 0.6:
            masks.append(ndimage.binary_dilation(mask, iterations=2))
        elif chance < 0.7:
            masks.append(mask | objects[number - 1])
        else:
            masks += [mask] * int(rng.integers(1, 3))
    for _ in range(4):
        mask = np.zeros_like(objects[0])
        y, x = rng.integers(0, np.array(mask.shape) - 12)
        mask[y : y + 12, x : x + 9] = True
        masks.append(mask)
    masks = [mask for mask in masks if mask.any()]
    # One decimal, so that there are ties within and between images.
    return masks, rng.random(len(masks)).round(1), objects


def rectangles(rng: np.random.Generator) -> Image:
    """Overlapping rectangles of few sizes, so that many IoUs are equal or at a threshold."""
    boxes = np.zeros((16, 20, 30), bool)
    for box in boxes:
        y, x = rng.integers(0, (16, 26))
        box[y : y + 4, x : x + rng.integers(3, 6)] = True
    masks = [box | boxes[i - 1] if i % 3 == 0 else box for i, box in enumerate(boxes)]
    count = int(rng.integers(0, 9))
    return masks[:9], rng.random(9).round(1), list(boxes[4 : 4 + count])


def sample_images() -> list[Image]:
    rng = np.random.default_rng(3)
    maps = [read_label_map(samples.LABELS / f"{name}.png") for name in samples.NAMES]
    return [perturbed([mask for _, mask in from_label_map(labels)], rng) for labels in maps]


def by_coco_eval(images: list[Image]) -> np.ndarray:
    """AP at each threshold as COCOeval computes it, without classes and limits."""
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (masks, scores, objects) in enumerate(images, start=1):
        height, width = masks[0].shape
        entries.append({"id": number, "height": height, "width": width})
        for mask in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": to_rle(mask),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
        for mask, score in zip(masks, scores, strict=True):
            found = {"image_id": number, "category_id": 1, "score": float(score)}
            results.append({**found, "segmentation": to_rle(mask)})
    truth = COCO()
    truth.dataset = {"images": entries, "annotations": annotations, "categories": [{"id": 1}]}
    truth.createIndex()
    judge = COCOeval(truth, truth.loadRes(results), "segm")
    judge.params.maxDets = [10**6]
    judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
    judge.evaluate()
    judge.accumulate()
    return judge.eval["precision"][:, :, 0, 0, 0].mean(axis=1)


def by_us(images: list[Image]) -> np.ndarray:
    ious = [iou_matrix(masks, objects) for masks, _, objects in images]
    return average_precision(ious, [scores for _, scores, _ in images])


def test_ap_is_coco_evals_on_real_objects() -> None:
    images = sample_images()
    expected = by_coco_eval(images)
    assert 0.2 < expected.mean() < 0.8
    np.testing.assert_allclose(by_us(images), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_ap_is_coco_evals_with_ties_and_images_without_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [rectangles(rng) for _ in range(6)]
    np.testing.assert_allclose(by_us(images), by_coco_eval(images), atol=1e-12)


def test_ap_without_masks_or_objects() -> None:
    objects = [np.eye(5, dtype=bool)]
    assert average_precision([iou_matrix([], objects)], [np.empty(0)]).tolist() == [0] * 10
    assert np.isnan(average_precision([iou_matrix(objects, [])], [np.ones(1)])).all()


def test_iou_matrix_takes_masks_and_rles() -> None:
    masks, _, objects = sample_images()[3]
    expected = [[iou(mask, one) for one in objects] for mask in masks]
    np.testing.assert_allclose(iou_matrix(masks, objects), expected)
    np.testing.assert_allclose(iou_matrix([to_rle(m) for m in masks], objects), expected)
    assert iou_matrix([], objects).shape == (0, len(objects))


def test_masks_become_disjoint_as_a_label_map_does() -> None:
    masks, scores, _ = sample_images()[3]
    labels = to_label_map(masks, scores.tolist())
    left = [from_rle(mask) for mask in without_overlaps(masks, scores)]  # type: ignore[arg-type]
    assert np.sum(left, axis=0).max() == 1
    assert {m.tobytes() for m in left} == {m.tobytes() for _, m in from_label_map(labels)}
    assert without_overlaps([], []) == []


def by_hand(image: Image) -> float:
    """The competition's formula, for objects that do not overlap."""
    masks, scores, objects = image
    found = [mask for _, mask in from_label_map(to_label_map(masks, scores.tolist()))]
    ious = np.array([[iou(mask, one) for one in objects] for mask in found])
    values = []
    for threshold in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        hits = (ious > threshold).any(axis=1).sum()
        values.append(hits / (hits + (len(found) - hits) + (len(objects) - hits)))
    return float(np.mean(values))


def test_bowl_score_by_hand() -> None:
    for image in sample_images()[1:5]:
        assert bowl_score(*image) == pytest.approx(by_hand(image))


def strip(start: int, stop: int) -> np.ndarray:
    """A mask of 1 x 300 pixels."""
    mask = np.zeros((1, 300), bool)
    mask[0, start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("masks", "objects", "expected"),
    [
        ([(0, 100)], [(0, 100)], 1),
        ([], [(0, 100)], 0),
        ([(0, 100)], [], 0),
        ([], [], 1),
        # IoU 0.78 exceeds six of the ten thresholds.
        ([(0, 78)], [(0, 100)], 0.6),
        ([(0, 78)], [(0, 100), (200, 250)], 0.6 / 2),
        ([(0, 78), (150, 160)], [(0, 100), (200, 250)], 0.6 / 3),
        # Half is not more than half.
        ([(0, 50)], [(0, 100)], 0),
        # What better masks cover altogether does not count as wrong.
        ([(0, 100), (20, 60)], [(0, 100)], 1),
        # One mask finds one object, though two lie in the same place.
        ([(0, 100)], [(0, 100), (0, 99)], 0.5),
    ],
)
def test_bowl_score_of_known_cases(
    masks: list[tuple[int, int]], objects: list[tuple[int, int]], expected: float
) -> None:
    scores = np.linspace(1, 0.5, len(masks))
    score = bowl_score([strip(*m) for m in masks], scores, [strip(*o) for o in objects])
    assert score == pytest.approx(expected)
