"""Models on disk: both formats, and every way in which a file can be wrong."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import samlet
from samlet.checkpoints import read_card
from samlet.downloads import REMOTE_FILES
from samlet.files import sha256_of
from samlet.modeling.image_encoder import TINY_VITS
from samlet.modeling.sam import Sam, SamConfig
from samlet.teachers.efficientnet import EfficientNetEncoder, load_imagenet_weights
from samlet.teachers.sam_vit import SAM_VITS, SamViTConfig

SMALL_SAM = SamConfig("sam_vit", 256, None, SamViTConfig(32, 3, 2, (1,)))


def same_weights(a: Sam, b: Sam) -> bool:
    state, other = a.state_dict(), b.state_dict()
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


def test_our_format_round_trip(small_model: Sam, small_file: Path) -> None:
    loaded = samlet.load(small_file)
    assert same_weights(loaded, small_model)
    assert loaded.config == small_model.config
    assert loaded.card == read_card(small_file) == {"summary": "random"}
    assert not loaded.training


def test_half_precision_halves_the_file(small_model: Sam, tmp_path: Path) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    samlet.save(small_model, full)
    samlet.save(small_model, half, dtype=torch.float16)
    assert half.stat().st_size < 0.52 * full.stat().st_size
    loaded = samlet.load(half)
    weights = loaded.state_dict()
    assert all(w.dtype == torch.float32 for w in weights.values() if w.is_floating_point())
    for name, weight in small_model.state_dict().items():
        torch.testing.assert_close(weights[name], weight, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("name", ["tiny_vit_5m", "tiny_vit_11m", "tiny_vit_2m"])
def test_official_layout_round_trip_tells_the_architecture(name: str, tmp_path: Path) -> None:
    """The architecture is read off the weights, so variants of any width load."""
    model = Sam(SamConfig(tiny_vit=TINY_VITS[name]))
    path = tmp_path / "official.pt"
    samlet.save(model, path)
    loaded = samlet.load(path)
    assert loaded.config.tiny_vit == TINY_VITS[name]
    assert loaded.config.image_size == 1024
    assert same_weights(loaded, model)


def test_official_weights_inside_a_trainers_checkpoint(tmp_path: Path) -> None:
    model = Sam(SamConfig(tiny_vit=TINY_VITS["tiny_vit_2m"]))
    plain, wrapped = tmp_path / "plain.pt", tmp_path / "wrapped.pt"
    samlet.save(model, plain)
    state = torch.load(plain, weights_only=True)
    torch.save({"model_state": {f"sam.{k}": v for k, v in state.items()}, "epoch": 3}, wrapped)
    assert same_weights(samlet.load(wrapped), model)


def test_teacher_round_trip(tmp_path: Path) -> None:
    config = SamConfig(
        "efficientnet_lite0", 64, None, pixel_mean=(127.0,) * 3, pixel_std=(128.0,) * 3
    )
    teacher = Sam(config)
    assert isinstance(teacher.image_encoder, EfficientNetEncoder)
    load_imagenet_weights(teacher.image_encoder)
    stem = teacher.image_encoder.backbone.get_parameter("conv_stem.weight")
    assert 0.05 < stem.std() < 1
    path = tmp_path / "teacher.safetensors"
    samlet.save(teacher, path)
    assert same_weights(samlet.load(path), teacher)
    with pytest.raises(samlet.UserError, match="no official layout"):
        samlet.save(teacher, tmp_path / "teacher.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_sam_round_trip(suffix: str, tmp_path: Path) -> None:
    """The official layout tells the input size, the heads and which blocks are global."""
    model = Sam(SMALL_SAM)
    path = tmp_path / f"sam{suffix}"
    samlet.save(model, path)
    loaded = samlet.load(path)
    assert loaded.config == SMALL_SAM
    assert same_weights(loaded, model)


def test_sam_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = REMOTE_FILES["sam_vit_b"]
    model = Sam(SMALL_SAM)
    samlet.save(model, tmp_path / remote.filename)
    known = replace(remote, sha256=sha256_of(tmp_path / remote.filename))
    monkeypatch.setitem(REMOTE_FILES, "sam_vit_b", known)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    loaded = samlet.load("sam_vit_b")
    assert loaded.name == "sam_vit_b"
    assert same_weights(loaded, model)


def test_configurations_from_before_sam(small_model: Sam) -> None:
    values = small_model.config.to_dict()
    del values["sam_vit"]
    assert SamConfig.from_dict(values) == small_model.config


def test_registry_names_are_segment_anythings_and_ours() -> None:
    import segment_anything

    assert set(samlet.sam_model_registry) == {"vit_t", *segment_anything.sam_model_registry}
    with torch.device("meta"):
        for name, sam_vit in SAM_VITS.items():
            model = samlet.sam_model_registry[name.removeprefix("sam_")]()
            assert model.config.sam_vit == sam_vit
        assert samlet.sam_model_registry["default"]().config == SamConfig()


def test_registry_reads_the_architecture_off_the_checkpoint(small_file: Path) -> None:
    model = samlet.sam_model_registry["vit_h"](checkpoint=small_file)
    assert model.config.tiny_vit is not None


def test_registry_builds_mobile_sam() -> None:
    model = samlet.sam_model_registry["vit_t"]()
    assert model.image_encoder.img_size == 1024
    assert sum(p.numel() for p in model.image_encoder.parameters()) == pytest.approx(6.1e6, rel=0.1)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code from a checkpoint ran",))


def write_evil(path: Path) -> None:
    torch.save({"weights": Evil()}, path)


def write_vit(path: Path) -> None:
    torch.save({"image_encoder.blocks.0.attn.qkv.weight": torch.zeros(3, 1)}, path)


def write_numbers(path: Path) -> None:
    torch.save([1, 2, 3], path)


def write_text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    ("write", "suffix", "sentence"),
    [
        (write_evil, ".pt", "could run code"),
        (write_vit, ".pth", "another architecture.*image_encoder.blocks.0.attn.qkv.weight"),
        (write_numbers, ".pt", "no state dict"),
        (write_text, ".pt", "cannot be read"),
        (write_pickle, ".pt", "cannot be read|no state dict"),
        (write_text, ".safetensors", "damaged or not a safetensors"),
    ],
)
def test_wrong_files_get_one_sentence(
    write: Any, suffix: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"wrong{suffix}"
    write(path)
    with pytest.raises(samlet.UserError, match=sentence) as caught:
        samlet.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "code from a checkpoint ran" not in capsys.readouterr().out


def test_truncated_files(small_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(small_file.read_bytes()[:-1000])
    with pytest.raises(samlet.UserError, match="damaged"):
        samlet.load(cut)
    official = tmp_path / "whole.pt"
    samlet.save(Sam(SamConfig(tiny_vit=TINY_VITS["tiny_vit_2m"])), official)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(official.read_bytes()[:-1000])
    with pytest.raises(samlet.UserError, match="cannot be read"):
        samlet.load(cut)


def test_keys_that_do_not_fit_are_named(small_file: Path, tmp_path: Path) -> None:
    state = load_file(small_file)
    from safetensors import safe_open

    with safe_open(small_file, framework="pt") as file:
        metadata = file.metadata()
    state["mask_decoder.extra"] = state.pop("mask_decoder.iou_token.weight")
    state["image_encoder.neck.0.weight"] = torch.zeros(1)
    path = tmp_path / "edited.safetensors"
    save_file(state, path, metadata=metadata)
    with pytest.raises(samlet.UserError) as caught:
        samlet.load(path)
    told = str(caught.value)
    assert "mask_decoder.iou_token.weight missing" in told
    assert "mask_decoder.extra unexpected" in told
    assert "image_encoder.neck.0.weight of another shape" in told


def test_foreign_and_newer_safetensors(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(samlet.UserError, match="not one of samlet's"):
        samlet.load(foreign)
    newer = tmp_path / "newer.safetensors"
    facts = json.dumps({"format": 99, "config": {}, "card": {}})
    save_file({"a": torch.zeros(1)}, newer, metadata={"samlet": facts})
    with pytest.raises(samlet.UserError, match="newer samlet"):
        samlet.load(newer)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nuclie", "There is no model nuclie: choose one of nuclei, mobile_sam, sam_vit_b, "),
        ("folder/model.pt", "There is no checkpoint folder/model.pt"),
    ],
)
def test_unknown_names(name: str, sentence: str) -> None:
    with pytest.raises(samlet.UserError, match=sentence):
        samlet.load(name)


def test_saving_to_a_bad_place(small_model: Sam, tmp_path: Path) -> None:
    with pytest.raises(samlet.UserError, match="must end in"):
        samlet.save(small_model, tmp_path / "model.onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(samlet.UserError, match="Cannot write"):
        samlet.save(small_model, tmp_path / "file" / "model.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
