"""The example flows of `segment_anything`'s README, run with the import changed."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

import samlet
from samlet.modeling.sam import Sam


def readme_flow(package: ModuleType, checkpoint: Path, image: np.ndarray) -> tuple[Any, ...]:
    """README of segment_anything, "Getting Started", word for word but for the package."""
    sam = package.sam_model_registry["vit_t"](checkpoint=str(checkpoint))
    sam.to(device="cpu")
    sam.eval()
    predictor = package.SamPredictor(sam)
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(
        point_coords=np.array([[200, 150]]), point_labels=np.array([1]), multimask_output=True
    )
    mask_input = logits[np.argmax(scores), :, :]
    again = predictor.predict(
        point_coords=np.array([[200, 150], [260, 180]]),
        point_labels=np.array([1, 0]),
        box=np.array([100, 50, 400, 300]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    boxes = torch.tensor([[75, 75, 325, 350], [25, 75, 200, 200]])
    transformed = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
    batch = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed, multimask_output=False
    )
    return masks, scores, logits, *again, *(x.detach().numpy() for x in batch)


def test_readme_flow(official_file: Path) -> None:
    import mobile_sam

    image = data.astronaut()
    reference = readme_flow(mobile_sam, official_file, image)
    answer = readme_flow(samlet, official_file, image)
    for theirs, mine in zip(reference, answer, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        if theirs.dtype == bool:
            assert (mine == theirs).mean() >= 0.9999
        else:
            np.testing.assert_allclose(mine, theirs, atol=1e-3, rtol=0)


def test_bgr_and_state(ours: Sam) -> None:
    image = data.astronaut()
    predictor = samlet.SamPredictor(ours)
    predictor.set_image(image)
    rgb = predictor.get_image_embedding()
    predictor.set_image(np.ascontiguousarray(image[..., ::-1]), image_format="BGR")
    assert torch.equal(predictor.get_image_embedding(), rgb)
    predictor.reset_image()
    assert not predictor.is_image_set
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict(point_coords=np.array([[1, 1]]), point_labels=np.array([1]))
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.get_image_embedding()
