"""A small model with random weights, the bundled one, and labelled images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import samlet
from samlet import images, samples
from samlet.datasets.examples import Example
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import TINY_VITS, TinyViTConfig
from samlet.outputs import read_label_map
from tests.core.s3 import endpoint, s3  # noqa: F401
from tests.models import nuclei_at

SMALL = SamConfig(
    image_size=128,
    tiny_vit=TinyViTConfig((32, 32, 64, 64), (1, 1, 1, 1), (1, 1, 2, 2), (4, 4, 4, 4)),
)


def sample(name: str, objects: int = 1000) -> Example:
    """A bundled image with its first objects."""
    labels = read_label_map(samples.LABELS / f"{name}.png").astype(np.int32)
    labels[labels > objects] = 0
    return Example(name, images.read(samples.IMAGES / f"{name}.png"), labels[None])


@pytest.fixture(scope="session")
def small_model() -> Sam:
    torch.manual_seed(0)
    return Sam(SMALL).eval()


@pytest.fixture(scope="module")
def model() -> Sam:
    """A narrow one with random weights, at 256 px; some modules have another of this name."""
    torch.manual_seed(0)
    return Sam(SamConfig(image_size=256, tiny_vit=TINY_VITS["tiny_vit_2m"]))


@pytest.fixture(scope="session")
def nuclei() -> Sam:
    """The bundled model, for images of half its size."""
    return nuclei_at(512)


@pytest.fixture(scope="session")
def nuclei_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model for images of 256 px, where what it finds does not matter.

    It does not zoom in, which takes most of the time.
    """
    path = tmp_path_factory.mktemp("models") / "nuclei-256.safetensors"
    model = nuclei_at(256)
    samlet.save(model, path, card=model.card | {"zoom": False})
    return path


@pytest.fixture
def small_file(small_model: Sam, tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    samlet.save(small_model, path, card={"summary": "random"})
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten pieces of a sample, with label maps of their objects."""
    whole = samlet.images.read(samples.IMAGES / "fluorescence_1.png")
    truth = np.asarray(Image.open(samples.LABELS / "fluorescence_1.png"))
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for i in range(10):
        part = np.s_[12 * i : 12 * i + 128, 10:138]
        Image.fromarray(whole[part]).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(truth[part].astype(np.uint16)).save(tmp_path / "labels" / f"{i}.png")
    return tmp_path
