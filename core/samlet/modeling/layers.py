"""Layers that several parts of the model have in common."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Normalisation over the channels of feature maps.

    Args:
        channels: C.

    Source: `segment_anything.modeling.common.LayerNorm2d`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        """From B x C x H x W to the same."""
        x = input.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNorm(nn.Sequential):
    """A convolution without a bias, and its batch normalisation.

    Args:
        in_channels: B x in_channels x H x W.
        out_channels: B x out_channels x H/stride x W/stride.
        kernel_size: odd; the border is padded by zeros.
        stride: of the convolution.
        groups: of the convolution.
        eps: is added to the variance.
    """

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2,
            groups=groups, bias=False,
        )  # fmt: skip
        self.bn = nn.BatchNorm2d(out_channels, eps)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """One convolution that gives what both give in evaluation mode."""
        conv, bn = self.conv, self.bn
        assert bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight / (bn.running_var + bn.eps) ** 0.5
        fused = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0],
            conv.padding[0], groups=conv.groups, device=conv.weight.device,
        )  # fmt: skip
        assert fused.bias is not None
        fused.weight.copy_(conv.weight * scale[:, None, None, None])
        fused.bias.copy_(bn.bias - bn.running_mean * scale)
        return fused
