"""MobileSAM's image encoder: a TinyViT, for any input size that its strides divide.

Source: TinyViT, arXiv 2207.10666, section 3; as SAM's encoder in MobileSAM, arXiv 2306.14289.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from samlet.modeling.neck import Neck
from samlet.modeling.tiny_vit_blocks import ConvStage, PatchEmbed, TinyVitStage

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
        self.patch_embed = PatchEmbed(dims[0])
        self.stages = nn.ModuleList([ConvStage(dims[0], config.depths[0])])
        for i in (1, 2, 3):
            self.stages.append(
                TinyVitStage(
                    dims[i - 1],
                    dims[i],
                    config.depths[i],
                    config.num_heads[i],
                    config.window_sizes[i],
                    stride=1 if i == 3 else 2,
                )
            )
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
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
