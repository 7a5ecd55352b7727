"""micro-sam's instance decoder is read with its model, from wherever it is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import samlet
from samlet.checkpoints.catalogue import catalogue
from samlet.checkpoints.registry import MODELS
from samlet.everything.settings import default_settings
from samlet.modeling.instance_decoder import InstanceDecoderConfig
from samlet.modeling.sam import Sam
from tests.core.checkpoints.test_registry import register
from tests.references.distances import FILE, LAYOUTS, random_state


def decoder_state(layout: str = "bilinear") -> dict[str, Tensor]:
    """Random weights in the layout that micro-sam itself has."""
    with np.load(FILE) as reference:
        names, shapes = reference[f"{layout} names"], reference[f"{layout} shapes"]
    sizes = {str(n): tuple(map(int, s.split())) for n, s in zip(names, shapes, strict=True)}
    return {name: torch.from_numpy(value) for name, value in random_state(sizes).items()}


@pytest.fixture
def weights(small_model: Sam) -> dict[str, Tensor]:
    return small_model.state_dict()


def check_decoder(model: Sam, expected: dict[str, Tensor]) -> None:
    assert model.instance_decoder is not None
    loaded = model.instance_decoder.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_the_models_own_file(layout: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    state = decoder_state(layout)
    # As micro-sam exports it, and as its trainer saves it: with the optimizer's state, and here
    # with the encoder's weights once more.
    beside = {"encoder.pos_embed": torch.zeros(2), **state}
    torch.save({"model_state": weights, "decoder_state": beside, "epoch": 3}, path)
    model = samlet.load(path)
    assert model.config.instance_decoder == InstanceDecoderConfig(LAYOUTS[layout])
    check_decoder(model, state)
    assert not model.training


def test_in_a_file_beside_it(weights: dict[str, Tensor], tmp_path: Path) -> None:
    state = decoder_state()
    torch.save(weights, tmp_path / "vit_t.pt")
    assert samlet.load(tmp_path / "vit_t.pt").instance_decoder is None
    torch.save(state, tmp_path / "vit_t_decoder.pt")
    check_decoder(samlet.load(tmp_path / "vit_t.pt"), state)
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "b.safetensors")
    save_file(state, tmp_path / "b_decoder.safetensors")
    check_decoder(samlet.load(tmp_path / "b.safetensors"), state)


def test_by_a_published_name(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMLET_MODELS", str(tmp_path))
    state, path, decoder = (
        decoder_state(),
        tmp_path / "vit_t_lm.pt",
        tmp_path / "vit_t_lm_decoder.pt",
    )
    torch.save(weights, path)
    torch.save(state, decoder)
    register("vit_t_lm", monkeypatch, path, decoder)
    model = samlet.load("vit_t_lm")
    check_decoder(model, state)
    watershed = default_settings(model, "watershed")
    assert watershed["distance_smoothing"] == 2.0 and watershed["min_size"] == 100
    entry = next(entry for entry in catalogue() if entry.name == "vit_t_lm")
    assert entry.file == path and entry.size == "~78 MB"
    decoder.unlink()
    entry = next(entry for entry in catalogue() if entry.name == "vit_t_lm")
    assert entry.place == "to download"
    remote = MODELS["vit_t_lm"].instance_decoder
    assert remote is not None
    with pytest.raises(samlet.UserError) as caught:
        samlet.load("vit_t_lm")
    for fact in (decoder.name, remote.url, remote.checksum):
        assert fact in str(caught.value)


def test_in_our_format(weights: dict[str, Tensor], tmp_path: Path) -> None:
    state = decoder_state("transposed")
    torch.save({"model_state": weights, "decoder_state": state}, tmp_path / "a.pt")
    model, ours = samlet.load(tmp_path / "a.pt"), tmp_path / "a.safetensors"
    samlet.save(model, ours)
    again = samlet.load(ours)
    assert again.config == model.config
    check_decoder(again, state)
    with safe_open(ours, "pt") as file:
        assert json.loads(file.metadata()["samlet"])["format"] == 3
    samlet.save(model, tmp_path / "official.pt")
    assert torch.load(tmp_path / "official.pt", weights_only=True).keys() == weights.keys()


def test_a_decoder_without_its_model(tmp_path: Path) -> None:
    path = tmp_path / "vit_t_decoder.pt"
    for content in (decoder_state(), {"decoder_state": decoder_state()}):
        torch.save(content, path)
        with pytest.raises(samlet.UserError, match="only an instance decoder, without the model"):
            samlet.load(path)


def _narrow(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"out_conv.weight": state["out_conv.weight"][:1]}


def _with_skip_connections(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("deconv2.block", "deconv2.0.block"): value for name, value in state.items()
    }


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_narrow, "out_conv.weight of another shape"),
        (_with_skip_connections, "deconv2.block.0.conv.bias, .* missing; deconv2.0.block"),
    ],
)
@pytest.mark.parametrize("is_beside", [False, True])
def test_a_decoder_of_another_layout(
    change: Callable[[Any], Any],
    fault: str,
    is_beside: bool,
    weights: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    state, path = change(decoder_state()), tmp_path / "a.pt"
    torch.save(weights if is_beside else {"model_state": weights, "decoder_state": state}, path)
    source = path
    if is_beside:
        source = tmp_path / "a_decoder.pt"
        torch.save(state, source)
    with pytest.raises(samlet.UserError, match=f"of another layout than micro-sam's: {fault}") as e:
        samlet.load(path)
    assert str(source) in str(e.value)


def test_something_else_beside_a_model(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "a.pt")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "a_decoder.pt")
    with pytest.raises(samlet.UserError, match="no weights of an instance decoder, but layer"):
        samlet.load(tmp_path / "a.pt")
    (tmp_path / "a_decoder.pt").write_bytes(b"")
    with pytest.raises(samlet.UserError, match="is empty"):
        samlet.load(tmp_path / "a.pt")
