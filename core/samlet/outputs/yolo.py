"""Writing masks as YOLO's segmentation labels: https://docs.ultralytics.com/datasets/segment/."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samlet.errors import UserError
from samlet.masks import join_rings, to_polygons
from samlet.outputs.coco import category_numbers
from samlet.outputs.records import DEFAULT_CATEGORY, record_mask
from samlet.utils.files import atomic_path


def write_yolo(
    path: str | Path,
    records: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    categories: Sequence[str] = (),
    tolerance: float = 0.5,
) -> None:
    """Write masks as text: for each its class, counted from 0, and the corners of one polygon.

    Coordinates are shares of the width and height. The format has neither holes nor several parts:
    they are joined by bridges of no width, see `samlet.masks.join_rings`. Empty masks are left out.

    Args:
        path: the text file.
        records: see `samlet.outputs`.
        size: (height, width) in pixels.
        categories: as in `samlet.outputs.write_coco`; the classes are numbered alike, from 0.
        tolerance: see `samlet.masks.to_polygons`.

    Raises:
        UserError: a mask is not of this size, or the file cannot be written.
    """
    height, width = size
    numbers = category_numbers(records, categories)
    lines = []
    for record in records:
        cropped = record_mask(record, size)
        polygons = to_polygons(cropped.mask, tolerance, (cropped.x, cropped.y))
        if polygons:
            ring = join_rings([ring for polygon in polygons for ring in polygon])
            corners = (ring / np.array([width, height])).ravel().tolist()
            number = numbers[record.get("category", DEFAULT_CATEGORY)] - 1
            lines.append(f"{number} {' '.join(f'{share:.7g}' for share in corners)}\n")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def write_classes(path: str | Path, categories: Sequence[str]) -> None:
    """Write the names of the classes, one per line, as annotation tools import them with YOLO.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in categories), encoding="utf-8")


def read_classes(path: Path) -> list[str]:
    """Read what `write_classes` wrote; no names if there is no file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as names of classes ({error}).") from error
    return [name for name in (line.strip() for line in lines) if name]
