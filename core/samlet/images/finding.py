"""Finding the image files of a folder, without samlet's own results."""

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

    Links to folders are followed, and each folder is listed once. Hidden files and folders, other
    suffixes, and samlet's own results (see `is_result`) are skipped.

    Args:
        folder: the folder to search.
        results: a folder for results, which is skipped unless it contains `folder` itself.

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
        # A broken link is kept: reading it reports that the image is missing.
        and (path.is_file() or not path.exists())
    )
    if not found:
        raise UserError(
            f"{folder} holds no image: put files there that end in {_listed(IMAGE_SUFFIXES)}"
        )
    return found


def is_result(path: Path) -> bool:
    """Whether a file is one of samlet's results for an image, judging by its name.

    These are NAME.labels.png, NAME.labels.tif and NAME.overlay.png, where NAME is an image's file
    name with its suffix, and the labels that napari saves, *.samlet.tif.
    """
    return _RESULT.search(path.name) is not None


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes[:-1]) + f" or {suffixes[-1]}."
