"""Parity with the official MobileSAM on the same random weights."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data, transform

import samlet
from samlet.modeling.sam import Sam


def picture(height: int, width: int) -> np.ndarray:
    """A photograph squeezed to a size, uint8, H x W x 3."""
    resized = transform.resize(data.astronaut(), (height, width), anti_aliasing=True)
    return (resized * 255).astype(np.uint8)


IMAGES = {
    "square": picture(512, 512),
    "wide": picture(300, 900),
    "tall": picture(801, 333),
    "tiny": picture(37, 500),
    "large": picture(1500, 1200),
}

PROMPTS: dict[str, dict[str, Any]] = {
    "one point": {"point_coords": [[0.5, 0.4]], "point_labels": [1]},
    "many points": {
        "point_coords": [[0.5, 0.4], [0.1, 0.9], [0.8, 0.2], [0.33, 0.5]],
        "point_labels": [1, 0, 1, 0],
    },
    "a box": {"box": [0.2, 0.1, 0.7, 0.8]},
    "box and points": {
        "box": [0.2, 0.1, 0.7, 0.8],
        "point_coords": [[0.5, 0.4], [0.25, 0.7]],
        "point_labels": [1, 0],
    },
    "a mask": {"mask_input": True},
    "a mask and a point": {
        "mask_input": True,
        "point_coords": [[0.5, 0.4]],
        "point_labels": [1],
    },
}


def prompt_for(image: np.ndarray, name: str) -> dict[str, Any]:
    """The named prompt in pixels of this image."""
    height, width = image.shape[:2]
    prompt = dict(PROMPTS[name])
    if "point_coords" in prompt:
        prompt["point_coords"] = np.array(prompt["point_coords"]) * [width, height]
        prompt["point_labels"] = np.array(prompt["point_labels"])
    if "box" in prompt:
        prompt["box"] = np.array(prompt["box"]) * [width, height, width, height]
    if "mask_input" in prompt:
        rng = np.random.default_rng(0)
        prompt["mask_input"] = rng.normal(0, 4, (1, 256, 256)).astype(np.float32)
    return prompt


@pytest.fixture(scope="module")
def predictors(official: Any, ours: Sam) -> tuple[Any, samlet.SamPredictor, samlet.Predictor]:
    """The reference, and ours in each engine."""
    from mobile_sam import SamPredictor

    return (
        SamPredictor(official),
        samlet.SamPredictor(ours, "torch"),
        samlet.Predictor(ours, "openvino"),
    )


def note(maxima: dict[str, float], name: str, a: np.ndarray, b: np.ndarray) -> float:
    difference = float(np.abs(np.asarray(a, np.float64) - b).max())
    maxima[name] = max(maxima.get(name, 0.0), difference)
    return difference


@pytest.mark.parametrize("image_name", ["tiny", "large"])
def test_same_masks_at_the_edges(
    image_name: str,
    predictors: tuple[Any, samlet.SamPredictor, samlet.Predictor],
    maxima: dict[str, float],
) -> None:
    """Where images are smallest and largest, one prompt tells whether they are resized alike."""
    theirs, drop_in, _ = predictors
    image = IMAGES[image_name]
    theirs.set_image(image)
    drop_in.set_image(image)
    expected = theirs.get_image_embedding().detach().numpy()
    assert expected.std() > 0.1
    assert note(maxima, "embedding", expected, drop_in.get_image_embedding().numpy()) < 1e-4
    prompt = prompt_for(image, "box and points")
    reference, answer = theirs.predict(**prompt), drop_in.predict(**prompt)
    assert [x.shape for x in answer] == [x.shape for x in reference]
    assert (answer[0] == reference[0]).mean() >= 0.9999
    assert note(maxima, "low_res_masks", reference[2], answer[2]) < 1e-3
    assert any(0.02 < mask.mean() < 0.98 for mask in answer[0])


@pytest.mark.parametrize("image_name", [pytest.param("wide", marks=pytest.mark.slow), "tall"])
def test_same_masks_for_every_prompt(
    image_name: str,
    predictors: tuple[Any, samlet.SamPredictor, samlet.Predictor],
    maxima: dict[str, float],
) -> None:
    theirs, drop_in, predictor = predictors
    image = IMAGES[image_name]
    theirs.set_image(image)
    drop_in.set_image(image)
    embedding = predictor.encode(image)
    expected = theirs.get_image_embedding().detach().numpy()
    assert expected.std() > 0.1
    assert note(maxima, "embedding", expected, drop_in.get_image_embedding().numpy()) < 1e-4
    assert note(maxima, "embedding", expected[0], embedding.features.numpy()) < 1e-4

    shares = []
    for number, prompt_name in enumerate(PROMPTS):
        prompt = prompt_for(image, prompt_name)
        # Both on one image; on the other they alternate.
        for multimask_output in (True, False) if image_name == "wide" else (number % 2 == 0,):
            reference = theirs.predict(**prompt, multimask_output=multimask_output)
            answer = drop_in.predict(**prompt, multimask_output=multimask_output)
            shares.append(answer[0].mean())
            assert [x.shape for x in answer] == [x.shape for x in reference]
            assert [x.dtype for x in answer] == [x.dtype for x in reference]
            value = predictor.segment(embedding, **prompt, multimask_output=multimask_output)
            ours = (value.masks, value.iou_predictions, value.low_res_masks)
            for masks, iou, low_res in (answer, ours):
                same = (masks == reference[0]).mean()
                maxima["pixels that differ"] = max(maxima.get("pixels that differ", 0), 1 - same)
                assert same >= 0.9999, prompt_name
                assert note(maxima, "iou_predictions", reference[1], iou) < 1e-4, prompt_name
                assert note(maxima, "low_res_masks", reference[2], low_res) < 1e-3, prompt_name
    # Random weights must give masks with both values, or equality would mean nothing.
    assert any(0.02 < share < 0.98 for share in shares)


def test_batches_of_prompts(
    predictors: tuple[Any, samlet.SamPredictor, samlet.Predictor], maxima: dict[str, float]
) -> None:
    theirs, _, predictor = predictors
    image = IMAGES["wide"]
    height, width = image.shape[:2]
    rng = np.random.default_rng(1)
    coords = rng.uniform(0, 1, (7, 3, 2)) * [width, height]
    labels = rng.integers(0, 2, (7, 3))
    corners = np.sort(rng.uniform(0, 1, (7, 2, 2)), axis=1) * [width, height]
    boxes = corners.reshape(7, 4)
    theirs.set_image(image)
    embedding = predictor.encode(image)
    as_tensor = theirs.transform.apply_coords_torch(torch.tensor(coords), (height, width))
    for given in ("points", "boxes", "both"):
        use_points, use_boxes = given != "boxes", given != "points"
        reference = theirs.predict_torch(
            as_tensor if use_points else None,
            torch.tensor(labels) if use_points else None,
            theirs.transform.apply_boxes_torch(torch.tensor(boxes), (height, width))
            if use_boxes
            else None,
        )
        answers = predictor.segment_batch(
            embedding,
            coords if use_points else None,
            labels if use_points else None,
            boxes if use_boxes else None,
        )
        for i, answer in enumerate(answers):
            assert (answer.masks == reference[0][i].numpy()).mean() >= 0.9999
            assert (
                note(maxima, "low_res_masks", reference[2][i].numpy(), answer.low_res_masks) < 1e-3
            )
            assert (
                note(maxima, "iou_predictions", reference[1][i].numpy(), answer.iou_predictions)
                < 1e-4
            )


def test_grey_input(predictors: tuple[Any, Any, samlet.Predictor]) -> None:
    theirs, _, predictor = predictors
    grey = IMAGES["square"][:, :, 1]
    theirs.set_image(np.repeat(grey[:, :, None], 3, axis=2))
    expected = theirs.get_image_embedding()[0].detach().numpy()
    assert np.abs(predictor.encode(grey).features.numpy() - expected).max() < 1e-4


def test_batched_forward(official: Any, ours: Sam) -> None:
    """`Sam.forward` on a list of images, as in the public notebook."""
    records = []
    for name in ("wide", "square"):
        image = IMAGES[name]
        resizer = samlet.SamPredictor(ours).transform
        pixels = torch.as_tensor(resizer.apply_image(image)).permute(2, 0, 1).contiguous()
        boxes = torch.tensor([[10, 20, 200, 220], [50, 5, 120, 90]])
        records.append(
            {
                "image": pixels,
                "boxes": resizer.apply_boxes_torch(boxes, image.shape[:2]),
                "original_size": image.shape[:2],
            }
        )
    for theirs, mine in zip(official(records, False), ours(records, False), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["masks"].shape == theirs["masks"].shape
        assert (mine["masks"] == theirs["masks"]).float().mean() >= 0.9999
        torch.testing.assert_close(
            mine["low_res_logits"], theirs["low_res_logits"], atol=1e-3, rtol=0
        )


def test_our_files_load_in_the_official_package(ours: Sam, official: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam import sam_model_registry

    path = tmp_path / "written_by_samlet.pt"
    samlet.save(ours, path)
    theirs = sam_model_registry["vit_t"](checkpoint=str(path))
    written, original = theirs.state_dict(), official.state_dict()
    assert written.keys() == original.keys()
    differing = [k for k in original if not torch.equal(written[k], original[k])]
    assert all(k.startswith(("image_encoder.norm_head", "image_encoder.head")) for k in differing)


def test_the_official_names_in_and_out(official: Any, official_file: Path, tmp_path: Path) -> None:
    """The lines of every finetuning script, with either package on either side."""
    built = samlet.sam_model_registry["vit_t"]()
    built.load_state_dict(torch.load(official_file))
    torch.save(built.state_dict(), tmp_path / "ours.pt")
    state = torch.load(tmp_path / "ours.pt")
    theirs = official.state_dict()
    assert state.keys() == theirs.keys()
    unused = ("image_encoder.norm_head.", "image_encoder.head.")
    for name, weight in theirs.items():
        assert name.startswith(unused) or torch.equal(state[name], weight)
    copy.deepcopy(official).load_state_dict(state)
