"""The recipes of the bundled model: commands for its data, split, and how often kinds are drawn."""

import runpy
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import samlet
from recipes import axons_sem, microscopy, usiigaci
from samlet import samples
from samlet.masks import from_label_map
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map
from tests.core.conftest import SMALL

RECIPES = Path(__file__).parents[2] / "recipes"


def convert(
    source: Path, target: Path, recipe: str = "bbbc038"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPES / f"{recipe}.py"), str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_download_becomes_images_and_labels(tmp_path: Path) -> None:
    """Take a sample apart as BBBC038 comes (a file an object), and have it put together again."""
    labels = read_label_map(samples.LABELS / "stained_1.png")
    name = "0123456789abcdef" * 4
    folder = tmp_path / "stage1_train" / name
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    image = Image.open(samples.IMAGES / "stained_1.png").convert("RGBA")
    image.save(folder / "images" / f"{name}.png")
    for number, mask in from_label_map(labels):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{number:03}.png")
    done = convert(tmp_path / "stage1_train", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = Image.open(tmp_path / "out" / "images" / f"{name[:16]}.png")
    assert np.array_equal(np.asarray(written), np.asarray(image.convert("RGB")))
    joined = read_label_map(tmp_path / "out" / "labels" / f"{name[:16]}.png")
    assert len(np.unique(joined)) == len(np.unique(labels))
    assert np.array_equal(joined > 0, labels > 0)
    pairs = np.unique(np.stack([joined.ravel(), labels.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(labels))


def test_usiigaci_becomes_images_and_labels(tmp_path: Path) -> None:
    """16 bits become 8, of a cell in two pieces the larger stays, what is left out stays out."""
    ids = np.zeros((40, 50), np.uint8)
    ids[5:15, 5:20] = 3
    ids[20:22, 5:7] = 3
    ids[25:35, 30:45] = 7
    raw = (2000 + 100 * np.arange(40 * 50).reshape(40, 50) % 5000).astype(np.uint16)
    source = tmp_path / "TrainingData"
    for name in (*usiigaci.USED, "set1"):
        (source / name).mkdir(parents=True)
        tifffile.imwrite(source / name / "raw.tif", raw)
        Image.fromarray(ids).save(source / name / "instances_ids.png")
    assert usiigaci.convert(source, tmp_path / "out") == 42
    assert not (tmp_path / "out" / "images" / "set1.png").exists()
    written = read_label_map(tmp_path / "out" / "labels" / "set50.png")
    expected = np.where(ids == 7, 2, (ids == 3) & (np.arange(40)[:, None] < 18))
    assert np.array_equal(written, expected)
    image = Image.open(tmp_path / "out" / "images" / "set50.png")
    low, high = np.percentile(raw, (0.1, 99.9))
    stretched = 255 * np.clip((raw - low) / (high - low), 0, 1)
    assert image.mode == "L" and np.abs(np.asarray(image) - stretched).max() <= 1
    (source / "set50" / "instances_ids.png").unlink()
    (tmp_path / "out" / "labels" / "set50.png").unlink()
    refused = convert(source, tmp_path / "out", "usiigaci")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "instances_ids.png; give the folder TrainingData" in refused.stderr


def test_axons_become_images_and_labels(tmp_path: Path) -> None:
    """Wherever the files lie: axons are the mask's pieces, but for specks."""
    mask = np.zeros((40, 50), np.uint8)
    mask[5:15, 5:20] = mask[25:35, 30:45] = 255
    mask[20:22, 5:7] = 255
    for name in axons_sem.USED:
        animal = name.split("_")[0]
        folder = tmp_path / "source" / animal / "micr"
        labels = tmp_path / "source" / "derivatives" / "labels" / animal / "micr"
        for place in (folder, labels):
            place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - mask).save(folder / f"{name}.png")
        Image.fromarray(mask).save(labels / f"{name}{axons_sem.MASK}")
    assert axons_sem.convert(tmp_path / "source", tmp_path / "out") == 8
    written = read_label_map(tmp_path / "out" / "labels" / f"{axons_sem.USED[-1]}.png")
    assert np.array_equal(np.unique(written), [0, 1, 2])
    image = np.asarray(Image.open(tmp_path / "out" / "images" / f"{axons_sem.USED[-1]}.png"))
    assert np.array_equal(image, 255 - mask)
    mask[20:22, 5:7] = 0
    assert np.array_equal(written > 0, mask > 0)
    refused = convert(tmp_path / "out", tmp_path / "other", "axons_sem")
    assert refused.returncode == 1 and "git annex get" in refused.stderr


def test_kinds_are_drawn_as_often_as_the_recipe_says(tmp_path: Path) -> None:
    """However many images each has; and validation images never are."""
    kept_out = {name: sorted(microscopy.kept_out(name)) for name in microscopy.SETS}
    assert [len(names) for names in kept_out.values()] == [60, 6, 2]
    sources = {
        "bbbc038": ("fluorescence_2", "stained_1", "stained_2", "brightfield_1"),
        "usiigaci": ("phase_contrast_1",),
        "axons_sem": ("electron_1",),
    }
    for name, images in sources.items():
        for folder in ("images", "labels"):
            (tmp_path / name / folder).mkdir(parents=True)
            for image in (*images, kept_out[name][0]):
                source = images[0] if image not in images else image
                path = samples.IMAGES.parent / folder / f"{source}.png"
                shutil.copy(path, tmp_path / name / folder / f"{image}.png")
    wanted = microscopy.STAGES["general"].shares
    examples, weights = microscopy.training_set(tmp_path, wanted)
    shares: defaultdict[str, float] = defaultdict(float)
    for example, weight in zip(examples, weights, strict=True):
        shares[example.name.rsplit("_", 1)[0]] += weight
    assert len(examples) == 6
    sample_names = {"cells": "phase_contrast", "axons": "electron"}
    expected = {sample_names.get(kind, kind): share for kind, share in wanted.items()}
    assert shares == pytest.approx(expected)
    assert sum(shares.values()) == pytest.approx(1)


def test_the_weights_of_runs_are_averaged(tmp_path: Path) -> None:
    for seed, run in enumerate(("kinds", "general", "dense", "long")):
        torch.manual_seed(seed)
        (tmp_path / run).mkdir()
        samlet.save(Sam(SMALL), tmp_path / run / microscopy.MODEL)
    # The second one needs the first.
    for average, shares in microscopy.AVERAGES.items():
        assert sum(shares.values()) == pytest.approx(1)
        microscopy.average(tmp_path, average)
        written = samlet.load(tmp_path / average / microscopy.MODEL).state_dict()
        states = {
            run: samlet.load(tmp_path / run / microscopy.MODEL).state_dict() for run in shares
        }
        for name, value in written.items():
            expected = sum(share * states[run][name].double() for run, share in shares.items())
            assert torch.allclose(value.double(), expected, atol=1e-6), name


def test_another_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = str(RECIPES / "bbbc038.py")
    monkeypatch.setattr(sys, "argv", [recipe, str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(recipe, run_name="__main__")
    # Python prints it and ends with status 1.
    sentence = ended.value.code
    assert isinstance(sentence, str) and sentence.startswith("Error: ")
    assert "stage1_train.zip" in sentence and "\n" not in sentence


def test_samples_are_in_the_validation_split() -> None:
    nuclei = (RECIPES / "nuclei-validation.txt").read_text().split()
    others = (RECIPES / "microscopy-validation.txt").read_text().split()
    told = (samples.IMAGES.parent / "README.md").read_text()
    for name in samples.NAMES:
        row = next(line for line in told.splitlines() if f"| {name} |" in line).split("|")
        image = row[3].split(", ")[1].strip()
        if name in samples.NUCLEI:
            assert sum(full.startswith(image.rstrip(".")) for full in nuclei) == 1
        else:
            assert sum(full.endswith(f"/{image}") for full in others) == 1
