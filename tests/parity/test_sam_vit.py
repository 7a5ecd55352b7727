"""Parity of SAM's own image encoders with `segment_anything`, on the same random weights."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import segment_anything
import torch
from segment_anything import modeling
from skimage import data
from torch import nn

import samlet
from samlet.checkpoints.official import infer_config, to_official
from samlet.modeling.official_names import to_samlet_names
from samlet.modeling.sam import Sam
from samlet.modeling.sam_vit import SAM_VITS, SamViTConfig
from samlet.modeling.sam_vit_encoder import SamViT

CLICK: dict[str, Any] = {"point_coords": np.array([[200, 150]]), "point_labels": np.array([1])}
SMALL = SamViTConfig(64, 3, 4, (0, 2))


def randomised(theirs: nn.Module) -> Any:
    """Random values where `segment_anything` begins with zeros and ones, so that each counts.

    Patches and positions stay small: the first normalisation then depends on its epsilon.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "rel_pos" in name:
                parameter.normal_(0, 0.5)
            elif name == "image_encoder.pos_embed":
                parameter.normal_(0, 0.02)
            elif name == "image_encoder.patch_embed.proj.weight":
                parameter.mul_(0.05)
            elif "output_hypernetworks_mlps" in name and parameter.ndim == 2:
                parameter.mul_(4)
            elif parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return theirs.eval()


def in_samlet(theirs: nn.Module) -> Sam:
    """The same weights in samlet, by way of their official names alone."""
    state = theirs.state_dict()
    config = infer_config(state)
    assert config is not None
    ours = Sam(config).eval()
    ours.load_state_dict(state)
    return ours


def assembled(config: SamViTConfig, size: int) -> Any:
    """Any size of model from `segment_anything`'s parts, put together as its builder does."""
    grid = (size // 16, size // 16)
    encoder = modeling.ImageEncoderViT(
        img_size=size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=config.global_attn_indexes,
    )
    decoder = modeling.MaskDecoder(
        transformer_dim=256, transformer=modeling.TwoWayTransformer(2, 256, 8, 2048)
    )
    prompt_encoder = modeling.PromptEncoder(256, grid, (size, size), 16)
    return randomised(modeling.Sam(encoder, prompt_encoder, decoder))


@torch.no_grad()
def same_click(theirs: Any, ours: Sam, name: str, maxima: dict[str, float]) -> None:
    """Compare the embedding of a photograph and one click on it."""
    reference, drop_in = segment_anything.SamPredictor(theirs), samlet.SamPredictor(ours)
    image = data.astronaut()
    reference.set_image(image)
    drop_in.set_image(image)
    embedding = reference.get_image_embedding()
    assert embedding.std((2, 3)).mean() > 0.1
    difference = (drop_in.get_image_embedding() - embedding).abs().max().item()
    maxima[f"{name} embedding"] = difference
    assert difference < 1e-4
    masks, ious, logits = reference.predict(**CLICK)
    our_masks, our_ious, our_logits = drop_in.predict(**CLICK)
    assert logits.std() > 1
    maxima[f"{name} low_res_masks"] = float(np.abs(our_logits - logits).max())
    assert maxima[f"{name} low_res_masks"] < 1e-3
    assert np.abs(our_ious - ious).max() < 1e-4
    assert (our_masks == masks).mean() >= 0.9999


def same_names_both_ways(theirs: nn.Module, ours: Sam) -> None:
    original, back = theirs.state_dict(), to_official(ours)
    assert back.keys() == original.keys()
    assert len(ours.state_dict()) == len(original)
    assert all(torch.equal(back[key], original[key]) for key in original)


@pytest.mark.slow
def test_vit_b(maxima: dict[str, float]) -> None:
    theirs = randomised(segment_anything.sam_model_registry["vit_b"]())
    ours = in_samlet(theirs)
    assert ours.config.sam_vit == SAM_VITS["sam_vit_b"]
    same_names_both_ways(theirs, ours)
    same_click(theirs, ours, "ViT-B", maxima)


@pytest.mark.parametrize("name", ["sam_vit_l", "sam_vit_h"])
def test_shallow_copies(name: str, maxima: dict[str, float]) -> None:
    """At half the size, so that the reference's attention of all to all stays quick."""
    config = replace(SAM_VITS[name], depth=3, global_attn_indexes=(1,))
    theirs = assembled(config, 512)
    ours = in_samlet(theirs)
    assert (ours.config.sam_vit, ours.config.image_size) == (config, 512)
    same_names_both_ways(theirs, ours)
    same_click(theirs, ours, f"shallow {name}", maxima)


@pytest.mark.parametrize("name", SAM_VITS)
def test_names_and_shapes_at_full_depth(name: str) -> None:
    """Without memory for the weights: names, shapes and what they tell of the architecture."""
    with torch.device("meta"):
        encoder = segment_anything.sam_model_registry[name.removeprefix("sam_")]().image_encoder
        ours = SamViT(SAM_VITS[name])
    state = {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    config = infer_config(state)
    assert config is not None
    assert (config.sam_vit, config.image_size) == (SAM_VITS[name], 1024)
    assert {key: value.shape for key, value in to_samlet_names(state).items()} == {
        f"image_encoder.{key}": value.shape for key, value in ours.state_dict().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam_vit_l", "sam_vit_h"])
def test_full_depth(name: str, maxima: dict[str, float]) -> None:
    theirs = randomised(segment_anything.sam_model_registry[name.removeprefix("sam_")]())
    ours = in_samlet(theirs)
    assert ours.config.sam_vit == SAM_VITS[name]
    same_names_both_ways(theirs, ours)
    same_click(theirs, ours, name, maxima)


def test_predictor_and_everything_mode() -> None:
    theirs = assembled(SMALL, 256)
    ours = in_samlet(theirs)
    image = data.astronaut()
    reference, predictor = segment_anything.SamPredictor(theirs), samlet.Predictor(ours)
    reference.set_image(image)
    answer = predictor.segment(predictor.encode(image), **CLICK)
    assert (answer.masks == reference.predict(**CLICK)[0]).mean() >= 0.9999

    options: dict[str, Any] = {
        "points_per_side": 2,
        "pred_iou_thresh": -100.0,
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,
    }
    wanted = segment_anything.SamAutomaticMaskGenerator(theirs, **options).generate(image)
    records = samlet.SamAutomaticMaskGenerator(ours, **options).generate(image)
    assert len(records) == len(wanted) == 2 * 2 * 3
    for mine, reference_record in zip(records, wanted, strict=True):
        assert mine["point_coords"] == reference_record["point_coords"]
        assert (mine["segmentation"] == reference_record["segmentation"]).mean() >= 0.9999
