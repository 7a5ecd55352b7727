"""The image encoders of RepViT-SAM and EdgeSAM: a RepViT with SAM's neck.

The publishers' parameter names differ only in those of convolutions with BatchNorm.

Source: RepViT, arXiv 2307.09283, section 3; as SAM's encoder in RepViT-SAM, arXiv 2312.05760, and
EdgeSAM, arXiv 2312.06660.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.layers import ConvNorm
from samlet.modeling.neck import Neck

EXPANSION = 2
"""Hidden channels of a channel mixer, as a multiple of its channels."""


@dataclass(frozen=True)
class RepViTConfig:
    """The configuration of a RepViT.

    Args:
        embed_dims: channels of the four stages.
        depths: blocks of the four stages, without those that begin stages two to four.
        joins_levels: EdgeSAM's variant: stages three and four, of strides 16 and 32, are summed.
            Without it the fourth stage keeps the stride of the third, as in RepViT-SAM. EdgeSAM is
            also of the first version of RepViT, which normalises otherwise in its token mixers.
    """

    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    joins_levels: bool = False


REPVITS = {
    "repvit_sam": RepViTConfig((80, 160, 320, 640), (7, 7, 35, 2)),
    "edge_sam": RepViTConfig((48, 96, 192, 384), (3, 3, 15, 2), joins_levels=True),
}


class RepViT(nn.Module):
    """A RepViT with an output stride of 16 and SAM's neck.

    Args:
        config: widths and depths.
        out_channels: channels of the embedding.
    """

    def __init__(self, config: RepViTConfig, out_channels: int = 256) -> None:
        super().__init__()
        dims, joins = config.embed_dims, config.joins_levels
        self.features = nn.ModuleList(
            [nn.Sequential(ConvNorm(3, dims[0] // 2, 3, 2), nn.GELU(),
                           ConvNorm(dims[0] // 2, dims[0], 3, 2))]
        )  # fmt: skip
        self.stage_ends = []
        for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
            if stage > 0:
                stride = 1 if stage == 3 and not joins else 2
                self.features.append(_Downsample(dims[stage - 1], dim, stride))
            # Every other block weighs its channels, but never the last of a stage.
            self.features.extend(
                _Block(dim, squeeze=i % 2 == 0 and i < depth - 1, first_version=joins)
                for i in range(depth)
            )
            self.stage_ends.append(len(self.features) - 1)
        self.joins_levels = joins
        if joins:
            self.fuse_stage2 = nn.Conv2d(dims[2], out_channels, kernel_size=1, bias=False)
            last = nn.Conv2d(dims[3], out_channels, kernel_size=1, bias=False)
            self.fuse_stage3 = nn.Sequential(OrderedDict(op_list=nn.Sequential(last)))
        self.neck = Neck(out_channels if joins else dims[3], out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images.

        Args:
            images: float, B x 3 x H x W, with H and W multiples of 16 (of 32 where levels are
                joined).

        Returns:
            float, B x out_channels x H/16 x W/16.
        """
        x, level = images, images
        for i, block in enumerate(self.features):
            x = block(x)
            if i == self.stage_ends[2]:
                level = x
        if self.joins_levels:
            x = F.interpolate(
                self.fuse_stage3(x), scale_factor=2.0, mode="bicubic", align_corners=False
            )
            x = self.fuse_stage2(level) + x
        return self.neck(x)


class _Residual(nn.Module):
    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


def _channel_mixer(dim: int) -> _Residual:
    hidden = EXPANSION * dim
    return _Residual(nn.Sequential(ConvNorm(dim, hidden, 1), nn.GELU(), ConvNorm(hidden, dim, 1)))


class _Depthwise(nn.Module):
    """3 x 3 and 1 x 1 depthwise convolutions and the identity, summed.

    The first version of RepViT normalises the 1 x 1 convolution, the later one the sum.
    """

    def __init__(self, dim: int, first_version: bool) -> None:
        super().__init__()
        self.conv = ConvNorm(dim, dim, 3, groups=dim)
        self.conv1 = (
            ConvNorm(dim, dim, 1, groups=dim)
            if first_version
            else nn.Conv2d(dim, dim, 1, groups=dim)
        )
        self.bn = nn.Identity() if first_version else nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x) + self.conv1(x) + x)


class _SqueezeExcite(nn.Module):
    """Weighs the channels of B x dim x H x W by their means, arXiv 1709.01507."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # A quarter of the channels, rounded to a multiple of eight.
        hidden = max(8, (dim // 4 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(dim, hidden, kernel_size=1)
        self.fc2 = nn.Conv2d(hidden, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(means))).sigmoid()


class _Block(nn.Module):
    def __init__(self, dim: int, squeeze: bool, first_version: bool) -> None:
        super().__init__()
        self.token_mixer = nn.Sequential(
            _Depthwise(dim, first_version), _SqueezeExcite(dim) if squeeze else nn.Identity()
        )
        self.channel_mixer = _channel_mixer(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.token_mixer(x))


class _Downsample(nn.Module):
    """The first block of a stage: more channels, and with a stride of 2 half the resolution."""

    def __init__(self, in_dim: int, dim: int, stride: int) -> None:
        super().__init__()
        self.token_mixer = nn.Sequential(
            ConvNorm(in_dim, in_dim, 3, stride, groups=in_dim),
            nn.Identity(),
            ConvNorm(in_dim, dim, 1),
        )
        self.channel_mixer = _channel_mixer(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.token_mixer(x))
