"""`samlet models`: the list, downloading ahead, and measuring."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import samlet
from samlet.checkpoints.loading import BUNDLED
from samlet.checkpoints.registry import MODELS
from samlet.modeling.sam import Sam
from samlet.utils.files import checksum_of
from tests.core.cli.test_cli import call

NAME = "vit_t_lm"
FILENAME = f"{NAME}.pt"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMLET_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()


@pytest.fixture
def published(tmp_path: Path, small_model: Sam, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the place of a published one, in the folder that is the mirror."""
    path = tmp_path / "models" / FILENAME
    samlet.save(small_model, path)
    weights = replace(MODELS[NAME].weights, checksum=checksum_of(path, "xxh128"))
    model = replace(MODELS[NAME], weights=weights, instance_decoder=None)
    monkeypatch.setitem(MODELS, NAME, model)
    return path


def row_of(listed: str, name: str) -> str:
    rows = listed.splitlines()
    index = next(i for i, row in enumerate(rows) if row.startswith(f"{name} "))
    return " ".join(rows[index : index + 2])


def test_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, published: Path
) -> None:
    code, listed, _ = call(capsys, monkeypatch, "models")
    assert code == 0
    for name in (*BUNDLED, *MODELS):
        assert row_of(listed, name).split()[0] == name
    for fact in ("10 M", "~39 MB", "CC-BY-4.0", "offline", "light microscopy", "micro-sam"):
        assert fact in row_of(listed, NAME)
    for fact in ("94 M", "375 MB", "Apache-2.0", "to download", "photographs", "Meta AI"):
        assert fact in row_of(listed, "sam_vit_b")
    assert "not stated" in row_of(listed, "vit_b_histopathology")
    assert all("bundled" in row_of(listed, name) for name in BUNDLED)
    assert str(published.parent) in listed.splitlines()[-1]
    assert max(map(len, listed.splitlines()[:-2])) <= 100


def test_get(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, published: Path
) -> None:
    assert call(capsys, monkeypatch, "models", "get", NAME)[:2] == (0, f"{NAME}: {published}\n")
    published.write_bytes(b"<html>")
    code, told, err = call(capsys, monkeypatch, "models", "get", NAME)
    assert (code, told) == (1, "")
    assert err.startswith("Error: ") and err.count("\n") == 1 and "wrong checksum" in err


def test_get_checks_all_names_before_it_downloads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, published: Path
) -> None:
    code, told, err = call(capsys, monkeypatch, "models", "get", NAME, "vit_b_ml")
    assert (code, told) == (1, "")
    assert "There is no model vit_b_ml: choose vit_b_lm or " in err


def test_get_refuses_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small_file: Path
) -> None:
    code, told, err = call(capsys, monkeypatch, "models", "get", small_file)
    assert (code, told) == (1, "")
    assert err == f"Error: {small_file} is here already: give names from `samlet models`.\n"


def test_speed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    published: Path,
    small_file: Path,
    tmp_path: Path,
) -> None:
    own = shutil.copy(small_file, tmp_path / "own.safetensors")
    code, told, err = call(capsys, monkeypatch, "models", "speed", NAME, own)
    assert code == 0, err
    first, second = told.splitlines()
    assert first.startswith(f"{NAME}: ")
    assert first.endswith(" s for 1024 x 1024 pixels (torch, float32)")
    assert second.startswith(f"{own}: ")
    code, told, err = call(capsys, monkeypatch, "models", "speed", NAME, "sam_vit_b")
    assert (code, told) == (1, "")
    assert err == (
        "Error: sam_vit_b is not on this machine: download it with `samlet models get sam_vit_b`.\n"
    )
