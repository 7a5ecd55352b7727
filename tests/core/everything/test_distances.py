"""Objects from distance maps: against micro-sam's own results, and through everything mode."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

import samlet
from samlet.errors import UserError
from samlet.everything import distance_search
from samlet.everything.distance_maps import (
    DistanceThresholds,
    prompt_points,
    watershed_instances,
)
from samlet.everything.settings import complete_settings
from samlet.masks import from_rle
from samlet.modeling.instance_decoder import InstanceDecoderConfig
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.runner import Runner
from samlet.predict.window_decoder import decode_windows
from samlet.predict.zoom import smaller_input_model
from samlet.training.distillation.decoupled import attach_decoder
from tests.core.conftest import SMALL
from tests.references.distances import FILE, SCENES, distance_scene

EQUALLY_HIGH_PIXELS = 3
"""micro-sam floods 65,536 levels, and says that the order within a level is unspecified."""


@pytest.fixture(scope="module")
def model() -> Sam:
    torch.manual_seed(0)
    return Sam(replace(SMALL, instance_decoder=InstanceDecoderConfig())).eval()


@pytest.fixture(scope="module")
def predictor(model: Sam) -> samlet.Predictor:
    return samlet.Predictor(model, "torch")


@pytest.mark.parametrize("scene", SCENES)
def test_labels_are_those_of_micro_sam(scene: str) -> None:
    seed, noise, (center, boundary, foreground, smoothing, min_size) = SCENES[scene]
    thresholds = DistanceThresholds(center, boundary, foreground)
    labels = watershed_instances(distance_scene(seed, noise), thresholds, smoothing, min_size)
    with np.load(FILE) as reference:
        expected = reference[f"{scene} labels"]
    assert labels.max() == expected.max() > 15
    assert np.count_nonzero(labels != expected) <= EQUALLY_HIGH_PIXELS


@pytest.mark.parametrize("scene", SCENES)
def test_prompts_are_those_of_micro_sam(scene: str) -> None:
    seed, noise, (center, boundary, foreground, *_) = SCENES[scene]
    points = prompt_points(
        distance_scene(seed, noise), DistanceThresholds(center, boundary, foreground)
    )
    with np.load(FILE) as reference:
        expected = reference[f"{scene} points"]
    assert len(expected) > 15 and sorted(points.tolist()) == sorted(expected.tolist())


def test_nothing_is_found_where_nothing_is() -> None:
    empty = np.stack([np.zeros((20, 30)), np.ones((20, 30)), np.ones((20, 30))])
    assert prompt_points(empty, DistanceThresholds()).shape == (0, 2)
    assert watershed_instances(empty, DistanceThresholds(), min_size=10).max() == 0
    # All of it is one object.
    full = 1 - empty
    assert len(prompt_points(full, DistanceThresholds())) == 1
    assert (watershed_instances(full, DistanceThresholds()) == 1).all()


def show(scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """An image that tells where a part of it lies in a scene, for a decoder that knows it all.

    Returns:
        RGB, of the scene's size, red and green being the column and row.
    """
    rows, columns = np.indices(scene.shape[1:])
    image = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    seen: list[np.ndarray] = []
    encode = Runner.encode

    def remember(runner: Runner, rgb: np.ndarray) -> ImageEmbedding:
        seen.append(rgb)
        return encode(runner, rgb)

    def known(runner: Runner, embedding: ImageEmbedding) -> np.ndarray:
        (x0, y0), (x1, y1) = seen[-1][0, 0, :2].astype(int), seen[-1][-1, -1, :2].astype(int)
        assert embedding.original_size == (y1 + 1 - y0, x1 + 1 - x0)
        return scene[:, y0 : y1 + 1, x0 : x1 + 1]

    monkeypatch.setattr(Runner, "encode", remember)
    monkeypatch.setattr(distance_search, "distance_maps_of", known)
    return image


def label_map(records: list[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    labels = np.zeros(size, int)
    for number, record in enumerate(records, start=1):
        mask = from_rle(record["segmentation"])
        assert mask.sum() == record["area"] and not labels[mask].any()
        (x, y), *_ = record["point_coords"]
        assert mask[int(y), int(x)]
        labels[mask] = number
    return labels


def test_a_watershed_gives_the_labels_as_objects(
    predictor: samlet.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = distance_scene(0, 0.05)
    image = show(scene, monkeypatch)
    records = samlet.segment_everything(predictor, image, prompts="watershed", tile=256, min_size=9)
    expected = watershed_instances(scene, DistanceThresholds(), min_size=9)
    found = label_map(records, image.shape[:2])
    assert len(records) == expected.max()
    pairs = np.unique(np.stack([found[expected > 0], expected[expected > 0]]), axis=1)
    assert pairs.shape[1] == len(records) and ((found > 0) == (expected > 0)).all()
    foreground = scene[0]
    for record in records:
        mask = from_rle(record["segmentation"])
        assert record["predicted_iou"] == pytest.approx(foreground[mask].mean(), abs=1e-5)


def test_tiles_give_the_objects_of_the_whole(
    predictor: samlet.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = distance_scene(0, 0.0)
    image = show(scene, monkeypatch)
    whole, tiled = (
        samlet.segment_everything(
            predictor, image, prompts="watershed", tile=tile, overlap=64, min_size=20
        )
        for tile in (256, 128)
    )
    assert len({tuple(record["crop_box"]) for record in tiled}) > 3
    masks = [from_rle(record["segmentation"]) for record in tiled]
    matched = 0
    for record in whole:
        mask = from_rle(record["segmentation"])
        matched += any((mask & one).sum() > 0.9 * (mask | one).sum() for one in masks)
    assert matched >= 0.9 * len(whole) and abs(len(tiled) - len(whole)) <= 2


def test_points_from_distances_are_prompts(
    predictor: samlet.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks are the model's own for these points, one each, as clicks give them."""
    scene = distance_scene(1, 0.0, (96, 128))
    image = show(scene, monkeypatch)
    points = prompt_points(scene, DistanceThresholds())
    objects = samlet.segment_everything(predictor, image, min_size=0)
    assert 0 < len(objects) <= len(points)
    embedding = predictor.encode(image)
    for record in objects:
        (point,) = record["point_coords"]
        assert point in points.tolist()
        clicked = predictor.segment(embedding, [point], [1], multimask_output=False)
        assert (clicked.masks[0] == from_rle(record["segmentation"])).mean() > 0.999
        assert record["predicted_iou"] == pytest.approx(float(clicked.iou_predictions[0]), abs=1e-4)


def test_points_are_decoded_in_windows_without_boxes(model: Sam) -> None:
    runner = Runner(model, "torch")
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    embedding = runner.encode(image)
    points = np.array([[40.0, 70.0], [100.0, 30.0]])
    window = Runner(smaller_input_model(model, 64), "torch")
    assert window.model.instance_decoder is None
    decoded = list(decode_windows(window, embedding, points, None, -np.inf))
    assert [one.prompt for one in decoded] == [0, 1]
    part = embedding.features[None, :, 2:6, 0:4]
    moved = torch.tensor(points[:1] - (0, 32), dtype=torch.float)[None]
    with torch.no_grad():
        logits, _ = window.model.decode(part, (moved, torch.ones(1, 1)), None, None, False)
    assert np.allclose(decoded[0].logits[8:24, 0:16], logits[0, 0].numpy(), atol=1e-4)


@pytest.mark.parametrize("prompts", ["distances", "watershed"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (70, 50), (200, 210)])
def test_any_image_with_a_real_decoder(
    predictor: samlet.Predictor, prompts: str, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    shares: list[float] = []
    for record in samlet.segment_everything(
        predictor, image, prompts=prompts, min_size=0, progress=shares.append
    ):
        assert from_rle(record["segmentation"]).shape == size
    assert shares == sorted(shares) and shares[-1] == 1


def test_maps_are_of_the_image(predictor: samlet.Predictor) -> None:
    """Against the decoder's output, reduced by another library."""
    image = np.random.default_rng(0).integers(0, 256, (60, 64, 3), np.uint8)
    embedding = predictor.encode(image)
    maps = distance_search.distance_maps_of(predictor.runner, embedding)
    predicted = predictor.engine.predict_distances(embedding.features[None])[0].numpy()
    assert maps.shape == (3, 60, 64)
    blocks = predicted[:, :120, :128].reshape(3, 60, 2, 64, 2).mean(axis=(2, 4))
    assert np.allclose(maps, blocks, atol=1e-5)


def test_settings_of_each_way(model: Sam, small_model: Sam) -> None:
    chosen = complete_settings(model, {})
    assert chosen["prompts"] == "distances" and chosen["pred_iou_thresh"] == 0
    assert complete_settings(model, {"distance_smoothing": 1.0})["prompts"] == "watershed"
    assert complete_settings(model, {"points_per_side": 4})["prompts"] == "grid"
    both = Sam(model.config)
    both.card = {"prompts": "watershed", "watershed": {"min_size": 7}}
    assert complete_settings(both, {})["min_size"] == 7
    with pytest.raises(UserError, match="pred_iou_thresh does not apply to prompts by watershed"):
        complete_settings(model, {"prompts": "watershed", "pred_iou_thresh": 0.5})
    with pytest.raises(UserError, match="choose prompts by distances, watershed"):
        complete_settings(small_model, {"min_size": 3})


@pytest.mark.parametrize("prompts", ["distances", "watershed"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"min_size": -1},
        {"center_distance_threshold": 2},
        {"foreground_threshold": -0.1},
        {"tile": 8},
        {"tile": 64, "overlap": 60},
    ],
)
def test_wrong_settings(predictor: samlet.Predictor, prompts: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        samlet.segment_everything(
            predictor, np.zeros((9, 9, 3), np.uint8), prompts=prompts, **wrong
        )


@pytest.mark.parametrize("prompts", ["distances", "watershed"])
def test_a_model_without_a_decoder_says_so(small_model: Sam, prompts: str) -> None:
    predictor = samlet.Predictor(small_model, "torch")
    with pytest.raises(UserError, match="has no instance decoder: choose other prompts"):
        samlet.segment_everything(predictor, np.zeros((9, 9, 3), np.uint8), prompts=prompts)


def test_small_masks_are_left_out(
    predictor: samlet.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = distance_scene(2, 0.0)
    image = show(scene, monkeypatch)
    labels = watershed_instances(scene, DistanceThresholds())
    areas = ndimage.sum_labels(np.ones_like(labels), labels, np.arange(1, labels.max() + 1))
    limit = int(np.median(areas))
    records = samlet.segment_everything(
        predictor, image, prompts="watershed", tile=256, min_size=limit
    )
    assert len(records) == int((areas >= limit).sum())


def test_a_student_gets_the_decoder_of_its_teacher(model: Sam) -> None:
    student = attach_decoder(model, Sam(SMALL))
    assert student.config.instance_decoder == model.config.instance_decoder
    expected, state = model.state_dict(), student.state_dict()
    names = [name for name in expected if name.startswith("instance_decoder.")]
    assert len(names) == 66 and all(torch.equal(state[name], expected[name]) for name in names)
