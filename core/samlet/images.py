"""Images as the model wants them: RGB, 8 bit, H x W x 3."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from samlet.errors import UserError
from samlet.files import files_below
from samlet.image_files import DEFAULT_MAX_PIXELS, SUFFIXES, decode

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "find",
    "is_result",
    "read",
    "resize_longest",
    "resized_shape",
    "to_rgb",
]

PERCENTILES = (0.1, 99.9)

MOST_CHANNELS = 32
"""Where the last axis is longer than this and the first very short, that one holds the channels."""

_RESULT = re.compile(
    rf"({'|'.join(map(re.escape, SUFFIXES))})\.(labels\.(png|tif)|overlay\.png)$|\.samlet\.tiff?$",
    re.IGNORECASE,
)


def read(
    path: str | Path,
    *,
    content: bytes | None = None,
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> np.ndarray:
    """Read an image file as RGB.

    Opacity is dropped, and pixels that are fully transparent become black (their stored colour is
    arbitrary), unless every pixel is. EXIF orientation is applied to all formats but TIFF, which is
    read as stored, as ImageJ and napari do. See `to_rgb` for the scaling beyond 8 bit.

    TIFF axes follow the file's metadata. Where it names no third axis, the shorter one of the first
    and last is the channels, and `channels` must confirm that these are channels, not slices.

    Args:
        path: an image, see `samlet.image_files.KINDS`; of several frames the first.
        content: the file's bytes where it is no file of its own (a member of a tar file); `path`
            then only names it.
        channels: 1 to 3 channels of the file to show, counted from 0: see `to_rgb`.
        percentiles: (low, high), each 0 to 100: the values that become black and full intensity.
        max_pixels: the largest height x width to decode; more than 4 channels count as more pixels.

    Returns:
        uint8, H x W x 3, contiguous, 0 to 255.

    Raises:
        UserError: the file is missing, not an image, damaged, too large, a stack of slices, or has
            channels that must be chosen.
    """
    values, kind = decode(path, content=content, max_pixels=max_pixels)
    if channels is None:
        count = values.shape[2] if values.ndim == 3 else 1
        if kind == "pages":
            raise UserError(
                f"{path} holds {count} pages and does not tell what they are: choose up to three "
                "with channels= (--channels) if they are channels, or save one slice as a file."
            )
        if kind == "colour+alpha":
            values = _without_alpha(values)
        elif kind == "channels":
            if count > 3:
                raise _must_choose(str(path), count)
            channels = range(count)
    return _to_rgb(values, channels, percentiles, str(path))


def to_rgb(
    array: np.ndarray,
    *,
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
) -> np.ndarray:
    """Turn an array of any numeric dtype into RGB.

    uint8 passes unchanged, False and True become 0 and 255. Everything else is scaled linearly from
    its low and high percentile to 0 and 255 and clipped: RGB jointly, so that its colours keep, and
    channels one by one. Where the percentiles coincide (few bright spots), minimum and maximum take
    their place; constant values become 0. NaN and infinities count as missing, and become 0.

    Args:
        array: H x W, or H x W x C with C = 1 grey, 2 red and green, 3 RGB, 4 RGBA (the last is
            dropped; pixels where it is 0 become black).
        channels: pick 1 (shown as grey), 2 (red and green) or 3 (RGB) of any number of channels,
            counted from 0; they are then scaled one by one.
        percentiles: (low, high), each 0 to 100.

    Returns:
        uint8, H x W x 3, contiguous.

    Raises:
        UserError: not H x W or H x W x C, empty, not numeric, more than 4 channels with none
            chosen, or a channel that does not exist.

    Example:
        >>> to_rgb(np.array([[0, 1000], [2000, 4000]], np.uint16), percentiles=(0, 100))[..., 0]
        array([[  0,  64],
               [128, 255]], dtype=uint8)
    """
    return _to_rgb(np.asarray(array), channels, percentiles, "The image")


def _to_rgb(
    array: np.ndarray,
    channels: Sequence[int] | None,
    percentiles: tuple[float, float],
    name: str,
) -> np.ndarray:
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "buif":
        raise UserError(
            f"{name} is {array.dtype} of shape {array.shape}: "
            "give real numbers as H x W or H x W x C, not empty."
        )
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UserError(f"The percentiles {percentiles} are not two rising numbers from 0 to 100.")
    array = array[:, :, None] if array.ndim == 2 else array
    count = array.shape[2]
    if channels is not None:
        if not 1 <= len(channels) <= 3 or not all(0 <= c < count for c in channels):
            raise UserError(
                f"{name} has no channels {list(channels)}: "
                f"choose 1 to 3 of its {count}, counted from 0."
            )
        array = array[:, :, list(channels)]
    elif count == 4:
        array = _without_alpha(array)
    elif array.shape[0] <= 4 and count > MOST_CHANNELS:
        raise UserError(
            f"{name} has the shape {array.shape}, its channels first, it seems: give H x W x C, as "
            "np.moveaxis(image, 0, -1) does."
        )
    elif count > 4:
        raise _must_choose(name, count)

    jointly = channels is None and array.shape[2] == 3
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8 and jointly:
        array = _scaled(array, percentiles)
    elif array.dtype != np.uint8:
        array = np.stack([_scaled(plane, percentiles) for plane in np.moveaxis(array, 2, 0)], 2)

    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 2:
        array = np.concatenate([array, np.zeros_like(array[:, :, :1])], axis=2)
    return np.ascontiguousarray(array)


def _must_choose(name: str, count: int) -> UserError:
    return UserError(
        f"{name} has {count} channels: choose one, or up to three as red, green and blue, "
        "with channels=(0, 1, 2) in Python or --channels 0,1,2 on the command line."
    )


def _without_alpha(array: np.ndarray) -> np.ndarray:
    colour, visible = array[:, :, :-1], array[:, :, -1:] != 0
    return np.where(visible, colour, np.zeros_like(colour)) if visible.any() else colour


def _scaled(values: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    known = values if finite is None else values[finite]
    if known.size == 0:
        return np.zeros(values.shape, np.uint8)
    # float32 holds 16-bit integers exactly; wider values may differ only beyond its precision.
    working = np.float32 if values.dtype.itemsize <= 2 else np.float64
    # Whether `astype` copies or not, this is not the caller's array, and may be overwritten.
    numbers: np.ndarray = known.astype(working, copy=False)
    low, high = np.percentile(numbers, percentiles, overwrite_input=True)
    del numbers
    if low == high:
        low, high = known.min(), known.max()
    span = float(high) - float(low)
    if span == 0:
        return np.zeros(values.shape, np.uint8)
    scaled: np.ndarray = values.astype(working)
    if finite is not None:
        scaled[~finite] = low
    scaled -= float(low)
    scaled *= 255 / span
    np.rint(scaled, out=scaled)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


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
        for path in files_below(folder, None if results is None else os.path.realpath(results))
        if path.suffix.lower() in SUFFIXES
        and not is_result(path)
        # A link that leads nowhere is an image that is missing, which reading it will say.
        and (path.is_file() or not path.exists())
    )
    if not found:
        raise UserError(f"{folder} holds no image: put files there that end in {_listed(SUFFIXES)}")
    return found


def is_result(path: Path) -> bool:
    """Whether a file is a picture that samlet has made of an image, by its name.

    These are NAME.labels.png, NAME.labels.tif and NAME.overlay.png, where NAME is an image's file
    name with its suffix, and the labels that napari saves, *.samlet.tif.
    """
    return _RESULT.search(path.name) is not None


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes[:-1]) + f" or {suffixes[-1]}."


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width once the longest side is `size` pixels, rounded, at least 1."""
    scale = size * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_longest(image: np.ndarray, size: int) -> np.ndarray:
    """Resize so that the longest side has `size` pixels, as segment_anything's ResizeLongestSide.

    Args:
        image: uint8, H x W x 3.
        size: pixels.

    Returns:
        uint8, H' x W' x 3 with (H', W') = `resized_shape(H, W, size)`; bilinear with antialiasing,
        equal to `ResizeLongestSide(size).apply_image(image)` in every bit.
    """
    height, width = resized_shape(image.shape[0], image.shape[1], size)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)
