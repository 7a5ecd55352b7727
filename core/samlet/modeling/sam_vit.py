"""The configurations of SAM's own image encoders, the teachers that MobileSAM was distilled from.

The encoder itself is in `samlet.modeling.sam_vit_encoder`: timm, of which it is made, takes two
seconds to import.

Source: Segment Anything, arXiv 2304.02643, section 3 and appendix A.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SamViTConfig:
    """The configuration of one of SAM's encoders.

    Args:
        embed_dim: channels of the tokens.
        depth: number of blocks.
        num_heads: attention heads of each block.
        global_attn_indexes: the blocks that attend to the whole image; the others attend within
            windows.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]


SAM_VITS = {
    "sam_vit_b": SamViTConfig(768, 12, 12, (2, 5, 8, 11)),
    "sam_vit_l": SamViTConfig(1024, 24, 16, (5, 11, 17, 23)),
    "sam_vit_h": SamViTConfig(1280, 32, 16, (7, 15, 23, 31)),
}
