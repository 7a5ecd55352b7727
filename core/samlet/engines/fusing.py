"""An image encoder for inference alone, as both engines run it."""

import copy

from torch import nn

from samlet.modeling.layers import ConvNorm
from samlet.modeling.tiny_vit_blocks import Attention


def fused(encoder: nn.Module) -> nn.Module:
    """A copy in which each module that can be fused is: it computes the same with less work.

    Args:
        encoder: is not changed; what it gives in evaluation mode counts.

    Returns:
        the copy, in evaluation mode. It cannot be trained.
    """
    encoder = copy.deepcopy(encoder).eval()
    _fuse_children(encoder)
    return encoder


def _fuse_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ConvNorm | Attention):
            setattr(module, name, child.fuse())
        else:
            _fuse_children(child)
