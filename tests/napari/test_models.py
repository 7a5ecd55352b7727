"""The list of models: own ones beside samlet's."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from samlet import checkpoints
from samlet.checkpoints.registry import MODELS
from samlet.errors import UserError
from samlet_napari.inference import models

NUCLEI = checkpoints.BUNDLED["microscopy"]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own models"
    monkeypatch.setenv("SAMLET_NAPARI_MODELS", str(folder))
    return folder


def test_own_models_stand_between_bundled_and_downloadable_ones(own: Path) -> None:
    assert models.names() == ["microscopy", *MODELS]
    models.add("yeast", NUCLEI)
    models.add("Bacteria", NUCLEI)
    (own / "notes.txt").touch()
    (own / ".half-written.safetensors").touch()
    # Its name is taken: it could not be told from the bundled one.
    shutil.copyfile(NUCLEI, own / "microscopy.safetensors")
    assert models.names() == ["microscopy", "Bacteria", "yeast", *MODELS]
    assert models.to_loadable("microscopy") == "microscopy"
    assert models.to_loadable("yeast") == str(own / "yeast.safetensors")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("cells", "cells-3"),
        ("CELLS", "CELLS-3"),
        ("microscopy", "microscopy-2"),
        ("mobile_sam", "mobile_sam-2"),
        ("../../evil", "evil"),
        ("Zellen, über 5 µm", "Zellen-über-5-µm"),
        (" v1.2 ", "v1.2"),
        ("...", "model"),
        ("", "model"),
        ("x" * 300, "x" * 80),
    ],
)
def test_a_name_is_never_taken_twice(own: Path, name: str, kept: str) -> None:
    own.mkdir()
    for taken in ("cells", "cells-2"):
        (own / f"{taken}.safetensors").write_text("precious")
    path = models.add(name, NUCLEI)
    assert path == own / f"{kept}.safetensors"
    assert path.read_bytes() == NUCLEI.read_bytes()
    assert (own / "cells.safetensors").read_text() == "precious"
    assert kept in models.names()


def test_a_model_that_cannot_be_kept(own: Path, tmp_path: Path) -> None:
    told: list[str] = []
    models.model_list.changed.connect(lambda: told.append("changed"))
    with pytest.raises(UserError, match="Cannot write"):
        models.add("cells", tmp_path / "gone.safetensors")
    assert list(own.iterdir()) == [] and told == []
    models.add("cells", NUCLEI)
    assert told == ["changed"]


def test_viewers_and_threads_share_a_model() -> None:
    path = models.add("cells", NUCLEI)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(models.predictor, ["cells"] * 3 + [str(path)])
    assert all(other is first for other in others)
    assert models.predictor("microscopy") is not first
    # Another file with the same name.
    os.utime(path, ns=(0, 0))
    assert models.predictor("cells") is not first


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(UserError, match="There is no model cells"):
        models.predictor("cells")


def test_what_must_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    monkeypatch.delenv("SAMLET_MODELS", raising=False)
    assert models.is_available("microscopy") and models.is_available("cells")
    assert not models.is_available("mobile_sam")
    (tmp_path / MODELS["mobile_sam"].weights.filename).touch()
    assert models.is_available("mobile_sam")


def test_models_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.add("yeast", NUCLEI)
    described = models.descriptions()
    assert set(described) == set(models.names())
    assert described["yeast"] == f"Your own model, {path}."
    for words in ("light microscopy", "10 M parameters", "CC-BY-4.0", "micro-sam", "to download"):
        assert words in described["vit_t_lm"]
    monkeypatch.setenv("SAMLET_MODELS", "s3://bucket")
    assert "SAMLET_MODELS must name" in models.descriptions()["vit_t_lm"]
    assert not models.is_available("vit_t_lm")
    with pytest.raises(UserError, match="SAMLET_MODELS must name"):
        models.predictor("vit_t_lm")
