"""The demonstration, from the command line to its pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samlet import samples
from samlet.cli import demo
from tests.models import nuclei_at

CUT = 128
"""Pixels of a side that is left of the samples where the model's quality does not matter."""


PANELS = ("image", "clicks", "boxes", "everything", "truth")


def check_picture(path: Path, original: Image.Image, without_masks: str = "") -> None:
    picture, w = np.asarray(Image.open(path)), original.width
    assert picture.shape == (original.height, len(PANELS) * w + 6 * (len(PANELS) - 1), 3)
    # The panels with masks are not the bare image.
    for number in (n for n, name in enumerate(PANELS) if name not in ("image", without_masks)):
        start = number * (w + 6)
        assert (picture[:, :w] != picture[:, start : start + w]).any()


def check_figures(name: str, shown: str) -> None:
    assert re.search(
        rf"{name}: .* encoded in .* s, \d+ ms per click\n  IoU of clicks .* mean 0\.\d\d", shown
    ), shown


def test_a_picture_and_figures_of_each_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("IMAGES", "LABELS"):
        (tmp_path / folder).mkdir()
        for name in samples.NAMES:
            whole = Image.open(getattr(samples, folder) / f"{name}.png")
            whole.crop((0, 0, CUT, CUT)).save(tmp_path / folder / f"{name}.png")
        monkeypatch.setattr(samples, folder, tmp_path / folder)
    monkeypatch.setattr(demo, "load", lambda name: nuclei_at(256))
    demo.run(tmp_path / "out")
    shown = capsys.readouterr().out
    assert str(tmp_path / "out") in shown
    found = re.findall(r"everything: (\d+) masks in .* objects found", shown)
    assert len(found) == len(samples.NAMES) and sum(map(int, found)) > 10
    for name, masks in zip(samples.NAMES, map(int, found), strict=True):
        check_figures(name, shown)
        check_picture(
            tmp_path / "out" / f"{name}.png",
            Image.open(samples.IMAGES / f"{name}.png"),
            "" if masks else "everything",
        )


@pytest.mark.slow
def test_it_needs_only_what_is_installed(tmp_path: Path) -> None:
    """No network and an empty cache: the bundled model, engine and precision as users get them."""
    code = (
        "from samlet.cli import demo\n"
        # One of six: the others do the same, for longer.
        "demo.samples.NAMES = ('stained_1',)\n"
        "from samlet.cli.main import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "SAMLET_ENGINE": "auto",
            "SAMLET_PRECISION": "auto",
            "SAMLET_CACHE": str(tmp_path / "cache"),
        }
        | {"COLUMNS": "200", "HTTPS_PROXY": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr
    check_figures("stained_1", done.stdout)
    check_picture(tmp_path / "out" / "stained_1.png", Image.open(samples.IMAGES / "stained_1.png"))
