"""A deeper encoder starts where the one before it is, and can learn from there."""

import pytest
import torch

from samlet.modeling.sam import Sam
from samlet.training.distillation.deepen import deepen_encoder
from tests.core.conftest import SMALL

DEPTHS = (1, 2, 3, 2)


def test_a_deeper_model_begins_with_the_same_embeddings(nuclei: Sam, small_model: Sam) -> None:
    torch.manual_seed(0)
    for model, depths in ((nuclei, (2, 3, 9, 5)), (small_model, DEPTHS)):
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        deeper = deepen_encoder(model, depths)
        images = torch.randn(1, 3, 128, 128)
        with torch.no_grad():
            expected = model.image_encoder(images)
            torch.testing.assert_close(deeper.image_encoder(images), expected)
        assert deeper.config.tiny_vit is not None and deeper.config.tiny_vit.depths == depths
        assert deeper.card == model.card
        assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())


def test_every_new_block_learns() -> None:
    torch.manual_seed(0)
    model = deepen_encoder(Sam(SMALL), DEPTHS).train()
    optimizer = torch.optim.SGD(model.image_encoder.parameters(), lr=0.1)
    before = {name: p.clone() for name, p in model.image_encoder.named_parameters()}
    images = torch.randn(2, 3, 64, 64)
    # What lies before a layer of zeros has no gradient until that has moved.
    for _ in range(2):
        optimizer.zero_grad()
        model.image_encoder(images).square().sum().backward()
        optimizer.step()
    new = [n for n in before if n.startswith(("stages.1.blocks.1", "stages.2.blocks.2"))]
    assert len(new) > 20
    still = [n for n in new if torch.equal(before[n], model.image_encoder.get_parameter(n))]
    assert not still


@pytest.mark.parametrize("depths", [(2, 1, 1, 1), (1, 1, 0, 1)])
def test_depths_that_do_not_continue_are_refused(
    small_model: Sam, depths: tuple[int, int, int, int]
) -> None:
    with pytest.raises(ValueError, match="do not continue"):
        deepen_encoder(small_model, depths)
