"""Files for the objects of a stack: label stacks, and tables of the objects."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import tifffile

from samlet.images.stacks import SliceAxis
from samlet.stacks.linking import Track
from samlet.utils.files import atomic_path

LABELS_SUFFIX = ".labels.tif"
TABLE_SUFFIX = ".tracks.csv"
CTC_SUFFIX = ".res_track.txt"

_LETTERS = {"z": "ZYX", "time": "TYX"}
_BIG_TIFF_BYTES = 1 << 31
"""Files that may become larger than 4 GB need BigTIFF; labels are never compressed to half less."""


def write_label_stack(
    path: str | Path,
    planes: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    axis: SliceAxis,
    highest: int,
) -> None:
    """Write labels plane by plane as a TIFF, with one plane in memory.

    Args:
        path: the file.
        planes: H x W each, integers from 0, the background.
        shape: (N, H, W).
        axis: what the slices are, for the file's metadata.
        highest: bound on the labels; beyond 65535 the file has 32 bits, else 16.

    Raises:
        UserError: the file cannot be written.
    """
    dtype = np.uint16 if highest <= np.iinfo(np.uint16).max else np.uint32
    is_big = int(np.prod(shape)) * np.dtype(dtype).itemsize > _BIG_TIFF_BYTES
    with (
        atomic_path(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=is_big) as tiff,
    ):
        # As tifffile describes a stack by itself; given all planes at once, it fails on slices of
        # one column.
        description: str | None = json.dumps({"shape": shape, "axes": _LETTERS[axis]})
        for plane in planes:
            tiff.write(
                plane.astype(dtype, copy=False),
                compression="zlib",
                photometric="minisblack",
                description=description,
                metadata=None,
                contiguous=False,
            )
            description = None


def write_table(path: str | Path, tracks: Sequence[Track]) -> None:
    """Write objects as CSV: label, begin, end, parent and pixels, as in `Track`.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([field.name for field in fields(Track)])
        rows.writerows(astuple(track) for track in tracks)


def write_res_track(path: str | Path, tracks: Sequence[Track]) -> None:
    """Write tracks as the Cell Tracking Challenge's res_track.txt.

    A line per track: label, first and last frame, counted from 0, and the parent's label or 0.
    Source: "Naming and file content conventions" of https://celltrackingchallenge.net.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        lines = (f"{t.label} {t.begin} {t.end} {t.parent}\n" for t in tracks)
        temporary.write_text("".join(lines), encoding="ascii", newline="\n")
