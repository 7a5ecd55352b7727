"""micro-sam's second decoder: from an image embedding to distance maps that separate objects.

It is a UNETR without skip connections (Hatamizadeh et al., arXiv 2103.10504): the embedding is
enlarged four times, by a factor of two each, in two branches that are joined at each scale. What it
predicts are, for each pixel of the model's input, the foreground, and the distances to the centre
and to the boundary of the pixel's object.

Source: Segment Anything for Microscopy (Archit et al., Nature Methods 2025), and for layout and
parameter names `torch_em.model.unetr.UNETR` and `micro_sam.instance_segmentation.DecoderAdapter`,
versions 0.10.9 and 1.8. Parameters have the official names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.object_head import ObjectHead

FOREGROUND, CENTER_DISTANCE, BOUNDARY_DISTANCE = range(3)
"""The channels of the output."""

CHANNELS = 3

WIDTHS = (512, 256, 128, 64)
"""Channels at a half, a quarter, an eighth and a sixteenth of the embedding's stride."""

EPS = 1e-5
"""Is added to variances."""

TRANSPOSED_KEY = "decoder.samplers.0.block.weight"
"""Only decoders with transposed convolutions have a parameter of this name."""


@dataclass(frozen=True)
class InstanceDecoderConfig:
    """Configuration of an instance decoder.

    Args:
        use_conv_transpose: enlarge by transposed convolutions, not by bilinear interpolation.
    """

    use_conv_transpose: bool = False


class InstanceDecoder(ObjectHead):
    """Predicts distance maps from an embedding of stride 16, at stride 1.

    Args:
        config: see there.
        embed_dim: channels of the embedding.
    """

    cell, channels = 1, CHANNELS

    def __init__(self, config: InstanceDecoderConfig, embed_dim: int) -> None:
        super().__init__()
        upsampler = TransposedUpsampler if config.use_conv_transpose else BilinearUpsampler
        first, *_, last = WIDTHS
        self.base = ConvBlock(embed_dim, first)
        self.deconv1 = UpsamplingBlock(upsampler, embed_dim, WIDTHS[0])
        self.deconv2 = UpsamplingBlock(upsampler, WIDTHS[0], WIDTHS[1])
        self.deconv3 = UpsamplingBlock(upsampler, WIDTHS[1], WIDTHS[2])
        self.deconv4 = UpsamplingBlock(upsampler, WIDTHS[2], WIDTHS[3])
        self.decoder = JoinedBranches(upsampler)
        self.deconv_out = upsampler(last, last)
        self.decoder_head = ConvBlock(2 * last, last)
        self.out_conv = nn.Conv2d(last, CHANNELS, kernel_size=1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict, pixel by pixel.

        Args:
            embeddings: float, B x embed_dim x h x w.

        Returns:
            float, B x 3 x 16h x 16w, all in 0..1: the probability of the foreground; the distance
            to the centre of the pixel's object, relative to its farthest pixel; and 1 less the
            distance to the boundary of the pixel's object, relative to its deepest pixel. Both
            distances are 1 on the background.
        """
        scales = []
        x = embeddings
        for block in (self.deconv1, self.deconv2, self.deconv3, self.deconv4):
            x = block(x)
            scales.append(x)
        joined = self.deconv_out(self.decoder(self.base(embeddings), scales[:-1]))
        logits = self.out_conv(self.decoder_head(torch.cat([joined, scales[-1]], dim=1)))
        return torch.sigmoid(logits)


def infer_instance_decoder(state: Mapping[str, Tensor]) -> InstanceDecoderConfig:
    """The configuration of the decoder that weights with official names belong to."""
    return InstanceDecoderConfig(use_conv_transpose=TRANSPOSED_KEY in state)


class JoinedBranches(nn.Module):
    """Enlarges three times, and takes in half of the other branch at each scale."""

    def __init__(self, upsampler: "type[BilinearUpsampler | TransposedUpsampler]") -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.samplers = nn.ModuleList(upsampler(wide, narrow) for wide, narrow in pairs)
        self.blocks = nn.ModuleList(ConvBlock(wide, narrow) for wide, narrow in pairs)

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """From B x 512 x h x w, and three of the other branch, to B x 64 x 8h x 8w."""
        for sampler, block, other in zip(self.samplers, self.blocks, others, strict=True):
            x = sampler(x)
            # The other branch is twice as wide here, of which the official layout joins the middle.
            width = x.shape[1]
            x = block(torch.cat([x, other[:, width // 2 : width // 2 + width]], dim=1))
        return x


class ConvBlock(nn.Module):
    """Two convolutions of 3 x 3, each after a normalisation without parameters."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Standardize(),
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.ReLU(),
            Standardize(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """From B x in_channels x h x w to B x out_channels x h x w."""
        result: Tensor = self.block(x)
        return result


class UpsamplingBlock(nn.Module):
    """Enlarges by two, then a convolution of 3 x 3 and a normalisation."""

    def __init__(
        self,
        upsampler: "type[BilinearUpsampler | TransposedUpsampler]",
        in_channels: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.block = nn.Sequential(
            upsampler(in_channels, out_channels),
            Conv3x3(out_channels),
            ImageNorm(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """From B x in_channels x h x w to B x out_channels x 2h x 2w."""
        result: Tensor = self.block(x)
        return result


class BilinearUpsampler(nn.Module):
    """Changes the channels, and enlarges by two with bilinear interpolation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """From B x in_channels x h x w to B x out_channels x 2h x 2w."""
        # The other order gives the same for four times the work.
        return F.interpolate(self.conv(x), scale_factor=2, mode="bilinear", align_corners=False)


class TransposedUpsampler(nn.Module):
    """Enlarges by two with a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """From B x in_channels x h x w to B x out_channels x 2h x 2w."""
        result: Tensor = self.block(x)
        return result


class Conv3x3(nn.Module):
    """A convolution that has its parameters where the official layout has them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x h x w, as is what it returns."""
        result: Tensor = self.block(x)
        return result


class Standardize(nn.Module):
    """Instance normalisation without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x h x w, as is what it returns."""
        return _standardized(x)


class ImageNorm(nn.Module):
    """BatchNorm by the statistics of each image; it only keeps running statistics for others.

    micro-sam never puts this decoder into evaluation mode, neither to validate nor to segment
    (`get_decoder` in version 1.8), so it was trained, selected and tuned with the statistics of
    each image. It is no `BatchNorm2d`, since training on several GPUs replaces those.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x h x w, as is what it returns."""
        normal = _standardized(x)
        return normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def _standardized(x: Tensor) -> Tensor:
    """Subtract the mean and divide by the standard deviation, for each image and channel."""
    # In half precision these would be of little worth.
    x = x.float()
    # By rows first, as OpenVINO's own normalisation adds up a million pixels one after another in
    # single precision, and is off by 1e-3 in the end.
    centred = x - x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
    variance = centred.square().mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
    return centred * torch.rsqrt(variance + EPS)
