"""The image files of a folder, without those that samlet has written."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet.utils.files import walk_files

_RESULT = re.compile(
    rf"({'|'.join(map(re.escape, IMAGE_SUFFIXES))})\.(labels\.(png|tif)|overlay\.png)$"
    r"|\.samlet\.tiff?$",
    re.IGNORECASE,
)


def find(folder: str | Path, results: str | Path | None = None) -> list[Path]:
    """All image files below a folder, nested folders included, sorted by path.

    Links to folders are followed, each folder once. Hidden files and folders, suffixes that are not
    images', and what samlet itself has written are skipped: overlays, label maps and napari's
    labels by their names, see `is_result`.

    Args:
        folder: where to look.
        results: a folder for results; what lies in it is no image, unless it holds `folder` itself.

    Raises:
        UserError: the folder is missing, is a file, cannot be listed, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one that holds images.")
    found = sorted(
        path
        for path in walk_files(folder, None if results is None else os.path.realpath(results))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not is_result(path)
        # A link that leads nowhere is an image that is missing, which reading it will say.
        and (path.is_file() or not path.exists())
    )
    if not found:
        raise UserError(
            f"{folder} holds no image: put files there that end in {_listed(IMAGE_SUFFIXES)}"
        )
    return found


def is_result(path: Path) -> bool:
    """Whether a file is a picture that samlet has made of an image, by its name.

    These are NAME.labels.png, NAME.labels.tif and NAME.overlay.png, where NAME is an image's file
    name with its suffix, and the labels that napari saves, *.samlet.tif.
    """
    return _RESULT.search(path.name) is not None


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes[:-1]) + f" or {suffixes[-1]}."
