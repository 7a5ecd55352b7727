"""micro-sam's instance decoder against its own code, whose outputs are stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samlet.engines import open_engine
from samlet.modeling.instance_decoder import InstanceDecoder, InstanceDecoderConfig
from samlet.modeling.sam import Sam
from tests.core.conftest import SMALL
from tests.references.distances import (
    FILE,
    GRID,
    INPUT_SIZE,
    LAYOUTS,
    ORIGINAL_SIZE,
    random_embedding,
    random_state,
)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def shapes_of(layout: str) -> dict[str, tuple[int, ...]]:
    """The official layout."""
    with np.load(FILE) as reference:
        names, shapes = reference[f"{layout} names"], reference[f"{layout} shapes"]
    return {
        str(name): tuple(map(int, shape.split())) for name, shape in zip(names, shapes, strict=True)
    }


def model_with_decoder(layout: str) -> Sam:
    config = InstanceDecoderConfig(use_conv_transpose=LAYOUTS[layout])
    torch.manual_seed(0)
    model = Sam(replace(SMALL, instance_decoder=config)).eval()
    assert model.instance_decoder is not None
    state = random_state(shapes_of(layout))
    model.instance_decoder.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    return model


def test_the_layout_is_the_official_one(layout: str) -> None:
    config = InstanceDecoderConfig(use_conv_transpose=LAYOUTS[layout])
    with torch.device("meta"):
        state = InstanceDecoder(config, 256).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes_of(layout)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_outputs_are_those_of_micro_sam(layout: str, engine: str) -> None:
    model = model_with_decoder(layout)
    embedding = torch.from_numpy(random_embedding())
    predicted = open_engine(model, engine, "float32").predict_distances(embedding)
    assert predicted.shape == (1, 3, 16 * GRID, 16 * GRID)
    height, width = INPUT_SIZE
    resized = F.interpolate(predicted[..., :height, :width], ORIGINAL_SIZE, mode="bilinear")
    with np.load(FILE) as reference:
        expected = reference[f"{layout} output"]
    assert expected.std() > 0.1
    assert np.allclose(resized[0].numpy(), expected, rtol=0, atol=1e-4)


def test_images_do_not_change_each_other() -> None:
    model = model_with_decoder("bilinear")
    decoder = model.instance_decoder
    assert decoder is not None
    embeddings = torch.randn(2, 256, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = decoder(embeddings), decoder(embeddings[1:])
    assert torch.allclose(together[1:], alone, atol=1e-5)


@pytest.mark.usefixtures("with_bfloat16")
def test_half_precision_is_close() -> None:
    model = model_with_decoder("bilinear")
    # A part, since processors without it take long.
    embedding = torch.from_numpy(random_embedding())[..., :4, :4]
    exact, half = (
        open_engine(model, "torch", precision).predict_distances(embedding)
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert 0 < float((half - exact).abs().mean()) < 0.02
