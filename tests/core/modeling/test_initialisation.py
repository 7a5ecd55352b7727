"""Models that are built without random weights."""

import torch

from samlet.modeling.initialisation import WithoutRandomWeights
from samlet.modeling.sam import Sam
from samlet.modeling.sam_vit import SamViTConfig
from samlet.modeling.sam_vit_encoder import SamViT
from samlet.modeling.tiny_vit import TINY_VITS, TinyViT


def test_nothing_is_drawn() -> None:
    before = torch.get_rng_state()
    with WithoutRandomWeights():
        TinyViT(TINY_VITS["tiny_vit_2m"], 256)
        SamViT(SamViTConfig(32, 2, 2, (1,)), 128, 256)
    assert torch.equal(torch.get_rng_state(), before)
    torch.nn.Linear(2, 2)
    assert not torch.equal(torch.get_rng_state(), before)


def test_what_is_not_a_weight_is_as_ever(small_model: Sam) -> None:
    with WithoutRandomWeights():
        built = Sam(small_model.config)
    built.load_state_dict(small_model.state_dict())
    wanted = dict(small_model.named_buffers())
    assert wanted.keys() == dict(built.named_buffers()).keys()
    assert all(torch.equal(buffer, wanted[name]) for name, buffer in built.named_buffers())
    pixels = torch.zeros(1, 3, 128, 128)
    assert torch.equal(built.eval().image_encoder(pixels), small_model.image_encoder(pixels))
