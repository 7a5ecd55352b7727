"""What samlet relies on in timm's ViT, whose names and arguments timm does not promise."""

import hashlib
import inspect
from pathlib import Path

import torch
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

import samlet
from samlet.modeling.sam_vit import SamViTConfig
from samlet.modeling.sam_vit_encoder import SamViT


def digest(module: nn.Module) -> str:
    """A hash of the names and shapes of a module's parameters and buffers."""
    state = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
    return hashlib.sha256(repr(sorted(state)).encode()).hexdigest()[:12]


def test_arguments() -> None:
    known = inspect.signature(VisionTransformerSAM.__init__).parameters
    assert known.keys() >= {
        "img_size", "patch_size", "num_classes", "embed_dim", "depth", "num_heads",
        "global_attn_indexes", "use_rel_pos", "window_size", "neck_chans", "norm_layer",
    }  # fmt: skip


def test_parts() -> None:
    encoder = SamViT(SamViTConfig(32, 2, 2, (1,)), image_size=256)
    assert digest(encoder) == "a76f764580aa"
    assert encoder.forward_features(torch.zeros(1, 3, 256, 256)).shape == (1, 256, 16, 16)


def test_imported_in_one_place() -> None:
    root = Path(samlet.__file__).parent
    users = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "from timm.models" in path.read_text("utf-8")
    }
    assert users == {"modeling/sam_vit_encoder.py"}
