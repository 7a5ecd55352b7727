"""Layers and TinyViT's blocks against timm's."""

import copy

import pytest
import torch
from timm.layers import LayerNorm2d as TimmLayerNorm2d
from timm.models import tiny_vit as timm_tiny_vit
from torch import nn

from samlet.engines.fusing import fuse
from samlet.modeling.layers import ConvNorm, LayerNorm2d
from samlet.modeling.tiny_vit_blocks import ConvStage, PatchEmbed, TinyVitStage


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Give every parameter and running statistic a value of its own."""
    for value in (*module.parameters(), *module.buffers()):
        if value.is_floating_point():
            value.uniform_(0.2, 1)


@torch.no_grad()
def assert_same(ours: nn.Module, theirs: nn.Module, inputs: torch.Tensor) -> None:
    """The same parameters in the same order, and the same results."""
    randomise(theirs)
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    ours.load_state_dict(theirs.state_dict())
    for training in (True, False):
        results = ours.train(training)(inputs), theirs.train(training)(inputs)
        # timm uses torch's fused attention, which rounds differently.
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-4)


def test_layer_norm() -> None:
    assert_same(LayerNorm2d(5), TimmLayerNorm2d(5), torch.randn(2, 5, 3, 4))


@pytest.mark.parametrize(("kernel_size", "stride", "groups"), [(1, 1, 1), (3, 2, 1), (3, 1, 4)])
def test_conv_norm(kernel_size: int, stride: int, groups: int) -> None:
    theirs = timm_tiny_vit.ConvNorm(4, 8, kernel_size, stride, kernel_size // 2, groups=groups)
    ours, image = ConvNorm(4, 8, kernel_size, stride, groups), torch.randn(2, 4, 7, 8)
    assert_same(ours, theirs, image)
    torch.testing.assert_close(ours.fuse()(image), ours(image))


def test_patch_embedding() -> None:
    assert_same(PatchEmbed(8), timm_tiny_vit.PatchEmbed(3, 8, nn.GELU), torch.randn(2, 3, 16, 20))


def test_convolutional_stage() -> None:
    theirs = timm_tiny_vit.ConvLayer(8, 2, nn.GELU)
    assert_same(ConvStage(8, 2), theirs, torch.randn(2, 8, 5, 6))


def test_new_blocks_pass_their_input_on() -> None:
    x = torch.rand(1, 8, 5, 6)
    torch.testing.assert_close(ConvStage(8, 2).eval()(x), nn.functional.gelu(nn.functional.gelu(x)))


@pytest.mark.parametrize(
    ("window_size", "size"), [(1, (8, 8)), (4, (16, 24)), (7, (20, 25)), (14, (10, 30))]
)
def test_stage_with_attention(window_size: int, size: tuple[int, int]) -> None:
    """With windows that divide the grid, and with others; at both strides of the merging."""
    for stride in (1, 2):
        theirs = timm_tiny_vit.TinyVitStage(
            16, 32, 2, 4, window_size, downsample=timm_tiny_vit.PatchMerging
        )
        theirs.get_submodule("downsample.conv2.conv").stride = (stride, stride)  # type: ignore[assignment]
        ours = TinyVitStage(16, 32, 2, 4, window_size, stride)
        inputs = torch.randn(2, 16, *size)
        assert_same(ours, theirs, inputs)
        torch.testing.assert_close(fuse(copy.deepcopy(ours).eval())(inputs), ours.eval()(inputs))
