"""SAM's own image encoders, of timm's blocks.

timm does not promise the names and arguments that are used here: `tests/core/modeling/
test_sam_vit_encoder.py` fails where a version of it has moved or changed any.

Source: Segment Anything, arXiv 2304.02643, section 3 and appendix A; the backbone is ViTDet's,
arXiv 2203.16527. Parameter names are the official ones, except those of the MLPs.
"""

from functools import partial

from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from samlet.modeling.sam_vit import SamViTConfig
from samlet.modeling.tiny_vit import STRIDE

WINDOW = 14
"""Side of the attention windows, in tokens."""


class SamViT(VisionTransformerSAM):
    """A plain ViT with windowed and global attention, relative positions, and SAM's neck.

    Args:
        config: width, depth, heads and global blocks.
        image_size: side of the square input in pixels, a multiple of 16; the
            position tables depend on it.
        out_channels: channels of the embedding.
    """

    def __init__(
        self, config: SamViTConfig, image_size: int = 1024, out_channels: int = 256
    ) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=STRIDE,
            num_classes=0,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            global_attn_indexes=config.global_attn_indexes,
            use_rel_pos=True,
            window_size=WINDOW,
            neck_chans=out_channels,
            # SAM was trained with this epsilon; torch's default is ten times as large.
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images.

        Args:
            images: float, B x 3 x image_size x image_size.

        Returns:
            float, B x out_channels x image_size/16 x image_size/16.
        """
        return self.forward_features(images)
