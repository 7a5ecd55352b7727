"""Turn the download of data_axondeepseg_sem into images/ and labels/.

    python recipes/axons_sem.py data_axondeepseg_sem data/axons_sem

The data are in the repository axondeepseg/data_axondeepseg_sem (MIT licence), stored with
git-annex: `git clone` it and run `git annex get .` in it, or download a release. Axons come as one
mask an image; an object is a connected piece of it.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.progress import track
from scipy import ndimage

from samlet import images
from samlet.errors import UserError
from samlet.outputs import write_label_map
from samlet.utils.console import run_app
from samlet.utils.files import atomic_path

MASK = "_seg-axon-manual.png"
MIN_AREA = 20
"""Pixels; smaller pieces are specks of the drawing."""

USED = (
    "sub-rat1_sample-data1_SEM",
    "sub-rat2_sample-data5_SEM",
    "sub-rat3_sample-data10_SEM",
    "sub-rat3_sample-data11_SEM",
    "sub-rat3_sample-data9_SEM",
    "sub-rat4_sample-data12_SEM",
    "sub-rat5_sample-data14_SEM",
    "sub-rat7_sample-Maxo03img60_SEM",
)
"""The images of the recipe; the others are kept for measurements that it has no part in."""


app = typer.Typer(add_completion=False)


def label_axons(mask: np.ndarray) -> np.ndarray:
    """Number the connected pieces of a mask, bool H x W: int32, without those below `MIN_AREA`."""
    pieces, _ = ndimage.label(mask)
    keep = np.bincount(pieces.ravel()) >= MIN_AREA
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0)
    return numbers[pieces].astype(np.int32)


def convert(source: Path, target: Path) -> int:
    """Write `target/images` and `target/labels`; what is there already is left.

    Raises:
        UserError: an image or its mask is missing in `source`, or they differ in size.
    """
    for name in track(USED, "Converting"):
        outputs = [target / folder / f"{name}.png" for folder in ("images", "labels")]
        if all(path.exists() for path in outputs):
            continue
        image = images.read(_only(source, f"{name}.png"))
        mask = images.read(_only(source, f"{name}{MASK}"))[..., 0] > 127
        if mask.shape != image.shape[:2]:
            raise UserError(f"The mask of {name} is not of its image's size; download both again.")
        with atomic_path(outputs[0]) as temporary:
            Image.fromarray(image[..., 0]).save(temporary)
        write_label_map(outputs[1], label_axons(mask))
    return len(USED)


def _only(source: Path, name: str) -> Path:
    found = sorted(path for path in source.rglob(name) if path.is_file())
    if not found:
        raise UserError(
            f"{source} holds no {name}; give the folder of data_axondeepseg_sem, with its files "
            "fetched by git annex get."
        )
    return found[-1]


@app.command()
def main(
    source: Annotated[Path, typer.Argument(help="The folder of data_axondeepseg_sem.")],
    target: Annotated[Path, typer.Argument(help="Where images/ and labels/ go.")],
) -> None:
    """Turn the download of data_axondeepseg_sem into images/ and labels/."""
    print(f"{convert(source, target)} images are in {target}")


if __name__ == "__main__":
    run_app(app)
