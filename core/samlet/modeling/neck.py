"""SAM's neck, between the last features of an image encoder and the embedding."""

from torch import nn

from samlet.modeling.layers import LayerNorm2d


class Neck(nn.Sequential):
    """Two convolutions, each with a normalisation over the channels.

    Args:
        in_channels: of the features, B x in_channels x h x w.
        out_channels: of the embedding, B x out_channels x h x w.

    Source: `segment_anything.modeling.ImageEncoderViT`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )
