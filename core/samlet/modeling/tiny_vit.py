"""MobileSAM's image encoder: a TinyViT of timm's blocks, for any input size its strides divide.

Source: TinyViT, arXiv 2207.10666, section 3; as SAM's encoder in MobileSAM, arXiv 2306.14289.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samlet.modeling.neck import Neck
from samlet.modeling.timm_blocks import (
    Attention,
    ConvLayer,
    PatchEmbed,
    PatchMerging,
    TinyVitBlock,
    TinyVitStage,
    widen_windows,
)

STRIDE = 16
"""Side of the square of input pixels that one token of the embedding stands for."""


@dataclass(frozen=True)
class TinyViTConfig:
    """The configuration of a TinyViT, with one number per stage.

    Args:
        embed_dims: channels of the four stages.
        depths: blocks of the four stages.
        num_heads: attention heads; the first stage is convolutional and ignores its number.
        window_sizes: side of the attention windows, in tokens; the first is ignored, too.
            Windows that divide the token grid need no padding.
    """

    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window_sizes: tuple[int, int, int, int]


TINY_VITS = {
    # MobileSAM's encoder (arXiv 2306.14289) and its larger siblings (TinyViT, arXiv 2207.10666).
    "tiny_vit_5m": TinyViTConfig((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)),
    "tiny_vit_11m": TinyViTConfig((64, 128, 256, 448), (2, 2, 6, 2), (2, 4, 8, 14), (7, 7, 14, 7)),
    "tiny_vit_21m": TinyViTConfig((96, 192, 384, 576), (2, 2, 6, 2), (3, 6, 12, 18), (7, 7, 14, 7)),
    # The bundled model's encoder started from this one, which is narrow, and whose windows divide
    # the grid of a 512 px input.
    "tiny_vit_2m": TinyViTConfig((32, 64, 128, 192), (2, 2, 4, 2), (1, 4, 4, 6), (8, 8, 16, 8)),
}


class TinyViT(nn.Module):
    """A TinyViT with an output stride of 16 and SAM's neck.

    Three patch mergings would give a stride of 32; the last one keeps the resolution, as in
    MobileSAM, so that the embedding has the size that SAM's mask decoder expects.

    Args:
        config: widths, depths, heads and windows.
        out_channels: channels of the embedding.
    """

    def __init__(self, config: TinyViTConfig, out_channels: int = 256) -> None:
        super().__init__()
        dims = config.embed_dims
        self.patch_embed = PatchEmbed(3, dims[0], act_layer=nn.GELU)
        self.stages = nn.ModuleList(
            [ConvLayer(dims[0], config.depths[0], act_layer=nn.GELU)]
            + [
                TinyVitStage(
                    dims[i - 1],
                    dims[i],
                    depth=config.depths[i],
                    num_heads=config.num_heads[i],
                    window_size=1,
                    downsample=PatchMerging,
                )
                for i in range(1, 4)
            ]
        )
        for stage, side in zip(self.stages[1:], config.window_sizes[1:], strict=True):
            for block in stage.get_submodule("blocks").children():
                assert isinstance(block, TinyVitBlock)
                widen_windows(block, side)
        last_merging = self.stages[3].get_submodule("downsample.conv2.conv")
        assert isinstance(last_merging, nn.Conv2d)
        last_merging.stride = (1, 1)
        self.neck = Neck(dims[3], out_channels)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images.

        Args:
            images: float, B x 3 x H x W, with H and W multiples of 16.

        Returns:
            float, B x out_channels x H/16 x W/16.
        """
        x = self.patch_embed(images)
        for stage in self.stages:
            x = stage(x)
        return self.neck(x)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Attention):
        # On CPU the plain product trains faster than torch's fused attention with a bias.
        module.fused_attn = torch.cuda.is_available()  # type: ignore[misc]
