"""EfficientViT-SAM against its publisher's own code, whose outputs are stored.

All five official variants, with random weights, gave the same embeddings and masks as that code to
2e-5 in float32 (2026-11-30, images of two sizes).
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import samlet
from samlet.checkpoints.official import infer_config
from samlet.everything.segment import segment_everything
from samlet.export import onnx_graphs
from samlet.masks import from_rle, iou
from samlet.modeling.efficientvit import EFFICIENTVITS, EfficientViTConfig
from samlet.modeling.sam import Sam, SamConfig
from samlet.training.distillation.batches import normalize_images
from tests.references.distances import random_state
from tests.references.efficientvit import FILE, POINT, SMALL, digest, image, thinned


def small_model(variant: str) -> Sam:
    with np.load(FILE) as reference:
        names, shapes = reference[f"{variant} names"], reference[f"{variant} shapes"]
    layout = {str(n): tuple(map(int, s.split())) for n, s in zip(names, shapes, strict=True)}
    state = {name: torch.from_numpy(value) for name, value in random_state(layout).items()}
    config = SamConfig(
        "efficientvit", tiny_vit=None, efficientvit=EfficientViTConfig(*SMALL[variant])
    )
    model = Sam(config).eval()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def model() -> Sam:
    return small_model("l")


@pytest.mark.parametrize("name", EFFICIENTVITS)
def test_the_layout_is_the_official_one(name: str) -> None:
    config = SamConfig("efficientvit", tiny_vit=None, efficientvit=EFFICIENTVITS[name])
    with torch.device("meta"):
        state = Sam(config).state_dict()
    with np.load(FILE) as reference:
        expected = str(reference[f"{name.rpartition('_')[2]} layout"])
    assert digest((key, tuple(value.shape)) for key, value in state.items()) == expected
    assert infer_config(state) == config


@pytest.mark.parametrize("variant", SMALL)
def test_embedding_and_masks_are_the_publishers(variant: str) -> None:
    """Through the whole predictor: resizing, padding, coordinates."""
    predictor = samlet.SamPredictor(small_model(variant), "torch", precision="float32")
    predictor.set_image(image())
    _, iou_predictions, low_res_masks = predictor.predict(POINT, [1])
    assert predictor.input_size == (821, 1024)
    with np.load(FILE) as reference:
        for name, found in (
            ("embedding", thinned(predictor.get_image_embedding().numpy())),
            ("iou_predictions", iou_predictions),
            ("low_res_masks", low_res_masks[:, ::4, ::4]),
        ):
            expected = reference[f"{variant} {name}"]
            assert expected.std() > 0.01
            assert np.abs(found - expected).max() < 1e-4 * max(1, expected.std())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_gives_the_same_model(model: Sam, suffix: str, tmp_path: Path) -> None:
    samlet.save(model, tmp_path / f"model{suffix}")
    loaded = samlet.load(tmp_path / f"model{suffix}")
    assert loaded.config == model.config
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(loaded.image_encoder(pixels), model.image_encoder(pixels))


def test_openvino_gives_the_same_embedding(model: Sam) -> None:
    torch_one, openvino_one = (
        samlet.Predictor(model, engine=engine, precision="float32").encode(image()).features
        for engine in ("torch", "openvino")
    )
    assert (torch_one - openvino_one).abs().max() < 1e-3 * torch_one.std()


@pytest.mark.usefixtures("with_bfloat16")
def test_half_precision_is_close(model: Sam) -> None:
    exact, half = (
        samlet.Predictor(model, "torch", precision=precision).encode(image()).features
        for precision in ("float32", "bfloat16")
    )
    assert 0 < (exact - half).abs().mean() < 0.05 * exact.std()


def test_everything_mode_finds_what_prompts_find(model: Sam) -> None:
    predictor = samlet.Predictor(model, "torch", precision="float32")
    found = segment_everything(
        predictor, image(), points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0
    )
    assert found
    embedding = predictor.encode(image())
    for record in found:
        masks = predictor.segment(embedding, record["point_coords"], [1]).masks
        assert max(iou(mask, from_rle(record["segmentation"])) for mask in masks) > 0.99


def test_training_sees_images_as_prediction_does(model: Sam) -> None:
    """Its crops are in the frame of prompts and masks, twice as large as the encoder's input."""
    pixels = torch.from_numpy(np.array(image())).permute(2, 0, 1)[None, :, :384, :384]
    batch = normalize_images(model, pixels, torch.ones(1, 384, 384, dtype=torch.bool))
    assert batch.shape == (1, 3, 192, 192)
    small = np.asarray(samlet.images.resize_longest(image()[:384, :384], 192))
    expected = (torch.from_numpy(small).permute(2, 0, 1) - model.pixel_mean) / model.pixel_std
    # Pillow rounds to whole numbers, once for rows and once for columns.
    assert (batch[0] - expected).abs().max() < 1.01 / 57
    whole = samlet.images.resize_longest(image(), 1024)
    reduced = model.preprocess(torch.from_numpy(whole).permute(2, 0, 1))
    assert reduced.shape == (3, 512, 512)
    with torch.no_grad():
        assert model.image_encoder(batch).shape == (1, 256, 24, 24)


def test_the_exported_encoder_has_the_smaller_input(model: Sam) -> None:
    graph = onnx_graphs.encoder_graph(model)
    assert graph.inputs == {"image": (1, 3, 512, 512)}
    assert graph.outputs == {"image_embeddings": (1, 256, 64, 64)}
