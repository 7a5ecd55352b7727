"""Translation between the official parameter names, of MobileSAM for instance, and those of samlet.

A model's `state_dict` returns the official names, and `load_state_dict` accepts both, so that
scripts for `segment_anything` and `mobile_sam` work unchanged.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

CLASSIFIER = re.compile(r"image_encoder\.(norm_head|head)\.")
"""TinyViT's ImageNet head, which is in the official files but not used."""

CLASSES = 1000

Rules = tuple[tuple[str, Callable[[re.Match[str]], str]], ...]

# MobileSAM has a patch merging in the stage before it, timm in the stage after it. SAM's encoder
# differs from timm's only in the names within its MLPs, and EfficientViT-SAM's from ours only in
# those of batch normalisations.
_TO_OURS: Rules = (
    (r"^(image_encoder\.)patch_embed\.seq\.(0|2)\.",
     lambda m: f"{m[1]}patch_embed.conv{int(m[2]) // 2 + 1}."),
    (r"^(image_encoder\.)layers\.(\d)\.downsample\.",
     lambda m: f"{m[1]}stages.{int(m[2]) + 1}.downsample."),
    (r"^(image_encoder\.)layers\.", lambda m: f"{m[1]}stages."),
    (r"^(image_encoder\..+)\.c\.", lambda m: f"{m[1]}.conv."),
    (r"^(image_encoder\.blocks\.\d+\.mlp\.)lin(1|2)\.", lambda m: f"{m[1]}fc{m[2]}."),
    (r"^(image_encoder\.(?:backbone|neck)\..+\.)norm\.", lambda m: f"{m[1]}bn."),
)  # fmt: skip
_TO_OFFICIAL: Rules = (
    (r"^(image_encoder\.)patch_embed\.conv(1|2)\.",
     lambda m: f"{m[1]}patch_embed.seq.{(int(m[2]) - 1) * 2}."),
    (r"^(image_encoder\.)stages\.(\d)\.downsample\.",
     lambda m: f"{m[1]}layers.{int(m[2]) - 1}.downsample."),
    (r"^(image_encoder\.)stages\.", lambda m: f"{m[1]}layers."),
    (r"^(image_encoder\.(?!backbone|neck).+)\.conv\.weight$", lambda m: f"{m[1]}.c.weight"),
    (r"^(image_encoder\.blocks\.\d+\.mlp\.)fc(1|2)\.", lambda m: f"{m[1]}lin{m[2]}."),
    (r"^(image_encoder\.(?:backbone|neck)\..+\.)bn\.", lambda m: f"{m[1]}norm."),
)  # fmt: skip


def to_samlet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official parameter names to ours; the classifier is left out. Ours stay as they are."""
    kept = {key: value for key, value in state.items() if not CLASSIFIER.match(key)}
    return _renamed(kept, _TO_OURS)


def to_official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameter names to the official ones. These stay as they are."""
    return _renamed(state, _TO_OFFICIAL)


def use_official_names(model: nn.Module, tiny_vit_width: int | None) -> None:
    """Let a model's `state_dict` and `load_state_dict` use the official names.

    Args:
        model: a `Sam` around an encoder that has official names.
        tiny_vit_width: channels of the TinyViT's last stage; None for another encoder. `mobile_sam`
            requires a classifier of this width, which is written as zeros.
    """
    classifier = {}
    if tiny_vit_width is not None:
        classifier = {
            "image_encoder.norm_head.weight": torch.ones(tiny_vit_width),
            "image_encoder.norm_head.bias": torch.zeros(tiny_vit_width),
            "image_encoder.head.weight": torch.zeros(CLASSES, tiny_vit_width),
            "image_encoder.head.bias": torch.zeros(CLASSES),
        }
    model.register_state_dict_post_hook(_SaveHook(classifier))
    model.register_load_state_dict_pre_hook(_load_hook)


class _SaveHook:
    """A hook after `state_dict`; a class, so that models can be pickled."""

    def __init__(self, classifier: dict[str, Tensor]) -> None:
        self.classifier = classifier

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        _replace(state, prefix, lambda own: to_official_names(own) | self.classifier)


def _load_hook(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """A hook before `load_state_dict`."""
    _replace(state, prefix, to_samlet_names)


def _replace(
    state: dict[str, Any], prefix: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    own = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}
    changed = change({key.removeprefix(prefix): value for key, value in own.items()})
    state.update({f"{prefix}{key}": value for key, value in changed.items()})


def _renamed(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed
