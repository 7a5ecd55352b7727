"""Turn the download of Usiigaci's training data into images/ and labels/.

    python recipes/usiigaci.py Usiigaci/TrainingData data/usiigaci

The data are in the repository oist/Usiigaci (MIT licence), in folders set1 to set50 with a
`raw.tif` of 16 bits and an `instances_ids.png` each.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import tifffile
import typer
from PIL import Image
from rich.progress import track
from scipy import ndimage

from samlet import images
from samlet.errors import UserError
from samlet.outputs import read_label_map, write_label_map
from samlet.utils.console import run_app
from samlet.utils.files import atomic_path

LEFT_OUT = (1, 2, 25, 27, 33, 38, 42, 45)
USED = tuple(f"set{number}" for number in range(3, 51) if number not in LEFT_OUT)
"""The images of the recipe; the others are kept for measurements that it has no part in."""

PERCENTILES = (0.1, 99.9)
"""The grey values that become black and white."""

app = typer.Typer(add_completion=False)


def largest_pieces(labels: np.ndarray) -> np.ndarray:
    """Each object's largest connected piece, numbered from 1.

    Args:
        labels: integers, H x W; 0 is background.

    Returns:
        int32, H x W.
    """
    result = np.zeros(labels.shape, np.int32)
    for number, value in enumerate(np.unique(labels[labels > 0]), start=1):
        pieces, _ = ndimage.label(labels == value)
        result[pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()] = number
    return result


def convert(source: Path, target: Path) -> int:
    """Write `target/images` and `target/labels`; what is there already is left.

    Raises:
        UserError: a file is missing in `source`, or an image and its labels differ in size.
    """
    for name in track(USED, "Converting"):
        outputs = [target / folder / f"{name}.png" for folder in ("images", "labels")]
        if all(path.exists() for path in outputs):
            continue
        paths = [source / name / file for file in ("raw.tif", "instances_ids.png")]
        for path in paths:
            if not path.is_file():
                raise UserError(f"There is no {path}; give the folder TrainingData of Usiigaci.")
        image = images.to_rgb(tifffile.imread(paths[0]), percentiles=PERCENTILES)[..., 0]
        labels = read_label_map(paths[1])
        if labels.shape != image.shape:
            raise UserError(f"{paths[1]} is not of its image's size; download both again.")
        with atomic_path(outputs[0]) as temporary:
            Image.fromarray(image).save(temporary)
        write_label_map(outputs[1], largest_pieces(labels))
    return len(USED)


@app.command()
def main(
    source: Annotated[Path, typer.Argument(help="The folder TrainingData of Usiigaci.")],
    target: Annotated[Path, typer.Argument(help="Where images/ and labels/ go.")],
) -> None:
    """Turn the download of Usiigaci's training data into images/ and labels/."""
    print(f"{convert(source, target)} images are in {target}")


if __name__ == "__main__":
    run_app(app)
