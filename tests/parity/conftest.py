"""The official MobileSAM with random weights, and the same weights in samlet."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import samlet
from samlet.modeling.sam import Sam


@pytest.fixture(scope="session")
def official() -> Any:
    """`mobile_sam`'s vit_t; every weight random, BatchNorm's statistics and biases too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam import sam_model_registry

    torch.manual_seed(0)
    model = sam_model_registry["vit_t"]()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    for name, parameter in model.named_parameters():
        if "attention_biases" in name:
            parameter.data.normal_(0, 0.5)
        elif parameter.ndim < 2 and ".bn." not in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    # It caches its attention biases when it enters eval mode.
    return model.train().eval()


@pytest.fixture(scope="session")
def official_file(official: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the layout of `mobile_sam.pt`."""
    path = tmp_path_factory.mktemp("official") / "mobile_sam.pt"
    torch.save(official.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def ours(official_file: Path) -> Sam:
    return samlet.load(official_file)


@pytest.fixture(scope="session")
def maxima() -> Iterator[dict[str, float]]:
    """Collects the largest differences, and prints them at the end (with `pytest -s`)."""
    seen: dict[str, float] = {}
    yield seen
    print("\nparity maxima:", {name: f"{value:.2e}" for name, value in seen.items()})
