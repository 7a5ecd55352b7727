"""What samlet relies on in timm's modules, whose names and arguments timm does not promise."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import samlet
from samlet.modeling import timm_blocks
from samlet.modeling.sam_vit import SamViT, SamViTConfig
from samlet.modeling.timm_blocks import (
    Attention,
    ConvNorm,
    PatchMerging,
    TinyVitBlock,
    TinyVitStage,
    widen_windows,
)
from samlet.modeling.tiny_vit import TINY_VITS, TinyViT

ARGUMENTS = {
    "ConvLayer": {"dim", "depth", "act_layer"},
    "PatchEmbed": {"in_chs", "out_chs", "act_layer"},
    "TinyVitStage": {"dim", "out_dim", "depth", "num_heads", "window_size", "downsample"},
    "VisionTransformerSAM": {
        "img_size", "patch_size", "num_classes", "embed_dim", "depth", "num_heads",
        "global_attn_indexes", "use_rel_pos", "window_size", "neck_chans", "norm_layer",
    },
}  # fmt: skip


def digest(module: nn.Module) -> str:
    """A hash of the names and shapes of a module's parameters and buffers."""
    state = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
    return hashlib.sha256(repr(sorted(state)).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    known = inspect.signature(getattr(timm_blocks, name).__init__).parameters
    assert ARGUMENTS[name] <= known.keys()


def test_parts_of_tiny_vit() -> None:
    encoder = TinyViT(TINY_VITS["tiny_vit_2m"])
    assert digest(encoder) == "6dbaaf3e9186"
    last = encoder.stages[3]
    assert isinstance(last, TinyVitStage) and isinstance(last.blocks[0], TinyVitBlock)
    block = last.blocks[0]
    assert isinstance(block.attn, Attention) and isinstance(block.attn.fused_attn, bool)
    assert isinstance(block.attn.proj, nn.Linear) and isinstance(block.mlp.fc2, nn.Linear)
    assert isinstance(block.local_conv, ConvNorm)
    assert isinstance(block.local_conv.conv, nn.Conv2d)
    assert isinstance(block.local_conv.bn, nn.BatchNorm2d)


def blocks_of(stage: TinyVitStage) -> list[Any]:
    return list(stage.blocks.children())


@pytest.mark.parametrize("side", [1, 4, 7])
def test_wider_windows_are_those_of_timm(side: int) -> None:
    stages = []
    for first in (1, side):
        torch.manual_seed(0)
        stages.append(TinyVitStage(16, 32, 2, 2, first, downsample=PatchMerging).eval())
    wide, expected = stages
    for block in blocks_of(wide):
        widen_windows(block, side)
    state = expected.state_dict()
    for name, value in wide.state_dict().items():
        assert torch.equal(value, state.pop(name)), name
    assert not state
    for ours, theirs in zip(blocks_of(wide), blocks_of(expected), strict=True):
        assert torch.equal(ours.attn.attention_bias_idxs, theirs.attn.attention_bias_idxs)
        biases = torch.randn_like(theirs.attn.attention_biases)
        for attention in (ours.attn, theirs.attn):
            attention.attention_biases.data.copy_(biases)
    image = torch.randn(1, 16, 20, 24)
    with torch.no_grad():
        assert torch.equal(wide(image), expected(image))


def test_folding_a_batch_norm() -> None:
    layer = ConvNorm(3, 5, 3, 1, 1).eval()
    with torch.no_grad():
        for values in (*layer.bn.parameters(), *layer.bn.buffers()):
            if values.is_floating_point():
                values.uniform_(0.5, 2)
    image = torch.randn(1, 3, 8, 8)
    folded = layer.fuse()
    assert isinstance(folded, nn.Conv2d)
    torch.testing.assert_close(folded(image), layer(image))


def test_parts_of_sams_encoder() -> None:
    encoder = SamViT(SamViTConfig(32, 2, 2, (1,)), image_size=256)
    assert digest(encoder) == "a76f764580aa"
    assert encoder.forward_features(torch.zeros(1, 3, 256, 256)).shape == (1, 256, 16, 16)


def test_imported_in_one_place() -> None:
    root = Path(samlet.__file__).parent
    users = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "from timm.models" in path.read_text("utf-8")
    }
    assert users == {"modeling/timm_blocks.py"}
