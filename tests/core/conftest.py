"""A small model with random weights, and the bundled one."""

from pathlib import Path

import pytest
import torch

import samlet
from samlet.modeling.image_encoder import TinyViTConfig
from samlet.modeling.sam import Sam, SamConfig

SMALL = SamConfig(
    image_size=128,
    tiny_vit=TinyViTConfig((32, 32, 64, 64), (1, 1, 1, 1), (1, 1, 2, 2), (4, 4, 4, 4)),
)


@pytest.fixture(scope="session")
def small_model() -> Sam:
    torch.manual_seed(0)
    return Sam(SMALL).eval()


@pytest.fixture(scope="session")
def nuclei() -> Sam:
    return samlet.load("nuclei")


@pytest.fixture
def small_file(small_model: Sam, tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    samlet.save(small_model, path, card={"summary": "random"})
    return path
