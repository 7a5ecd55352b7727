"""The image encoders of EfficientViT-SAM: convolutions, then linear attention, and a neck.

The publisher's parameter names differ only in those of batch normalisations.

Source: EfficientViT-SAM, arXiv 2402.05008; EfficientViT, arXiv 2205.14756.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.layers import ConvNorm, LayerNorm2d

HEAD_DIM = 32
"""Channels of an attention head."""

NECK_WIDTH = 256

LEVELS = 3
"""Stages that the neck joins, the last ones."""

NORM_EPS = 1e-6
"""Of all normalisations, in place of PyTorch's 1e-5."""

DIVISION_EPS = 1e-15

BlockKind = Literal["plain", "fused", "inverted", "attention"]


@dataclass(frozen=True)
class EfficientViTConfig:
    """The configuration of an EfficientViT with SAM's embedding.

    Args:
        embed_dims: channels of the stages, each of half the resolution of the one before: five in
            the L variants and six in the XL variants, which also have wider blocks.
        depths: blocks of each stage, without those that begin it.
        neck_depth: blocks of the neck.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    neck_depth: int

    @property
    def is_xl(self) -> bool:
        """Whether it is an XL variant."""
        return len(self.embed_dims) == 6

    @property
    def reduction(self) -> int:
        """How many times smaller than prompts and masks refer to the encoder sees the image."""
        return 1 if self.is_xl else 2

    @property
    def kinds(self) -> tuple[BlockKind, ...]:
        """Of the blocks of each stage."""
        if self.is_xl:
            return ("plain", "fused", "fused", "fused", "attention", "attention")
        return ("plain", "fused", "fused", "inverted", "attention")

    @property
    def expansions(self) -> tuple[int, ...]:
        """Hidden channels of the blocks of each stage, as a multiple of its channels."""
        return (1, 4, 4, 4, 4, 6) if self.is_xl else (1, 4, 4, 4, 6)


EFFICIENTVITS = {
    "efficientvit_sam_l0": EfficientViTConfig((32, 64, 128, 256, 512), (1, 1, 1, 4, 4), 4),
    "efficientvit_sam_l1": EfficientViTConfig((32, 64, 128, 256, 512), (1, 1, 1, 6, 6), 8),
    "efficientvit_sam_l2": EfficientViTConfig((32, 64, 128, 256, 512), (1, 2, 2, 8, 8), 12),
    "efficientvit_sam_xl0": EfficientViTConfig(
        (32, 64, 128, 256, 512, 1024), (0, 1, 1, 2, 3, 3), 6
    ),
    "efficientvit_sam_xl1": EfficientViTConfig(
        (32, 64, 128, 256, 512, 1024), (1, 2, 2, 4, 6, 6), 12
    ),
}


class EfficientViT(nn.Module):
    """An EfficientViT whose last three stages make SAM's embedding.

    Args:
        config: widths and depths.
        out_channels: channels of the embedding.

    Attributes:
        reduction: see `EfficientViTConfig`.
    """

    def __init__(self, config: EfficientViTConfig, out_channels: int = 256) -> None:
        super().__init__()
        self.reduction = config.reduction
        self.backbone = _Backbone(config)
        self.neck = _Neck(config, out_channels)
        self.norm = LayerNorm2d(out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images.

        Args:
            images: float, B x 3 x H x W, `reduction` times smaller than what prompts refer to; H
                and W are multiples of 16 / reduction.

        Returns:
            float, B x out_channels x h x w, of stride 16 / reduction.
        """
        return self.norm(self.neck(self.backbone(images)))


class _Backbone(nn.Module):
    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        inner = 3
        for dim, depth, kind, expansion in zip(
            config.embed_dims, config.depths, config.kinds, config.expansions, strict=True
        ):
            kernel_size = 3 if config.is_xl else 5
            blocks = [_block(kind, dim, expansion, kernel_size) for _ in range(depth)]
            self.stages.append(_op_list([*_first_blocks(kind, inner, dim, expansion), *blocks]))
            inner = dim

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of each stage."""
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class _Neck(nn.Module):
    def __init__(self, config: EfficientViTConfig, out_channels: int) -> None:
        super().__init__()
        joined = reversed(config.embed_dims[-LEVELS:])
        self.input_ops = nn.ModuleList(_op_list([_conv_norm(dim, NECK_WIDTH)]) for dim in joined)
        expansion = 4 if config.is_xl else 1
        self.middle = _op_list(
            [_Residual(_fused(NECK_WIDTH, NECK_WIDTH, expansion)) for _ in range(config.neck_depth)]
        )
        self.output_ops = nn.ModuleList([_op_list([_conv(NECK_WIDTH, out_channels)])])

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Join the last stages at the resolution of the first of them."""
        size = levels[-LEVELS].shape[-2:]
        joined = [op(x) for op, x in zip(self.input_ops, reversed(levels[-LEVELS:]), strict=True)]
        x = joined[-1]
        for smaller in joined[:-1]:
            x = x + F.interpolate(smaller, (size[0], size[1]), mode="bicubic", align_corners=False)
        for op in (self.middle, *self.output_ops):
            x = op(x)
        return x


def _first_blocks(
    kind: BlockKind, in_dim: int, dim: int, expansion: int
) -> list[nn.Module | tuple[str, nn.Module]]:
    """What halves the resolution at the beginning of a stage."""
    if kind == "plain":
        # The official layout does not count the activation.
        return [_conv_norm(in_dim, dim, 3, 2), ("act", _gelu())]
    make = _fused if kind == "fused" else _inverted
    return [nn.Sequential(OrderedDict(main=make(in_dim, dim, 4 * expansion, 2)))]


def _block(kind: BlockKind, dim: int, expansion: int, kernel_size: int) -> nn.Module:
    if kind == "attention":
        return nn.Sequential(
            OrderedDict(
                context_module=_Residual(_LinearAttention(dim, kernel_size)),
                local_module=_Residual(_inverted(dim, dim, expansion)),
            )
        )
    make = {"plain": _plain, "fused": _fused, "inverted": _inverted}[kind]
    return _Residual(make(dim, dim, expansion))


class _Residual(nn.Module):
    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + x


class _LinearAttention(nn.Module):
    """Attention with ReLU in place of softmax, whose cost is linear in the number of tokens.

    Half of the heads see each token itself, the others what a convolution makes of its
    surroundings.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        groups = 3 * dim // HEAD_DIM
        self.qkv = _conv(dim, 3 * dim, bias=False)
        around = nn.Conv2d(
            3 * dim, 3 * dim, kernel_size, padding=kernel_size // 2, groups=3 * dim, bias=False
        )
        mixed = nn.Conv2d(3 * dim, 3 * dim, kernel_size=1, groups=groups, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(around, mixed)])
        self.proj = _conv_norm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        heads = torch.cat([qkv, self.aggreg[0](qkv)], dim=1).flatten(2)
        # Sums over all tokens, and a quotient of them, are of little worth in half precision.
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = heads.float().unflatten(1, (-1, 3, HEAD_DIM)).unbind(2)
            q, k = F.relu(q), F.relu(k)
            summed = v @ k.transpose(-1, -2) @ q
            total = k.sum(dim=-1, keepdim=True).transpose(-1, -2) @ q
            attended = (summed / (total + DIVISION_EPS)).flatten(1, 2)
        return self.proj(attended.unflatten(2, x.shape[-2:]).to(x.dtype))


def _op_list(blocks: Sequence[nn.Module | tuple[str, nn.Module]]) -> nn.Sequential:
    """Modules in a row, numbered as in the official layout; those with a name do not count."""
    named: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for block in blocks:
        if isinstance(block, tuple):
            named[block[0]] = block[1]
        else:
            named[str(number)] = block
            number += 1
    return nn.Sequential(OrderedDict(op_list=nn.Sequential(named)))


def _plain(in_dim: int, dim: int, expansion: int) -> nn.Sequential:
    hidden = expansion * in_dim
    return nn.Sequential(
        OrderedDict(
            conv1=_conv_norm(in_dim, hidden, 3), act=_gelu(), conv2=_conv_norm(hidden, dim, 3)
        )
    )


def _fused(in_dim: int, dim: int, expansion: int, stride: int = 1) -> nn.Sequential:
    hidden = expansion * in_dim
    return nn.Sequential(
        OrderedDict(
            spatial_conv=_conv_norm(in_dim, hidden, 3, stride),
            act=_gelu(),
            point_conv=_conv_norm(hidden, dim),
        )
    )


def _inverted(in_dim: int, dim: int, expansion: int, stride: int = 1) -> nn.Sequential:
    hidden = expansion * in_dim
    return nn.Sequential(
        OrderedDict(
            inverted_conv=_conv(in_dim, hidden),
            act1=_gelu(),
            depth_conv=_conv(hidden, hidden, 3, stride, groups=hidden),
            act2=_gelu(),
            point_conv=_conv_norm(hidden, dim),
        )
    )


def _conv_norm(in_dim: int, dim: int, kernel_size: int = 1, stride: int = 1) -> ConvNorm:
    return ConvNorm(in_dim, dim, kernel_size, stride, eps=NORM_EPS)


def _conv(
    in_dim: int,
    dim: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Sequential:
    conv = nn.Conv2d(in_dim, dim, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)
    return nn.Sequential(OrderedDict(conv=conv))


def _gelu() -> nn.GELU:
    return nn.GELU(approximate="tanh")
