"""RepViT-SAM's and EdgeSAM's encoders against timm's RepViT, on the same random weights.

With the publishers' own code, which is on no package index, the embeddings of both encoders agreed
to 1e-5 in float32 (512 px, 2026-11-30), and the parameters had the same names.
"""

from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import timm
import torch
from skimage import data
from torch import Tensor, nn

import samlet
from samlet.checkpoints.official import infer_config
from samlet.modeling.repvit import REPVITS, RepViT, RepViTConfig
from samlet.modeling.sam import Sam, SamConfig

TIMM_NAMES = {"repvit_sam": "repvit_m2_3", "edge_sam": "repvit_m1"}
SMALL = (16, 32, 48, 64), (1, 2, 3, 2)


Model = TypeVar("Model", bound=nn.Module)


def randomised(model: Model) -> Model:
    """Random values where a model begins with zeros and ones, so that each counts."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for name, buffer in model.named_buffers():
            if "running_mean" in name:
                buffer.normal_(0, 0.1)
            elif "running_var" in name:
                buffer.uniform_(0.5, 2)
    return model.eval()


def small_model(joins_levels: bool) -> Sam:
    config = SamConfig(
        "repvit", 256, tiny_vit=None, repvit=RepViTConfig(*SMALL, joins_levels=joins_levels)
    )
    return randomised(Sam(config))


@pytest.mark.parametrize("name", REPVITS)
@torch.no_grad()
def test_the_features_are_timms(name: str) -> None:
    ours = randomised(RepViT(REPVITS[name]))
    theirs = timm.create_model(TIMM_NAMES[name], features_only=True, out_indices=(2, 3)).eval()
    target = theirs.state_dict()
    # The same modules in the same order under other names: by shape and place.
    source = list(ours.features.state_dict().values())
    assert [v.shape for v in target.values()] == [v.shape for v in source]
    theirs.load_state_dict(dict(zip(target, source, strict=True)))
    if not REPVITS[name].joins_levels:
        halving = theirs.get_submodule("stages_3.downsample.spatial_downsample.c")
        assert isinstance(halving, nn.Conv2d)
        halving.stride = (1, 1)
    images = torch.randn(1, 3, 128, 128)
    third, fourth = theirs(images)
    levels: list[Tensor] = []
    for block in ours.features:
        levels.append(block(levels[-1] if levels else images))
    # timm counts the last block of a stage to the next one.
    assert (levels[ours.stage_ends[2] - 1] - third).abs().max() < 1e-4
    assert (levels[-1] - fourth).abs().max() < 1e-4


@pytest.mark.parametrize("name", REPVITS)
def test_the_architecture_is_read_from_the_weights(name: str) -> None:
    config = SamConfig("repvit", tiny_vit=None, repvit=REPVITS[name])
    with torch.device("meta"):
        model = Sam(config)
    assert infer_config(model.state_dict()) == config


@pytest.mark.parametrize("joins_levels", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@torch.no_grad()
def test_a_file_gives_the_same_masks(joins_levels: bool, suffix: str, tmp_path: Path) -> None:
    model = small_model(joins_levels)
    samlet.save(model, tmp_path / f"model{suffix}")
    loaded = samlet.load(tmp_path / f"model{suffix}")
    assert loaded.config.repvit == model.config.repvit
    images = torch.randn(1, 3, 256, 256)
    assert torch.equal(loaded.image_encoder(images), model.image_encoder(images))
    assert loaded.image_encoder(images).shape == (1, 256, 16, 16)


@pytest.mark.parametrize("joins_levels", [False, True])
def test_openvino_gives_the_same_embedding(joins_levels: bool) -> None:
    model, image = small_model(joins_levels), data.astronaut()
    embeddings = [
        samlet.Predictor(model, engine=engine, precision="float32").encode(image).features
        for engine in ("torch", "openvino")
    ]
    difference = np.abs(np.asarray(embeddings[0]) - np.asarray(embeddings[1])).max()
    assert difference < 1e-3 * np.asarray(embeddings[0]).std()
