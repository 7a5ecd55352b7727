"""The files that are written for an image on demand, beside those that it always has."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from samlet.errors import UserError
from samlet.images import SlicePath
from samlet.outputs.coco import write_coco
from samlet.outputs.imagej_rois import write_rois
from samlet.outputs.yolo import write_yolo
from samlet.storage.locations import Location
from samlet.utils.messages import nearest

ROIS_SUFFIX = ".rois.zip"
COCO_POLYGONS_SUFFIX = ".coco-polygons.json"


class _Contents(NamedTuple):
    """What a file is written of.

    Attributes:
        records: see `samlet.outputs`.
        name: of the image.
        size: its (height, width) in pixels.
        categories: see `samlet.outputs.write_coco`.
    """

    records: Sequence[Mapping[str, Any]]
    name: str
    size: tuple[int, int]
    categories: Sequence[str]


def _rois(path: Path, of: _Contents) -> None:
    write_rois(path, of.records, of.size)


def _yolo(path: Path, of: _Contents) -> None:
    write_yolo(path, of.records, of.size, of.categories)


def _coco_polygons(path: Path, of: _Contents) -> None:
    write_coco(path, of.records, of.name, of.size, categories=of.categories, as_polygons=True)


def _named_after(image: Path, suffix: str) -> str:
    return f"{image.name}{suffix}"


# YOLO finds the labels of an image by its name without the suffix.
_FORMATS: dict[str, tuple[Callable[[Path], str], Callable[[Path, _Contents], None]]] = {
    "rois": (partial(_named_after, suffix=ROIS_SUFFIX), _rois),
    "yolo": (lambda image: f"{SlicePath.parse(image).stem}.txt", _yolo),
    "coco-polygons": (partial(_named_after, suffix=COCO_POLYGONS_SUFFIX), _coco_polygons),
}


def parse_formats(text: str | None) -> list[str]:
    """Read a list of formats with commas: "rois,yolo"; None for no format.

    Raises:
        UserError: there is no such format.
    """
    names = [] if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _FORMATS:
            raise UserError(f"There is no format {name}: choose {nearest(name, list(_FORMATS))}.")
    return sorted(set(names))


def path_in_format(name: str, folder: Path, image_path: Path) -> Path:
    """The file of an image in a format.

    Args:
        name: of the format.
        folder: of the image's results.
        image_path: of the image.
    """
    return folder / name_in_format(name, image_path)


def name_in_format(name: str, image: Location) -> str:
    """The name of the file of an image in a format."""
    return _FORMATS[name][0](image if isinstance(image, Path) else Path(image.name))


def check_names(
    formats: Sequence[str], paths: Sequence[Location], folders: Sequence[Location]
) -> None:
    """Make sure that no two images would have the same file.

    Args:
        formats: that are wanted.
        paths: of the images.
        folders: of the results of each.

    Raises:
        UserError: two would.
    """
    for name in formats:
        owners: dict[Location, Location] = {}
        for path, folder in zip(paths, folders, strict=True):
            file = folder / name_in_format(name, path)
            other = owners.setdefault(file, path)
            if other != path:
                raise UserError(
                    f"{other} and {path} differ only in their suffix, so that both would be "
                    f"{file.name} as {name}: rename one."
                )


def write_formats(
    formats: Sequence[str],
    folder: Path,
    image_path: Path,
    records: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    categories: Sequence[str] = (),
) -> list[Path]:
    """Write the masks of an image in formats, and return the files.

    Args:
        formats: names of them, see `parse_formats`.
        folder: for the files.
        image_path: the files are named after it.
        records: see `samlet.outputs`.
        size: (height, width) in pixels.
        categories: see `samlet.outputs.write_coco`.

    Raises:
        UserError: a file cannot be written.
    """
    contents = _Contents(records, image_path.name, size, categories)
    written = []
    for name in formats:
        written.append(path_in_format(name, folder, image_path))
        _FORMATS[name][1](written[-1], contents)
    return written
