"""All that samlet uses of timm beyond its documented functions, imported in this one place.

`tests/core/modeling/test_timm_blocks.py` fails where a version of timm has moved or changed any of
it.
"""

from timm.models.tiny_vit import (
    Attention,
    ConvLayer,
    ConvNorm,
    PatchEmbed,
    PatchMerging,
    TinyVitBlock,
    TinyVitStage,
)
from timm.models.vision_transformer_sam import VisionTransformerSAM

__all__ = [
    "Attention",
    "ConvLayer",
    "ConvNorm",
    "PatchEmbed",
    "PatchMerging",
    "TinyVitBlock",
    "TinyVitStage",
    "VisionTransformerSAM",
]
