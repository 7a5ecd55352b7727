"""Official checkpoints, of MobileSAM, SAM, RepViT-SAM, EdgeSAM and EfficientViT-SAM: writing them,
and inferring the architecture.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from samlet.errors import UserError
from samlet.modeling.efficientvit import EfficientViTConfig
from samlet.modeling.repvit import RepViTConfig
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SamViTConfig
from samlet.modeling.tiny_vit import STRIDE, TinyViTConfig

_NOT_OFFICIAL = ("proposal_head.", "instance_decoder.")


def to_official(model: Sam) -> dict[str, Tensor]:
    """A model's weights under the names that `mobile_sam`, or `segment_anything`, loads.

    `mobile_sam` builds only the 5M variant of TinyViT and `segment_anything` only ViT-B, L and H,
    all for an input of 1024 pixels; only samlet loads the others. A proposal head and an instance
    decoder are left out.

    Raises:
        UserError: the image encoder has no official layout.
    """
    if not model.config.has_official_names:
        raise UserError(
            f"{model.name} has an encoder for which there is no official layout; "
            "write a .safetensors file instead."
        )
    state = model.state_dict()
    return {name: state[name] for name in state if not name.startswith(_NOT_OFFICIAL)}


def infer_config(state: Mapping[str, Tensor]) -> SamConfig | None:
    """Infer the architecture from official weights; None if they have no known layout.

    SAM's weights also determine the input size; the others' do not, and 1024 is assumed.
    """
    return (
        _mobile_sam_config(state)
        or _sam_config(state)
        or _repvit_config(state)
        or _efficientvit_config(state)
    )


def _mobile_sam_config(state: Mapping[str, Tensor]) -> SamConfig | None:
    prefix = "image_encoder.layers"
    stem = state.get("image_encoder.patch_embed.seq.2.c.weight")
    biases = [state.get(f"{prefix}.{i}.blocks.0.attn.attention_biases") for i in (1, 2, 3)]
    qkv = [state.get(f"{prefix}.{i}.blocks.0.attn.qkv.weight") for i in (1, 2, 3)]
    if stem is None or any(x is None for x in (*biases, *qkv)):
        return None
    windows = [math.isqrt(x.shape[1]) for x in biases if x is not None]
    blocks = [re.match(rf"{prefix}\.(\d)\.blocks\.(\d+)\.", key) for key in state]
    depths = [1 + max(int(m[2]) for m in blocks if m and int(m[1]) == i) for i in range(4)]
    width = stem.shape[0]
    tiny_vit = TinyViTConfig(
        embed_dims=(width, *(x.shape[1] for x in qkv if x is not None)),  # type: ignore[arg-type]
        depths=tuple(depths),  # type: ignore[arg-type]
        # The first stage has neither heads nor windows; all variants have 32 channels per head.
        num_heads=(width // 32, *(x.shape[0] for x in biases if x is not None)),  # type: ignore[arg-type]
        window_sizes=(windows[0], *windows),  # type: ignore[arg-type]
    )
    return SamConfig(image_encoder="tiny_vit", image_size=1024, tiny_vit=tiny_vit)


def _sam_config(state: Mapping[str, Tensor]) -> SamConfig | None:
    matches = [re.match(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_h$", key) for key in state]
    tables = {int(m[1]): state[m[0]] for m in matches if m}
    positions = state.get("image_encoder.pos_embed")
    if not tables or positions is None:
        return None
    grid, embed_dim = positions.shape[1], positions.shape[-1]
    sam_vit = SamViTConfig(
        embed_dim=embed_dim,
        depth=1 + max(tables),
        num_heads=embed_dim // next(iter(tables.values())).shape[1],
        # One row per offset between two tokens: of the whole grid, or only of a window.
        global_attn_indexes=tuple(i for i in sorted(tables) if len(tables[i]) == 2 * grid - 1),
    )
    return SamConfig("sam_vit", grid * STRIDE, tiny_vit=None, sam_vit=sam_vit)


def _repvit_config(state: Mapping[str, Tensor]) -> SamConfig | None:
    mixer = re.compile(r"image_encoder\.features\.(\d+)\.token_mixer\.0\.(c|conv\.c)\.weight$")
    matches = [m for key in state if (m := mixer.match(key))]
    dims: list[int] = []
    depths: list[int] = []
    for match in sorted(matches, key=lambda m: int(m[1])):
        begins_stage = match[2] == "c"
        if begins_stage or not dims:
            last = f"image_encoder.features.{match[1]}.token_mixer.2.c.weight"
            dims.append(len(state[last if begins_stage else match[0]]))
            depths.append(0)
        depths[-1] += not begins_stage
    if len(dims) != 4:
        return None
    joins_levels = "image_encoder.fuse_stage2.weight" in state
    repvit = RepViTConfig(tuple(dims), tuple(depths), joins_levels)  # type: ignore[arg-type]
    return SamConfig("repvit", tiny_vit=None, repvit=repvit)


def _efficientvit_config(state: Mapping[str, Tensor]) -> SamConfig | None:
    block = re.compile(r"image_encoder\.(backbone\.stages\.(\d)|neck\.middle)\.op_list\.(\d+)\.")
    last: dict[str, int] = {}
    for match in (m for key in state if (m := block.match(key))):
        last[match[1]] = max(int(match[3]), last.get(match[1], 0))
    stages = sorted(name for name in last if name.startswith("backbone"))
    dims = []
    for number, stage in enumerate(stages):
        first = "conv" if number == 0 else "main.point_conv.conv"
        weight = state.get(f"image_encoder.{stage}.op_list.0.{first}.weight")
        if weight is None:
            return None
        dims.append(len(weight))
    if len(dims) not in (5, 6) or "neck.middle" not in last:
        return None
    depths = tuple(last[stage] for stage in stages)
    efficientvit = EfficientViTConfig(tuple(dims), depths, last["neck.middle"] + 1)
    return SamConfig("efficientvit", tiny_vit=None, efficientvit=efficientvit)
