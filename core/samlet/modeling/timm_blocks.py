"""All that samlet uses of timm beyond its documented functions, imported in this one place.

`tests/core/modeling/test_timm_blocks.py` fails where a version of timm has moved or changed any of
it.
"""

import torch
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
from torch import nn

__all__ = [
    "Attention",
    "ConvLayer",
    "ConvNorm",
    "PatchEmbed",
    "PatchMerging",
    "TinyVitBlock",
    "TinyVitStage",
    "VisionTransformerSAM",
    "widen_windows",
]


def widen_windows(block: TinyVitBlock, side: int) -> None:
    """Give a block of windows of one token larger ones; its attention biases become zero.

    timm finds out in Python which bias each pair of tokens has. With windows of 16 x 16 tokens that
    is most of the time that a model takes to load.

    Args:
        block: made with a window size of 1.
        side: of the new windows, in tokens.
    """
    block.window_size = side
    attention = block.attn
    attention.resolution = (side, side)
    attention.attention_biases = nn.Parameter(torch.zeros(attention.num_heads, side * side))
    # One bias for each pair of distances, those of the first row of tokens first.
    distances = (torch.arange(side).unsqueeze(0) - torch.arange(side).unsqueeze(1)).abs()
    indices = side * distances[:, None, :, None] + distances[None, :, None, :]
    attention.register_buffer(
        "attention_bias_idxs", indices.reshape(side * side, side * side), persistent=False
    )
