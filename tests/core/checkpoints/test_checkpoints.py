"""Models on disk: both formats, and every way in which a file can be wrong."""

import argparse
import copy
import json
import logging
import pickle
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import samlet
from samlet.checkpoints.loading import _say_renamed, read_card
from samlet.checkpoints.registry import MODELS
from samlet.modeling.efficientnet import EfficientNetEncoder, load_imagenet_weights
from samlet.modeling.official_names import to_samlet_names
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SAM_VITS, SamViTConfig
from samlet.modeling.tiny_vit import TINY_VITS, TinyViTConfig
from samlet.utils.files import checksum_of

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


class Settings:
    """A trainer's own class, which does not exist where the file is read."""

    def __init__(self) -> None:
        self.rate = 1e-4


def beside() -> dict[str, Any]:
    """What trainers keep beside the weights."""
    sums: defaultdict[str, list[float]] = defaultdict(list)
    sums["loss"].append(0.5)
    return {
        "epoch": 3,
        "best_metric": np.float64(0.7),
        "rng": np.random.default_rng(0).normal(size=3),
        "args": argparse.Namespace(lr=1e-4, out=Path("runs")),
        "settings": Settings(),
        "sums": sums,
        "optimizer_state": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{}]},
        "time": datetime(2026, 11, 27),
    }


def before(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def compiled_inside(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.replace("image_encoder.", "image_encoder._orig_mod.", 1): v for k, v in state.items()}


class Trained(torch.nn.Module):
    """What a trainer may wrap around a model."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        self.loss_weight = torch.nn.Parameter(torch.ones(1))


WRAPPED: dict[str, Callable[[Sam, Mapping[str, Tensor]], Any]] = {
    "micro-sam": lambda m, s: {"model_state": before("sam.", s), "decoder_state": {}, **beside()},
    "Lightning": lambda m, s: {
        "state_dict": before("model.", s) | {"loss.weight": torch.ones(2)},
        "hyper_parameters": argparse.Namespace(), "pytorch-lightning_version": "2.5", **beside(),
    },
    "model": lambda m, s: {"model": s, **beside()},
    "model_state_dict": lambda m, s: {"model_state_dict": s, **beside()},
    "ema before model": lambda m, s: {"model": {k: v + 1 for k, v in s.items()}, "ema": s},
    "AveragedModel": lambda m, s: {"n_averaged": torch.tensor(3), **before("module.", s)},
    "DataParallel": lambda m, s: before("module.", s),
    "torch.compile": lambda m, s: before("_orig_mod.", s),
    "compiled in parallel": lambda m, s: before("module._orig_mod.", s),
    "a compiled encoder": lambda m, s: compiled_inside(s),
    "deep inside": lambda m, s: {"train": {"checkpoint": {"model": s}}},
    "half precision": lambda m, s: {
        k: v.half() if v.is_floating_point() else v for k, v in s.items()
    },
    "a whole module": lambda m, s: m,
    "a whole module in another": lambda m, s: {"model": Trained(m), **beside()},
    "parameters": lambda m, s: {k: torch.nn.Parameter(v.float()) for k, v in s.items()},
    "names of samlet's modules": lambda m, s: to_samlet_names(s),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Sam:
    torch.manual_seed(0)
    vit = TinyViTConfig((32, 32, 64, 64), (1, 1, 1, 1), (1, 1, 2, 2), (4, 4, 4, 4))
    return Sam(SamConfig(tiny_vit=vit)).eval()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_official_weights_as_trainers_save_them(
    tiny: Sam, tmp_path: Path, wrapper: str, zipped: bool
) -> None:
    path = tmp_path / "checkpoint.ckpt"
    content = WRAPPED[wrapper](tiny, tiny.state_dict())
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped and wrapper in OBJECTS:
        with pytest.raises(samlet.UserError, match="without running code"):
            samlet.load(path)
        return
    loaded = samlet.load(path)
    assert loaded.config == tiny.config
    tolerance = 1e-2 if wrapper == "half precision" else 0
    for name, weight in loaded.state_dict().items():
        torch.testing.assert_close(weight, tiny.state_dict()[name], atol=tolerance, rtol=1e-2)


OBJECTS = {name for name in WRAPPED if "whole" in name} | {
    "micro-sam", "Lightning", "model", "model_state_dict",
}  # fmt: skip
"""Files of before PyTorch 1.6 do not tell beforehand which classes they name."""


def test_official_weights_in_safetensors(tiny: Sam, tmp_path: Path) -> None:
    """As model hubs keep them: official names, and no word of samlet's."""
    save_file(before("sam.", tiny.state_dict()), tmp_path / "a.safetensors", {"format": "pt"})
    assert same_weights(samlet.load(tmp_path / "a.safetensors"), tiny)


def test_the_lines_of_finetuning_scripts(tiny: Sam, tmp_path: Path) -> None:
    """`load_state_dict(torch.load(...))` and `torch.save(sam.state_dict())`, official on each side.

    The official package itself: tests/parity/test_mobile_sam.py.
    """
    torch.save(tiny.state_dict(), tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt")
    assert "image_encoder.layers.1.blocks.0.attn.attention_biases" in state
    assert "image_encoder.head.weight" in state
    again = Sam(tiny.config)
    assert str(again.load_state_dict(state)) == "<All keys matched successfully>"
    assert same_weights(again, tiny)
    assert same_weights(samlet.load(tmp_path / "a.pt"), tiny)
    # Also inside another module, and of a copy.
    wrapped = Trained(copy.deepcopy(again))
    assert "sam.image_encoder.layers.0.blocks.0.conv1.c.weight" in wrapped.state_dict()
    Trained(Sam(tiny.config)).load_state_dict(pickle.loads(pickle.dumps(wrapped)).state_dict())
    # Names of the modules are understood, too: those of a state dict of before.
    again.load_state_dict(to_samlet_names(state))


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
    published = MODELS["sam_vit_b"]
    model, path = Sam(SMALL_SAM), tmp_path / published.weights.filename
    samlet.save(model, path)
    weights = replace(published.weights, checksum=checksum_of(path, "sha256"))
    monkeypatch.setitem(MODELS, "sam_vit_b", replace(published, weights=weights))
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    loaded = samlet.load("sam_vit_b")
    assert loaded.name == "sam_vit_b"
    assert same_weights(loaded, model)


def test_the_name_of_the_model_before_loads_the_one_in_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _say_renamed.cache_clear()
    caplog.set_level(logging.INFO, "samlet")
    old, again, new = samlet.load("nuclei"), samlet.load("nuclei"), samlet.load("microscopy")
    assert old.name == again.name == new.name == "microscopy"
    assert same_weights(old, new)
    assert caplog.messages == ["The model nuclei is now part of microscopy, which is used instead."]


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


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")


def write_program(path: Path) -> None:
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(path)


ONE = "image_encoder.pos_embed"


def write_two(path: Path) -> None:
    torch.save({f"{name}.{ONE}": torch.zeros(1) for name in ("student", "teacher")}, path)


def write_two_keys(path: Path) -> None:
    torch.save({name: {ONE: torch.zeros(1)} for name in ("first", "second")}, path)


@pytest.mark.parametrize(
    ("write", "suffix", "sentence"),
    [
        (write_evil, ".pt", "has no weights of image_encoder.*but weights: save the state dict"),
        (
            write_vit,
            ".pth",
            "architecture of none of MobileSAM.*image_encoder.blocks.0.attn.qkv.weight",
        ),
        (write_numbers, ".pt", "has no weights .*an object of type list"),
        (write_text, ".pt", "is a web page, not a checkpoint"),
        (write_pickle, ".pt", "cannot be read|has no weights"),
        (write_text, ".safetensors", "damaged or not a safetensors"),
        (write_nothing, ".pt", "is empty"),
        (write_pointer, ".pt", "Git LFS pointer.*git lfs pull"),
        (write_program, ".pt", "TorchScript program.*save model.state_dict"),
        (write_two, ".pt", "names begin with 'student.', 'teacher.'"),
        (write_two_keys, ".pt", "weights of several models .first, second."),
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
    with pytest.raises(samlet.UserError, match="has no weights of image_encoder"):
        samlet.load(foreign)
    newer = tmp_path / "newer.safetensors"
    facts = json.dumps({"format": 99, "config": {}, "card": {}})
    save_file({"a": torch.zeros(1)}, newer, metadata={"samlet": facts})
    with pytest.raises(samlet.UserError, match="newer version of samlet"):
        samlet.load(newer)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mobile_sma", "There is no model mobile_sma: choose mobile_sam, or give a file's path"),
        ("vit_b_ml", "There is no model vit_b_ml: choose vit_b_lm or "),
        ("yolo", "There is no model yolo: choose one of [^,]+, mobile_sam, sam_vit_b, "),
        (
            "repvit_sam",
            "repvit_sam is not downloaded, .* download https://.*/repvit_sam.pt yourself",
        ),
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
