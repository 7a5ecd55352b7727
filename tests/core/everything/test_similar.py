"""Objects like examples: the rest of a kind, and only that."""

from functools import partial
from typing import Any

import numpy as np
import pytest

import samlet
from samlet.everything.likeness import EmbeddingGrid, Likeness, colours_of
from samlet.everything.similar import DEFAULT_LIKENESS, example_masks
from samlet.masks import crop_mask, from_label_map, from_rle, iou_matrix, to_label_map, to_rle
from samlet.modeling.sam import Sam
from tests.core.conftest import sample


@pytest.fixture(scope="module")
def predictor(nuclei: Sam) -> samlet.Predictor:
    return samlet.Predictor(nuclei)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return sample("stained_2").image


@pytest.fixture(scope="module")
def nuclei_masks() -> list[np.ndarray]:
    return [mask for _, mask in from_label_map(sample("stained_2").labels[0])]


@pytest.fixture(scope="module")
def examples(nuclei_masks: list[np.ndarray]) -> list[np.ndarray]:
    """Three nuclei of a common size."""
    areas = [mask.sum() for mask in nuclei_masks]
    middle = np.argsort(areas)[len(areas) // 2 :]
    return [nuclei_masks[i] for i in middle[:3]]


@pytest.fixture(scope="module")
def found(
    predictor: samlet.Predictor, image: np.ndarray, examples: list[np.ndarray]
) -> list[dict[str, Any]]:
    return samlet.find_similar(predictor, image, examples, likeness=0)


def test_three_nuclei_find_the_others(
    found: list[dict[str, Any]], nuclei_masks: list[np.ndarray], examples: list[np.ndarray]
) -> None:
    others = [to_rle(mask) for mask in nuclei_masks if not any(mask is one for one in examples)]
    similar = [one["segmentation"] for one in found if one["likeness"] >= DEFAULT_LIKENESS]
    is_match = iou_matrix(similar, others) > 0.5
    assert is_match.any(axis=0).mean() > 0.75
    assert is_match.any(axis=1).mean() > 0.85


def test_examples_do_not_come_again(
    found: list[dict[str, Any]], examples: list[np.ndarray]
) -> None:
    masks = [from_rle(one["segmentation"]) for one in found]
    for example in examples:
        for mask in masks:
            shared = (mask & example).sum()
            assert shared <= 0.5 * min(mask.sum(), example.sum())


def test_a_higher_threshold_leaves_out_what_is_less_alike(
    predictor: samlet.Predictor,
    image: np.ndarray,
    examples: list[np.ndarray],
    found: list[dict[str, Any]],
) -> None:
    likeness = [one["likeness"] for one in found]
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[-1] >= 0 and likeness[0] <= 1
    middle = float(np.median(likeness))
    again = samlet.find_similar(predictor, image, examples, likeness=middle)
    assert again == [one for one in found if one["likeness"] >= middle]
    assert 0 < len(again) < len(found)


def test_records_are_those_of_everything_mode(
    predictor: samlet.Predictor, image: np.ndarray, found: list[dict[str, Any]]
) -> None:
    others = samlet.segment_everything(predictor, image)
    assert all(one.keys() == others[0].keys() | {"likeness"} for one in found)


def test_likeness_tells_two_kinds_apart(predictor: samlet.Predictor) -> None:
    """Even and striped discs of the same size and of about the same mean brightness."""
    y, x = np.mgrid[:320, :320]
    grey = np.random.default_rng(0).normal(30, 4, (320, 320))
    masks: dict[str, list[np.ndarray]] = {"even": [], "striped": []}
    for number in range(25):
        row, column = divmod(number, 5)
        disc = (x - 32 - 64 * column) ** 2 + (y - 32 - 64 * row) ** 2 < 20**2
        kind = "striped" if number % 2 else "even"
        grey[disc] = 150 if kind == "even" else (150 + 90 * np.sign(np.sin(x + y)))[disc]
        masks[kind].append(disc)
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    for kind, other in (("even", "striped"), ("striped", "even")):
        found = samlet.find_similar(predictor, image, masks[kind][:2], likeness=0)
        similar = [one["segmentation"] for one in found]
        likeness = np.array([one["likeness"] for one in found])
        same, others = (
            iou_matrix(similar, [to_rle(mask) for mask in some]) > 0.5
            for some in (masks[kind][2:], masks[other])
        )
        assert same.any(axis=0).mean() > 0.8, kind
        assert others.any(axis=0).mean() > 0.8, kind
        assert likeness[same.any(axis=1)].min() > likeness[others.any(axis=1)].max() + 0.3, kind


def test_any_form_of_examples_and_image(
    predictor: samlet.Predictor, image: np.ndarray, nuclei_masks: list[np.ndarray]
) -> None:
    find = partial(samlet.find_similar, predictor, likeness=0)
    small = np.ascontiguousarray(image[:128, :128])
    cropped = [mask[:128, :128] for mask in nuclei_masks]
    masks = np.stack([mask for mask in cropped if mask.any()][:2])
    expected = find(small, masks)
    assert expected
    assert find(small, to_label_map(masks)) == expected
    assert find(small, [to_rle(mask) for mask in masks]) == expected
    grey = small.mean(axis=2).astype(np.uint8)
    assert find(grey, masks) == find(np.repeat(grey[..., None], 3, axis=2), masks)


def test_large_images_and_models_without_a_head(small_model: Sam) -> None:
    """A random model finds no objects, but every part of the way is gone."""
    predictor = samlet.Predictor(small_model)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 420, 3), np.uint8)
    mask = np.zeros((300, 420), bool)
    mask[100:140, 200:240] = True
    seen: list[float] = []
    settings: Any = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    records = samlet.find_similar(
        predictor, image, mask, likeness=0, progress=seen.append, tile=128, **settings
    )
    assert seen == sorted(seen) and seen[-1] == 1
    assert all(one["segmentation"]["size"] == [300, 420] for one in records)
    areas = [one["area"] for one in records]
    assert all(1600 / 4 <= area <= 1600 * 4 for area in areas)


def test_wrong_input_is_refused_in_a_sentence(
    predictor: samlet.Predictor, image: np.ndarray, examples: list[np.ndarray]
) -> None:
    find = partial(samlet.find_similar, predictor, image)
    nothing = np.zeros(image.shape[:2], np.uint8)
    with pytest.raises(samlet.UserError, match="There is no example: mark at least one"):
        find(nothing)
    with pytest.raises(samlet.UserError, match="There is no example"):
        find([])
    with pytest.raises(samlet.UserError, match="Example 2 is empty"):
        find([examples[0], nothing])
    with pytest.raises(samlet.UserError, match="of 20 x 10 pixels but the image is of 320 x 256"):
        find(np.ones((10, 20), np.uint8))
    with pytest.raises(samlet.UserError, match="likeness must be 0 to 1, not 2"):
        find(examples, likeness=2)
    with pytest.raises(samlet.UserError, match="leave out prompts and settings of points"):
        find(examples, prompts="grid")
    with pytest.raises(samlet.UserError, match="leave out prompts and settings of points"):
        find(examples, points_per_side=8)
    with pytest.raises(samlet.UserError, match="at least 32 pixels, not 0"):
        find(examples, tile=0)
    assert len(example_masks(examples[0], image.shape[:2])) == 1


def test_pooling_is_the_mean_over_the_pixels_of_a_mask() -> None:
    """The independent reference: each pixel takes the embedding of its cell."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 6, 8)).astype(np.float32)
    grid = EmbeddingGrid(features, (100, 50, 180, 110))
    mask = rng.random((60, 80)) > 0.6
    of_pixels = features.repeat(10, axis=1).repeat(10, axis=2)
    assert np.allclose(grid.pooled(mask, 100, 50), of_pixels[:, mask].mean(axis=1), atol=1e-5)
    # What lies outside the ROI does not count.
    wider = np.pad(mask, ((0, 0), (7, 0)), constant_values=True)
    assert np.allclose(grid.pooled(wider, 93, 50), grid.pooled(mask, 100, 50))


def test_likeness_is_that_to_the_most_similar_example() -> None:
    colours = np.array([np.full((2, 3), 50.0), np.full((2, 3), 90.0)])
    compare = Likeness(np.array([[3.0, 1], [1, 2]]), np.ones(2), colours, 20.0)
    vectors = np.array([[9.0, 1], [1, 7], [2, 2], [0, 1], [1, 1]])
    places = compare.of_places(vectors)
    assert np.allclose(places, [1, 1, 0.5**0.5, 0, 0])
    first, second = colours
    assert compare.of_object(vectors[0], first) == pytest.approx(1)
    # Both means and deviations are two standard deviations of the image apart.
    assert compare.of_object(vectors[0], second) == pytest.approx(np.exp(-4))
    assert compare.of_object(vectors[2], second) == pytest.approx(0.5**0.5)


def test_colours_are_those_of_the_mask() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    mask = np.zeros((30, 40), bool)
    mask[5:15, 8:20] = np.random.default_rng(1).random((10, 12)) > 0.5
    cropped = crop_mask(mask)
    expected = [rgb[mask].mean(axis=0), rgb[mask].std(axis=0)]
    assert np.allclose(colours_of(rgb, cropped.mask, cropped.x, cropped.y), expected, atol=1e-3)
