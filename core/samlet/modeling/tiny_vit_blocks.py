"""The blocks of a TinyViT.

Parameters have timm's names; `samlet.modeling.official_names` has the publishers' own.

Source: TinyViT, arXiv 2207.10666, section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.layers import ConvNorm

EXPANSION = 4
"""Hidden channels of convolutional blocks and MLPs, as a multiple of their channels."""


class PatchEmbed(nn.Module):
    """Two convolutions from an image to features of a fourth of its resolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, 3, stride=2)
        self.act = nn.GELU()
        self.conv2 = ConvNorm(dim // 2, dim, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """From B x 3 x H x W to B x dim x H/4 x W/4."""
        return self.conv2(self.act(self.conv1(x)))


class MBConv(nn.Module):
    """MobileNetV2's inverted residual block, arXiv 1801.04381."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = EXPANSION * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.act1 = nn.GELU()
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.act2 = nn.GELU()
        self.conv3 = ConvNorm(hidden, dim)
        self.act3 = nn.GELU()
        # At first the block passes its input on.
        nn.init.zeros_(self.conv3.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """From B x dim x H x W to the same."""
        inner = self.act2(self.conv2(self.act1(self.conv1(x))))
        return self.act3(self.conv3(inner) + x)


class ConvStage(nn.Module):
    """The first stage, of `depth` convolutional blocks."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(MBConv(dim) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """From B x dim x H x W to the same."""
        return self.blocks(x)


class PatchMerging(nn.Module):
    """Three convolutions from one stage to the next."""

    def __init__(self, in_dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_dim, out_dim)
        self.act1 = nn.GELU()
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride, groups=out_dim)
        self.act2 = nn.GELU()
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """From B x in_dim x H x W to B x out_dim x H/stride x W/stride."""
        return self.conv3(self.act2(self.conv2(self.act1(self.conv1(x)))))


class Attention(nn.Module):
    """Self-attention within windows; each head adds a bias for the distance of two tokens.

    Args:
        dim: channels of the tokens.
        num_heads: attention heads.
        window_size: side of the windows, in tokens.
    """

    attention_bias_idxs: Tensor

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        # One bias for each pair of distances in y and x, those in x counting first.
        side = torch.arange(window_size)
        distances = (side.unsqueeze(0) - side.unsqueeze(1)).abs()
        indices = window_size * distances[:, None, :, None] + distances[None, :, None, :]
        self.register_buffer(
            "attention_bias_idxs", indices.reshape(window_size**2, -1), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """From B x window_size² x dim to the same, without the input."""
        batch, tokens, _ = x.shape
        # Queries, keys and values of a head stand side by side.
        qkv = self.qkv(self.norm(x)).view(batch, tokens, self.num_heads, -1)
        query, key, value = qkv.permute(0, 2, 1, 3).chunk(3, dim=-1)
        return self.proj(_attention(query, key, value, self._biases()))

    def fuse(self) -> "FusedAttention":
        """The same for inference alone: see `FusedAttention`."""
        return FusedAttention(self.norm, self._projections(), self._biases(), self.proj)

    def _biases(self) -> Tensor:
        """For each head and pair of tokens."""
        return self.attention_biases[:, self.attention_bias_idxs]

    @torch.no_grad()
    def _projections(self) -> list[nn.Linear]:
        """`qkv` taken apart: for queries, keys and values."""
        dim = self.qkv.in_features
        projections = []
        for weight, bias in zip(
            self.qkv.weight.view(self.num_heads, 3, -1, dim).unbind(1),
            self.qkv.bias.view(self.num_heads, 3, -1).unbind(1),
            strict=True,
        ):
            linear = nn.Linear(dim, dim, device=weight.device)
            linear.weight.copy_(weight.flatten(0, 1))
            linear.bias.copy_(bias.flatten())
            projections.append(linear)
        return projections


class FusedAttention(nn.Module):
    """What `Attention` gives, with what depends on its parameters alone computed once.

    Queries, keys and values are three products: OpenVINO encodes 5 % faster than with one whose
    result it takes apart.

    Args:
        norm: of the `Attention`.
        projections: from tokens to queries, keys and values.
        biases: num_heads x window_size² x window_size².
        proj: of the `Attention`.
    """

    biases: Tensor

    def __init__(
        self, norm: nn.LayerNorm, projections: list[nn.Linear], biases: Tensor, proj: nn.Linear
    ) -> None:
        super().__init__()
        self.norm, self.proj = norm, proj
        self.projections = nn.ModuleList(projections)
        self.register_buffer("biases", biases.detach())

    def forward(self, x: Tensor) -> Tensor:
        """As `Attention`."""
        batch, tokens, _ = x.shape
        x = self.norm(x)
        query, key, value = (
            projection(x).view(batch, tokens, len(self.biases), -1).transpose(1, 2)
            for projection in self.projections
        )
        return self.proj(_attention(query, key, value, self.biases))


def _attention(query: Tensor, key: Tensor, value: Tensor, biases: Tensor) -> Tensor:
    """From B x heads x tokens x channels to B x tokens x (heads times channels)."""
    if query.is_cuda:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=biases)
    else:
        # On a CPU the plain product trains faster than torch's fused attention with a bias.
        scale = query.shape[-1] ** -0.5
        mixed = (query * scale @ key.transpose(-2, -1) + biases).softmax(dim=-1) @ value
    return mixed.transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """A normalisation and two linear layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, EXPANSION * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(EXPANSION * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """From B x H x W x dim to the same, without the input."""
        return self.fc2(self.act(self.fc1(self.norm(x))))


class TinyVitBlock(nn.Module):
    """Attention within windows, a depthwise convolution across their borders, and an MLP.

    Args:
        dim: channels of the tokens.
        num_heads: attention heads.
        window_size: side of the windows, in tokens. If it does not divide H and W, tokens of zeros
            are added at the right and at the bottom.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.attn = Attention(dim, num_heads, window_size)
        self.mlp = Mlp(dim)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """From B x H x W x dim to the same."""
        x = x + self._attend(x)
        # Back to tokens by way of B x dim x HW: with one permutation OpenVINO would copy more
        # often, and encode 15 % more slowly.
        mixed = self.local_conv(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2).view(x.shape)
        return mixed + self.mlp(mixed)

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        side = self.window_size
        below, beside = -height % side, -width % side
        padded = F.pad(x, (0, 0, 0, beside, 0, below)) if below or beside else x
        rows, columns = (height + below) // side, (width + beside) // side
        windows = padded.view(batch, rows, side, columns, side, dim).transpose(2, 3)
        attended = self.attn(windows.reshape(-1, side * side, dim))
        together = attended.view(batch, rows, columns, side, side, dim).transpose(2, 3)
        return together.reshape(padded.shape)[:, :height, :width]


class TinyVitStage(nn.Module):
    """One of the stages with attention: a patch merging, then blocks.

    Args:
        in_dim: channels of its input.
        dim: channels of its output.
        depth: blocks.
        num_heads: of each.
        window_size: of each.
        stride: of the patch merging.
    """

    def __init__(
        self, in_dim: int, dim: int, depth: int, num_heads: int, window_size: int, stride: int
    ) -> None:
        super().__init__()
        self.downsample = PatchMerging(in_dim, dim, stride)
        self.blocks = nn.Sequential(
            *(TinyVitBlock(dim, num_heads, window_size) for _ in range(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """From B x in_dim x H x W to B x dim x H/stride x W/stride."""
        tokens = self.downsample(x).permute(0, 2, 3, 1)
        return self.blocks(tokens).permute(0, 3, 1, 2)
