"""The recipe of the bundled model: its data command, and its split."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samlet import samples
from samlet.masks import from_label_map
from samlet.outputs import read_label_map

RECIPES = Path(__file__).parents[2] / "recipes"


def convert(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPES / "bbbc038.py"), str(source), str(target)]
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
    names = (RECIPES / "nuclei-validation.txt").read_text().split()
    told = (samples.IMAGES.parent / "README.md").read_text()
    for name in samples.NAMES:
        begin = next(line for line in told.splitlines() if f"| {name} |" in line).split("|")[2]
        assert sum(full.startswith(begin.strip()) for full in names) == 1
