"""Reading and writing label maps and binary masks as image files."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from samlet.errors import UserError
from samlet.images import DEFAULT_MAX_PIXELS
from samlet.images.decoding import decode
from samlet.outputs.records import _TIFF
from samlet.utils.files import atomic_path


def read_label_map(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Read a label map: 0 is background, every other number an object or class.

    Args:
        path: PNG, TIFF, BMP or GIF with one channel of whole numbers, also as float (Fiji's 32 bit;
            NaN is background) or as grey RGB; of a palette image the indices are read, not the
            colours.
        max_pixels: see `samlet.images.read`.

    Returns:
        H x W, uint16, or uint32 where a label is beyond 65535.

    Raises:
        UserError: unreadable, colours or several channels, no whole numbers, or negative labels.
    """
    labels, kind = decode(path, max_pixels=max_pixels, palette_indices=True)
    if labels.ndim == 3 and kind in ("colour", "colour+alpha"):
        labels = _grey(Path(path), labels, kind == "colour+alpha")
    if labels.ndim != 2 or labels.dtype.kind not in "buif":
        raise UserError(
            f"{path} is no label map ({labels.dtype}, {' x '.join(map(str, labels.shape))}): "
            "save one channel of 8, 16 or 32-bit integers, 0 being the background."
        )
    if labels.dtype.kind == "f":
        labels = _whole(Path(path), labels)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > np.iinfo(np.uint32).max:
        raise UserError(
            f"{path} has labels from {lowest} to {highest}: number the objects from 1, "
            "and the background 0."
        )
    return labels.astype(np.uint16 if highest <= np.iinfo(np.uint16).max else np.uint32)


def _grey(path: Path, pixels: np.ndarray, has_opacity: bool) -> np.ndarray:
    """One channel of a label map that was saved as RGB, or with opacity."""
    colours = pixels[..., :-1] if has_opacity else pixels
    if not (colours == colours[..., :1]).all():
        raise UserError(
            f"{path} is no label map but a picture in colours, which do not tell the background: "
            "save one channel, 0 being the background, and a number for each object."
        )
    return colours[..., 0]


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    values = np.where(np.isnan(values), 0, values)
    if not (np.isfinite(values) & (values == np.rint(values))).all():
        raise UserError(
            f"{path} is no label map, as its values are not whole numbers: save the numbers of the "
            "objects, not probabilities or intensities."
        )
    return values.astype(np.int64)


def write_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Write H x W labels (integers from 0): 16-bit PNG, or 16 or 32-bit TIFF, by the suffix.

    Raises:
        UserError: another suffix, not labels, labels beyond 65535 in a PNG, or a path that
            cannot be written.
    """
    path, labels = Path(path), np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui" or labels.size == 0 or labels.min() < 0:
        raise UserError(f"The labels for {path} are not integers from 0 up as H x W: convert them.")
    short = int(labels.max()) <= np.iinfo(np.uint16).max
    if path.suffix.lower() == ".png":
        if not short:
            raise UserError(f"{path} cannot hold labels beyond 65535: write a .tif instead of PNG.")
        with atomic_path(path) as temporary:
            Image.fromarray(labels.astype(np.uint16, copy=False)).save(temporary, format="PNG")
    elif path.suffix.lower() in _TIFF:
        with atomic_path(path) as temporary:
            data = labels.astype(np.uint16 if short else np.uint32, copy=False)
            tifffile.imwrite(temporary, data, compression="zlib", photometric="minisblack")
    else:
        raise UserError(f"{path} has no suffix for a label map: end it in .png or .tif.")


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write one H x W mask as an 8-bit PNG of 0 and 255.

    Raises:
        UserError: the suffix is not .png, or the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path} would be a PNG: end it in .png.")
    with atomic_path(path) as temporary:
        Image.fromarray(np.asarray(mask, dtype=bool) * np.uint8(255)).save(temporary, format="PNG")
