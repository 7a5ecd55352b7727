"""The demonstration, from the command line to its pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from samlet import samples


def test_demo_writes_pictures_and_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from samlet.cli.main import main; main()",
            "demo",
            "--out",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        # No network, an empty cache: the bundle must be enough. Engine and precision are what users
        # get.
        env=os.environ
        | {
            "SAMLET_ENGINE": "auto",
            "SAMLET_PRECISION": "auto",
            "SAMLET_CACHE": str(tmp_path / "cache"),
        }
        | {"COLUMNS": "200", "HTTPS_PROXY": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "out") in done.stdout
    for name in samples.NAMES:
        assert re.search(
            rf"{name}: .* encoded in .* s, \d+ ms per click\n  IoU of clicks .* mean 0\.\d\d",
            done.stdout,
        ), done.stdout
        original = Image.open(samples.IMAGES / f"{name}.png")
        picture = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        panels = round(picture.shape[1] / original.width)
        assert panels in (4, 5)
        assert picture.shape == (original.height, panels * original.width + 6 * (panels - 1), 3)
        # The panel with clicks is not the bare image.
        w = original.width
        assert (picture[:, :w] != picture[:, w + 6 : 2 * w + 6]).any()
