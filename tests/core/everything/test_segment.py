"""The one pipeline behind every "everything": each object once, by whatever way it is called."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import samlet
from samlet.cli.main import app
from samlet.engines import open_engine
from samlet.everything.duplicates import DUPLICATE_IOU, without_duplicates
from samlet.everything.settings import complete_settings
from samlet.masks import from_rle, iou, to_rle
from tests.core.conftest import sample
from tests.models import nuclei_at


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(sample("fluorescence_2").image[:200, :240])


@pytest.fixture(scope="module")
def predictor() -> samlet.Predictor:
    return samlet.Predictor(nuclei_at(384))


@pytest.fixture(scope="module")
def objects(predictor: samlet.Predictor, image: np.ndarray) -> list[dict[str, Any]]:
    return samlet.segment_everything(predictor, image, prompts="regions")


def test_every_object_comes_once(
    predictor: samlet.Predictor, image: np.ndarray, objects: list[dict[str, Any]]
) -> None:
    masks = [from_rle(one["segmentation"]) for one in objects]
    assert len(masks) > 3
    assert all(iou(a, b) <= DUPLICATE_IOU for i, a in enumerate(masks) for b in masks[:i])
    predicted = [one["predicted_iou"] for one in objects]
    assert predicted == sorted(predicted, reverse=True)
    # Nothing but duplicates is left out of what the mask generator finds with the same settings.
    generator = samlet.SamAutomaticMaskGenerator(
        predictor,
        output_mode="coco_rle",
        **complete_settings(predictor.model, {"prompts": "regions"}),
    )
    for record in generator.generate(image):
        mask = from_rle(record["segmentation"])
        assert record in objects or any(iou(mask, one) > DUPLICATE_IOU for one in masks)


def test_the_command_line_finds_the_same(
    image: np.ndarray, objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    Image.fromarray(image).save(tmp_path / "a.png")
    model = tmp_path / "model.safetensors"
    samlet.save(nuclei_at(384), model, card=nuclei_at(384).card)
    arguments = [tmp_path / "a.png", "--out", tmp_path / "out", "--model", model]
    arguments += ["--prompts", "regions"]
    result = CliRunner().invoke(app, ["everything", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out" / "a.png.coco.json").read_text())["annotations"]
    assert [one["segmentation"] for one in written] == [one["segmentation"] for one in objects]


def test_duplicates_are_those_of_a_comparison_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    records = []
    for predicted_iou in rng.permutation(60) / 60:
        x, y = rng.integers(0, 30, 2)
        width, height = rng.integers(1, 12, 2)
        mask = np.zeros((40, 44), dtype=bool)
        mask[y : y + height, x : x + width] = True
        box = [int(x), int(y), int(width) - 1, int(height) - 1]
        records.append({"segmentation": to_rle(mask), "bbox": box, "predicted_iou": predicted_iou})
    expected: list[dict[str, Any]] = []
    for record in sorted(records, key=lambda one: -one["predicted_iou"]):
        mask = from_rle(record["segmentation"])
        if all(iou(mask, from_rle(one["segmentation"])) <= DUPLICATE_IOU for one in expected):
            expected.append(record)
    assert without_duplicates(records) == expected
    assert 10 < len(expected) < 60
    assert without_duplicates([]) == []


def test_settings_complete_those_of_the_model() -> None:
    model = nuclei_at(256)
    assert complete_settings(model, {}) == complete_settings(model, {"prompts": "proposals"})
    assert complete_settings(model, {"zoom": False})["prompts"] == "regions"
    assert complete_settings(model, {"points_per_side": 4})["prompts"] == "grid"
    chosen = complete_settings(model, {"points_per_side": 4, "prompts": "hierarchical"})
    assert chosen["prompts"] == "hierarchical" and chosen["zoom"]
    card = model.card["proposals"]
    assert complete_settings(model, {"pred_iou_thresh": 0.1}) == {
        **complete_settings(model, {}),
        **card,
        "pred_iou_thresh": 0.1,
    }


def test_a_generator_uses_the_predictor_that_it_gets(predictor: samlet.Predictor) -> None:
    generator = samlet.SamAutomaticMaskGenerator(predictor)
    assert generator.predictor is predictor and generator.model is predictor.model
    coarse = samlet.Predictor(predictor.model, zoom=False)
    with pytest.raises(samlet.UserError, match="make it with zoom=True"):
        samlet.SamAutomaticMaskGenerator(coarse, zoom=True)
    other = open_engine(nuclei_at(128), "torch")
    with pytest.raises(samlet.UserError, match="Give the engine to the Predictor"):
        samlet.SamAutomaticMaskGenerator(predictor, engine=other)


def test_zoom_can_be_left_out(predictor: samlet.Predictor, image: np.ndarray) -> None:
    coarse = samlet.Predictor(predictor.model, zoom=False)
    expected = samlet.segment_everything(coarse, image, prompts="regions")
    assert samlet.segment_everything(predictor, image, zoom=False) == expected
