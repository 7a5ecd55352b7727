"""An image encoder for inference alone, as both engines run it."""

from torch import nn

from samlet.modeling.layers import ConvNorm
from samlet.modeling.tiny_vit_blocks import Attention


def fuse(module: nn.Module) -> nn.Module:
    """Replace what is inside a module, in place, by what computes the same with less work.

    Args:
        module: of which only evaluation mode counts; it cannot be trained afterwards.

    Returns:
        the module.
    """
    for name, child in module.named_children():
        if isinstance(child, ConvNorm | Attention):
            setattr(module, name, child.fuse())
        else:
            fuse(child)
    return module
