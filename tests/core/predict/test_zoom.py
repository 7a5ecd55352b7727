"""Zooming in: where the model looks, and that small objects come out of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import samlet
from samlet import images, samples
from samlet.errors import UserError
from samlet.masks import box_xyxy, deepest_point, from_label_map, iou
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.roi import (
    BACKGROUND_LOGIT,
    CONTEXT_RATIO,
    LARGE_OBJECT_SIDE,
    LogitGrid,
    choose_roi,
    full_image_box,
    logit_grid_of,
    object_box,
    resample_logits,
)
from samlet.predict.zoom import smaller_input_model
from tests.core.conftest import SMALL

NO_POINTS = np.zeros((0, 2))


@pytest.fixture(scope="module")
def far_away() -> tuple[np.ndarray, list[np.ndarray]]:
    """A bundled image, small in a large one that is dark, and masks of some of its nuclei."""
    image = images.read(samples.IMAGES / "fluorescence_1.png")
    labels = read_label_map(samples.LABELS / "fluorescence_1.png")
    height, width = labels.shape
    canvas = np.zeros((1500, 1800, 3), np.uint8)
    canvas[:] = np.median(image, axis=(0, 1))
    corner = (slice(700, 700 + height), slice(900, 900 + width))
    canvas[corner] = image
    masks = []
    for _, mask in from_label_map(labels):
        moved = np.zeros(canvas.shape[:2], dtype=bool)
        moved[corner] = mask
        if mask.sum() >= 100:
            masks.append(moved)
    return canvas, masks[:6]


@pytest.fixture(scope="module")
def predictor() -> samlet.Predictor:
    """The bundled model as it is."""
    return samlet.Predictor(samlet.load("microscopy"))


@pytest.fixture(scope="module")
def embedding(
    predictor: samlet.Predictor, far_away: tuple[np.ndarray, list[np.ndarray]]
) -> ImageEmbedding:
    """Of the image of `far_away`."""
    return predictor.encode(far_away[0])


def test_a_view_holds_the_object_and_the_clicks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(n) for n in rng.integers(40, 3000, 2))
        x0, y0 = rng.uniform(0, width - 5), rng.uniform(0, height - 5)
        x1, y1 = (start + rng.uniform(1, end - start) for start, end in ((x0, width), (y0, height)))
        points = rng.uniform((0, 0), (width, height), (2, 2))
        view = choose_roi((x0, y0, x1, y1), points, (height, width), 1024)
        if view is None:
            share = max(x1 - x0, y1 - y0) / max(height, width)
            assert share > 0.5 or share * 1024 <= LARGE_OBJECT_SIDE
            continue
        left, top, right, bottom = view
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert left <= x0 and top <= y0 and right >= x1 and bottom >= y1
        assert (points >= view[:2]).all() and (points <= view[2:]).all()


@pytest.mark.parametrize("side", [4, 10, 30, 60])
def test_a_view_shows_a_small_object_large(side: int) -> None:
    view = choose_roi((500, 300, 500 + side, 300 + side), NO_POINTS, (800, 900), 1024)
    assert view is not None
    left, top, right, bottom = view
    assert (
        max(CONTEXT_RATIO * side, 31) <= right - left <= max(2**0.5 * CONTEXT_RATIO * side, 46) + 2
    )
    assert abs((left + right) / 2 - 500 - side / 2) <= (right - left) / 8
    assert abs((top + bottom) / 2 - 300 - side / 2) <= (bottom - top) / 8


def test_a_large_object_is_seen_in_the_whole_image() -> None:
    size = (800, 900)
    assert choose_roi((10, 10, 400, 300), NO_POINTS, size, 1024) == full_image_box(size)
    assert choose_roi((10, 10, 600, 300), NO_POINTS, size, 1024) is None


def test_a_small_object_is_not_seen_smaller_than_the_image_shows_it() -> None:
    size = (800, 900)
    far_apart = np.array([[20.0, 20], [800, 700]])
    assert choose_roi((10, 10, 60, 60), far_apart, size, 1024) is None
    assert choose_roi((10, 10, 210, 60), far_apart, size, 1024) == full_image_box(size)
    # What is large for one model is small for another.
    assert choose_roi((10, 10, 210, 60), far_apart, size, 512) is None


def test_a_large_object_is_seen_smaller(predictor: samlet.Predictor) -> None:
    """All of the image, at half the input size, unless the object fills it."""
    model = predictor.model
    half = samlet.Predictor(smaller_input_model(model, model.config.image_size // 2), zoom=False)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (90, 150, 3), np.uint8)
    embedding = predictor.encode(image)
    for box, looks in (([20, 10, 90, 70], half), ([5, 5, 140, 80], predictor)):
        found = predictor.segment(embedding, box=box, multimask_output=False)
        expected = looks.segment(looks.encode(image), box=box, multimask_output=False, zoom=False)
        assert np.array_equal(found.masks, expected.masks)
        np.testing.assert_allclose(found.iou_predictions, expected.iou_predictions, atol=1e-5)


def test_neighbours_share_a_view() -> None:
    views = {
        choose_roi((x, 300, x + 20, 320), NO_POINTS, (800, 900), 1024) for x in range(400, 420)
    }
    assert len(views) <= 3


def test_logits_move_between_frames() -> None:
    """A linear slope is the same slope wherever it is looked at from."""
    source, target = LogitGrid((10, 20), (2, 3)), LogitGrid((14.5, 29), (0.5, 0.75))
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    slope = (columns + 0.5) * 2 + 10 + 5 * ((rows + 0.5) * 3 + 20)
    moved = resample_logits(slope[None], source, target, 16)[0]
    expected = (columns[:16, :16] + 0.5) * 0.5 + 14.5 + 5 * ((rows[:16, :16] + 0.5) * 0.75 + 29)
    torch.testing.assert_close(moved, expected)
    coarse = resample_logits(slope[None], source, LogitGrid((10, 20), (8, 12)), 12)[0]
    middle = (columns[:8, :8] + 0.5) * 8 + 10 + 5 * ((rows[:8, :8] + 0.5) * 12 + 20)
    torch.testing.assert_close(coarse[:8, :8], middle)
    assert (coarse[8:] == BACKGROUND_LOGIT).all() and (coarse[:, 8:] == BACKGROUND_LOGIT).all()


def test_an_extent_is_of_what_was_clicked() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[1:3, 1:2] = mask[5:7, 4:8] = True
    frame = LogitGrid((100, 50), (10, 5))
    assert object_box(mask, frame, np.array([[115, 57]])) == (110, 55, 120, 65)
    assert object_box(mask, frame, np.array([[175, 77]])) == (140, 75, 180, 85)
    assert object_box(mask, frame, np.array([[101, 51]])) == (110, 55, 180, 85)
    assert object_box(~mask & mask, frame, NO_POINTS) is None


def test_a_closer_model_answers_as_in_the_middle_of_the_larger_input(small_model: Sam) -> None:
    """Same tokens, same positions: the decoder cannot tell the difference."""
    half = smaller_input_model(small_model, small_model.config.image_size // 2)
    torch.manual_seed(0)
    features = torch.randn(1, 256, 4, 4)
    coords, labels = torch.rand(3, 2, 2) * 64, torch.tensor([[1.0, 0.0]] * 3)
    with torch.no_grad():
        found, ious = half.decode(features, (coords, labels), None, None, True)
        sparse, dense = small_model.prompt_encoder((coords + 32, labels))
        positions = small_model.prompt_encoder.get_dense_pe()[..., 2:6, 2:6]
        expected, expected_ious = small_model.mask_decoder.predict_masks(
            features.expand(3, -1, -1, -1), positions, sparse, dense[..., :4, :4]
        )
    torch.testing.assert_close(found, expected[:, 1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ious, expected_ious[:, 1:], atol=1e-5, rtol=1e-4)


def test_small_objects_come_out(
    predictor: samlet.Predictor,
    embedding: ImageEmbedding,
    far_away: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    _, masks = far_away
    found: dict[bool, list[list[float]]] = {}
    for zoom in (False, True):
        chosen = predictor if zoom else samlet.Predictor(predictor.model, zoom=False)
        points = [[deepest_point(mask)] for mask in masks]
        boxes = [box_xyxy(mask) for mask in masks]
        clicked = chosen.segment_batch(embedding, points, np.ones((len(masks), 1)))
        boxed = chosen.segment_batch(embedding, boxes=boxes, multimask_output=False)
        found[zoom] = [
            [iou(answer.best, mask) for answer, mask in zip(answers, masks, strict=True)]
            for answers in (clicked, boxed)
        ]
    (click, box), (far_click, far_box) = (np.mean(found[zoom], axis=1) for zoom in (True, False))
    assert click > max(0.7, far_click + 0.1)
    assert box > max(0.8, far_box + 0.1)


def test_the_pass_of_the_highest_predicted_iou_answers(predictor: samlet.Predictor) -> None:
    """Some cells are segmented better in the whole image."""
    embedding = predictor.encode(images.read(samples.IMAGES / "phase_contrast_1.png"))
    labels = from_label_map(read_label_map(samples.LABELS / "phase_contrast_1.png"))
    points = [[deepest_point(mask)] for _, mask in labels][:12]
    prompts = (embedding, points, np.ones((len(points), 1)))
    coarse = predictor.segment_batch(*prompts, zoom=False)
    fine = predictor.segment_batch(*prompts)
    ious = np.array(
        [[p.iou_predictions.max() for p in (a, b)] for a, b in zip(coarse, fine, strict=True)]
    )
    assert (ious[:, 1] >= ious[:, 0] - 1e-5).all()
    same = [np.array_equal(a.best, b.best) for a, b in zip(coarse, fine, strict=True)]
    assert any(same) and not all(same)


def test_a_second_click_goes_on_from_what_was_zoomed_in_on(
    predictor: samlet.Predictor,
    embedding: ImageEmbedding,
    far_away: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    """The low-resolution logits are of the whole image, and the next click goes on from them."""
    _, masks = far_away
    first = deepest_point(masks[0])
    one = predictor.segment(embedding, [first], [1])
    logits = one.low_res_masks[one.best_index]
    assert logits.shape == (256, 256)
    enlarged = predictor.runner.upsample(torch.from_numpy(logits[None]), embedding)[0]
    assert iou(enlarged, one.best) > 0.5
    rows, columns = np.nonzero(masks[0])
    second = (columns[len(columns) // 4], rows[len(rows) // 4])
    both = predictor.segment(
        embedding, [first, second], [1, 1], mask_input=logits, multimask_output=False
    )
    assert both.best[second[1], second[0]]
    assert iou(both.best, masks[0]) > 0.75
    beside = deepest_point(masks[1])
    either = predictor.segment(
        embedding, [first, beside], [1, 0], mask_input=logits, multimask_output=False
    )
    assert either.best[first[1], first[0]] and not either.best[beside[1], beside[0]]


def test_one_prompt_is_answered_as_in_a_batch(
    predictor: samlet.Predictor,
    embedding: ImageEmbedding,
    far_away: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    _, masks = far_away
    points = [[deepest_point(mask)] for mask in masks]
    batch = predictor.segment_batch(embedding, points, np.ones((len(points), 1)))
    for point, answer in zip(points, batch, strict=True):
        alone = predictor.segment(embedding, point, [1])
        assert iou(alone.best, answer.best) > 0.99


def test_saved_embeddings_zoom_again(
    predictor: samlet.Predictor,
    embedding: ImageEmbedding,
    far_away: tuple[np.ndarray, list[np.ndarray]],
    tmp_path: Path,
) -> None:
    image, masks = far_away
    embedding.save(tmp_path / "saved.safetensors")
    loaded = ImageEmbedding.load(tmp_path / "saved.safetensors")
    assert loaded.image is None
    box = box_xyxy(masks[0])
    expected = predictor.segment(embedding, box=box, multimask_output=False).best
    again = predictor.with_image(loaded, image)
    assert np.array_equal(predictor.segment(again, box=box, multimask_output=False).best, expected)


def test_sam_predictor_zooms_in(
    predictor: samlet.Predictor,
    embedding: ImageEmbedding,
    far_away: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    image, masks = far_away
    drop_in = samlet.SamPredictor(predictor.model)
    drop_in.set_image(image)
    point = np.array([deepest_point(masks[0])])
    found, ious, logits = drop_in.predict(point, np.array([1]))
    expected = predictor.segment(embedding, point, [1])
    assert np.array_equal(found, expected.masks)
    np.testing.assert_allclose(ious, expected.iou_predictions, atol=1e-5)
    np.testing.assert_allclose(logits, expected.low_res_masks, atol=1e-4)


def test_fewer_pixels_than_the_image_has(
    predictor: samlet.Predictor,
    embedding: ImageEmbedding,
    far_away: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    """Of a huge image napari reads every n-th pixel; masks are as large as the image even so."""
    _, masks = far_away
    large = dataclasses.replace(embedding, original_size=(3000, 3600))
    box = 2 * np.array(box_xyxy(masks[0]))
    found = predictor.segment(large, box=box, multimask_output=False).best
    assert found.shape == (3000, 3600)
    assert iou(found, masks[0].repeat(2, axis=0).repeat(2, axis=1)) > 0.75


def test_models_do_not_zoom_unless_made_for_it(small_model: Sam) -> None:
    predictor = samlet.Predictor(small_model)
    embedding = predictor.encode(np.zeros((90, 150, 3), np.uint8))
    assert embedding.image is None
    assert logit_grid_of(embedding).cell == pytest.approx((150 / 32, 90 / 19.25))


def test_a_model_that_cannot_zoom_says_so() -> None:
    tiny = Sam(dataclasses.replace(SMALL, image_size=96))
    with pytest.raises(UserError, match="cannot zoom"):
        samlet.Predictor(tiny, zoom=True)
