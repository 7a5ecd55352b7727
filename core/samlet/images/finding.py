"""Finding the image files of a folder, without samlet's own results."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from samlet.errors import UserError
from samlet.images.formats.decoded_image import IMAGE_SUFFIXES, MICROSCOPE_SUFFIXES
from samlet.images.formats.read_errors import explain_read_errors
from samlet.images.formats.zarr_planes import is_zarr
from samlet.images.slice_paths import SlicePath
from samlet.utils.files import walk_files

ALL_SUFFIXES = IMAGE_SUFFIXES + MICROSCOPE_SUFFIXES

_RESULT = re.compile(
    rf"({'|'.join(map(re.escape, ALL_SUFFIXES))})(\.[stz]\d+(-\d+)?)*"
    r"\.(labels\.(png|tif)|overlay\.png)$|\.samlet\.tiff?$",
    re.IGNORECASE,
)


def find(
    folder: str | Path,
    results: str | Path | None = None,
    suffixes: Sequence[str] = ALL_SUFFIXES,
) -> list[Path]:
    """All image files below a folder, nested folders included, sorted by path.

    Links to folders are followed, and each folder is listed once. Hidden files and folders, other
    suffixes, and samlet's own results (see `is_result`) are skipped. Folders that end in .zarr are
    images.

    Args:
        folder: the folder to search.
        results: a folder for results, which is skipped unless it contains `folder` itself.
        suffixes: of the files, in lower case.

    Raises:
        UserError: the folder is missing, is a file, cannot be listed, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one that holds images.")
    skipped = None if results is None else os.path.realpath(results)
    found = sorted(
        path
        for path in walk_files(folder, skipped, folders_as_files=(".zarr",))
        if path.suffix.lower() in suffixes
        and not is_result(path)
        # A broken link is kept: reading it reports that the image is missing.
        and (path.is_file() or not path.exists() or (path.is_dir() and is_zarr(path)))
    )
    if not found:
        raise holds_no_image(folder, suffixes)
    return found


def holds_no_image(folder: object, suffixes: Sequence[str] = ALL_SUFFIXES) -> UserError:
    """What is wrong with a folder, or a URL of one, that has no image."""
    return UserError(f"{folder} holds no image: put files there that end in {_listed(suffixes)}")


def is_folder_of_images(path: Path) -> bool:
    """Whether a path is a folder, and not one that holds a single image in Zarr."""
    return path.is_dir() and not is_zarr(path)


def check_exists(path: Path) -> None:
    """Make sure that there is such a file or folder, or the file of such a slice.

    Raises:
        UserError: there is none, or it may not be looked at.
    """
    file = SlicePath.parse(path).file
    with explain_read_errors(file):
        file.stat()


def is_result(path: PurePath) -> bool:
    """Whether a file is one of samlet's results for an image, judging by its name.

    These are NAME.labels.png, NAME.labels.tif and NAME.overlay.png, where NAME is an image's file
    name with its suffix, or that of a slice, and the labels that napari saves, *.samlet.tif.
    """
    return _RESULT.search(path.name) is not None


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes[:-1]) + f" or {suffixes[-1]}."
