"""Arrays and arguments as users of segment_anything and NumPy pass them, for all models."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samlet
from samlet import samples
from samlet.modeling.sam import Sam
from tests.models import nuclei_at

RGB = samlet.images.read(samples.IMAGES / "fluorescence_2.png")[:200, :300]
POINT, LABEL = np.array([[100, 60]]), np.array([1])


@pytest.fixture(scope="module", params=["zooms", "does not"])
def any_model(request: pytest.FixtureRequest, small_model: Sam) -> Sam:
    return nuclei_at(256) if request.param == "zooms" else small_model


@pytest.fixture(scope="module")
def predictor(any_model: Sam) -> samlet.SamPredictor:
    predictor = samlet.SamPredictor(any_model)
    assert (predictor._predictor.zoom is None) is (any_model.config.image_size == 128)
    return predictor


@pytest.fixture
def ready(predictor: samlet.SamPredictor) -> samlet.SamPredictor:
    predictor.set_image(RGB)
    return predictor


GREY = RGB[..., 0]
ARRAYS: dict[str, tuple[Any, str, np.ndarray]] = {
    "H x W": (GREY, "RGB", GREY),
    "H x W, BGR": (GREY, "BGR", GREY),
    "H x W x 1": (GREY[..., None], "RGB", GREY),
    "RGBA": (np.dstack([RGB, np.full_like(GREY, 255)]), "RGB", RGB),
    "BGRA": (np.dstack([RGB[..., ::-1], np.full_like(GREY, 255)]), "BGR", RGB),
    "BGR": (RGB[..., ::-1], "BGR", RGB),
    "float 0 to 1": ((RGB / 255).astype(np.float32), "RGB", RGB.astype(np.float32)),
    "16 bit": (RGB.astype(np.uint16) * 16, "RGB", RGB.astype(np.uint16)),
    "16 bit, big endian": (RGB.astype(">u2"), "RGB", RGB.astype(np.uint16)),
    "signed": (RGB.astype(np.int64), "RGB", RGB.astype(np.float64)),
    "bool": (GREY > 50, "RGB", GREY > 50),
    "read only": (np.broadcast_to(GREY[..., None], RGB.shape), "RGB", GREY),
    "Pillow": (Image.fromarray(RGB), "RGB", RGB),
    "a tensor": (torch.from_numpy(RGB.copy()), "RGB", RGB),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_images(predictor: samlet.SamPredictor, kind: str) -> None:
    given, image_format, same = ARRAYS[kind]
    predictor.set_image(given, image_format)
    found = predictor.get_image_embedding()
    predictor.set_image(samlet.images.to_rgb(same))
    # Scaling of other types rounds once more.
    assert torch.allclose(found, predictor.get_image_embedding(), atol=2e-2)
    assert predictor.predict(POINT, LABEL)[0].shape == (3, 200, 300)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((3, 200, 300), np.uint8), "channels first"),
        (np.zeros((200, 300, 7), np.uint8), "has 7 channels"),
        (np.zeros((0, 300, 3), np.uint8), "not empty"),
        (np.zeros((1, 200, 300, 3), np.uint8), "H x W"),
        (np.zeros((200, 300), complex), "real numbers"),
        (None, "is no array"),
        ("image.png", "is no array"),
    ],
)
def test_what_is_no_image(predictor: samlet.SamPredictor, given: Any, sentence: str) -> None:
    with pytest.raises(samlet.UserError, match=sentence):
        predictor.set_image(given)


def test_mask_inputs_of_every_shape(ready: samlet.SamPredictor) -> None:
    logits = ready.predict(POINT, LABEL)[2]
    whole = ready.predict(POINT, LABEL, mask_input=logits[1:2])
    for shape in (logits[1], torch.from_numpy(logits[1:2]), logits[1].tolist()):
        for a, b in zip(whole, ready.predict(POINT, LABEL, mask_input=shape), strict=True):
            np.testing.assert_array_equal(a, b)
    for wrong in (logits, ready.predict(POINT, LABEL)[0][0], logits[0, 0], logits[None]):
        with pytest.raises(
            samlet.UserError, match="row of the low_res_masks of an earlier prediction"
        ):
            ready.predict(POINT, LABEL, mask_input=wrong)
    with pytest.raises(samlet.UserError, match="mask_input is B x 1 x"):
        point = torch.tensor([[[10.0, 10.0]]])
        ready.predict_torch(point, torch.ones(1, 1), mask_input=torch.from_numpy(logits))


def test_no_prompts_have_no_masks(ready: samlet.SamPredictor) -> None:
    side = ready.model.config.image_size // 4
    for count, multimask in ((3, True), (1, False)):
        empty = (
            {"boxes": torch.zeros(0, 4), "point_coords": None, "point_labels": None},
            {"point_coords": torch.zeros(0, 1, 2), "point_labels": torch.zeros(0, 1)},
        )
        for prompts in empty:
            masks, ious, logits = ready.predict_torch(**prompts, multimask_output=multimask)
            assert masks.shape == (0, count, 200, 300) and masks.dtype == torch.bool
            assert ious.shape == (0, count) and logits.shape == (0, count, side, side)
    with pytest.raises(samlet.UserError, match="need point_labels"):
        ready.predict_torch(torch.zeros(1, 1, 2), None)


@pytest.mark.parametrize("empty", [[], np.zeros((0, 4)), np.zeros((0, 4), int), torch.zeros(0, 4)])
def test_no_boxes_have_no_answers(any_model: Sam, empty: Any) -> None:
    predictor = samlet.Predictor(any_model)
    embedding = predictor.encode(RGB)
    assert predictor.segment_batch(embedding, boxes=empty) == []
    assert predictor.segment_batch(embedding, np.zeros((0, 1, 2)), np.zeros((0, 1))) == []
    logits, ious = predictor.decode(embedding, boxes=empty)
    assert logits.shape[:2] == ious.shape == (0, 3)


def test_no_points_beside_a_box_are_none(ready: samlet.SamPredictor) -> None:
    box = np.array([60, 30, 140, 90])
    alone = ready.predict(box=box)
    for coords, labels in (([], []), (np.zeros((0, 2)), np.zeros(0)), (np.zeros((0, 2)), None)):
        for a, b in zip(alone, ready.predict(coords, labels, box[None]), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(samlet.UserError, match="There is no prompt"):
        ready.predict([], [])
    with pytest.raises(samlet.UserError, match="A box has four numbers"):
        ready.predict(box=np.stack([box, box]))


def test_points_outside_are_taken_as_segment_anything_takes_them(
    ready: samlet.SamPredictor,
) -> None:
    """Annotation tools round; what lies a little outside is no reason to stop."""
    for x, y in ((-0.5, 10), (300.4, 199), (10, 205)):
        assert ready.predict(np.array([[x, y]]), LABEL)[0].shape == (3, 200, 300)
    assert ready.predict(box=np.array([-3, -3, 310, 205]))[0].shape == (3, 200, 300)
