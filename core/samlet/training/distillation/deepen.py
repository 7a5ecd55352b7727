"""A deeper encoder that begins as the one that it grows from.

Source: Net2Net (arXiv 1511.05641), in the form that residual blocks allow: a new block whose last
layers are zero changes nothing until it is trained.
"""

from dataclasses import replace

import torch
from torch import nn

from samlet.modeling.sam import Sam
from samlet.modeling.tiny_vit import TinyViT
from samlet.modeling.tiny_vit_blocks import TinyVitBlock, TinyVitStage


@torch.no_grad()
def deepen_encoder(model: Sam, depths: tuple[int, int, int, int]) -> Sam:
    """A model with more blocks in its TinyViT, the new ones at the end of each stage.

    Args:
        model: it stays as it is.
        depths: blocks of the four stages, none fewer than it has; the first stage, which is
            convolutional, keeps its number.

    Returns:
        one that gives the same embeddings, to the precision of the arithmetic.

    Raises:
        ValueError: the encoder is no TinyViT, or the depths do not fit.
    """
    old = model.config.tiny_vit
    if old is None or depths[0] != old.depths[0] or any(map(int.__lt__, depths, old.depths)):
        raise ValueError(f"Depths of {depths} do not continue those of {old}.")
    deeper = Sam(replace(model.config, tiny_vit=replace(old, depths=depths)))
    deeper.load_state_dict(deeper.state_dict() | model.state_dict())
    assert isinstance(deeper.image_encoder, TinyViT)
    for number, stage in enumerate(deeper.image_encoder.stages):
        if isinstance(stage, TinyVitStage):
            for block in list(stage.blocks)[old.depths[number] :]:
                assert isinstance(block, TinyVitBlock)
                _make_identity(block)
    deeper.card, deeper.name = model.card, model.name
    return deeper.to(model.device).train(model.training)


def _make_identity(block: TinyVitBlock) -> None:
    """Let both residual branches add nothing, and the convolution between them pass all on."""
    for last in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    local = block.local_conv
    nn.init.dirac_(local.conv.weight, groups=local.conv.groups)
    local.bn.weight.fill_((1 + local.bn.eps) ** 0.5)
