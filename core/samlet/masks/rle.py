"""Masks as COCO RLE, and cropped to their bounding boxes.

A run-length encoding (RLE) counts pixels down the columns, background first: {"size": [H, W],
"counts": ...}, where counts is a list of run lengths, or COCO's compressed string or bytes. The
time and memory for a `CroppedMask` depend on the size of its box, not on that of the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco

from samlet.errors import UserError
from samlet.masks.compressed_rle import decode_counts

Mask = np.ndarray | Mapping[str, Any]
"""A mask as an array, H x W, bool or 0 and 1; or as RLE."""


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask as COCO's compressed RLE, ready for JSON.

    Args:
        mask: H x W, bool or 0 and 1.

    Returns:
        {"size": [H, W], "counts": str}.
    """
    return _text(coco.encode(np.asfortranarray(np.asarray(mask, dtype=bool), dtype=np.uint8)))


def from_rle(rle: Mapping[str, Any]) -> np.ndarray:
    """Decode COCO RLE, compressed (`counts` a str or bytes) or not (a list of run lengths).

    Returns:
        bool, H x W.

    Raises:
        UserError: the runs do not fill the size, or a key is missing.
    """
    counts, height, width = _checked(rle)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


@dataclass(frozen=True)
class CroppedMask:
    """A mask cropped to its bounding box, and the position of the box in the image.

    Attributes:
        mask: bool, h x w; 0 x 0 if the mask is empty.
        x: the box's first column in the image.
        y: the box's first row in the image.
        size: (H, W) of the image.
    """

    mask: np.ndarray
    x: int
    y: int
    size: tuple[int, int]

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index into an H x W array."""
        height, width = self.mask.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    def to_full(self) -> np.ndarray:
        """The mask at the size of the image: bool, H x W."""
        mask = np.zeros(self.size, dtype=bool)
        mask[self.slices] = self.mask
        return mask

    def to_uncompressed_rle(self) -> dict[str, Any]:
        """Encode the mask at the size of the image as RLE with a list of run lengths."""
        height, width = self.size
        # With background above and below, no run continues in the next column.
        columns = np.pad(self.mask.T, ((0, 0), (1, 1)))
        column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
        edges = (self.x + column) * height + self.y + row
        # In a mask of full height they do: there, one run ends where another begins.
        edges, times = np.unique(edges, return_counts=True)
        counts = np.diff(edges[times == 1], prepend=0, append=height * width).tolist()
        if len(counts) > 1 and counts[-1] == 0:
            counts.pop()
        return {"size": [height, width], "counts": counts}

    def to_rle(self) -> dict[str, Any]:
        """Encode the mask at the size of the image as `samlet.masks.to_rle` does."""
        return _text(coco.frPyObjects(self.to_uncompressed_rle(), *self.size))


def check_masks(masks: Sequence[CroppedMask], size: tuple[int, int], what: str = "Mask") -> None:
    """Check that masks are of an image, and have pixels.

    Args:
        masks: any number of them.
        size: (H, W) of the image.
        what: what one is called in a message.

    Raises:
        UserError: one is empty or of another size.
    """
    for number, mask in enumerate(masks, start=1):
        if mask.size != size:
            raise UserError(
                f"{what} {number} is of {mask.size[1]} x {mask.size[0]} pixels but the image is of "
                f"{size[1]} x {size[0]}: give masks of the image's size."
            )
        if not mask.mask.size:
            raise UserError(f"{what} {number} is empty: leave it out.")


def crop_mask(mask: Mask) -> CroppedMask:
    """Crop a mask to its bounding box.

    Raises:
        UserError: the RLE is not valid.
    """
    if not isinstance(mask, Mapping):
        mask = np.asarray(mask, dtype=bool)
        rows, columns = bounding_slices(mask)
        height, width = mask.shape
        # A view would keep the whole mask in memory.
        return CroppedMask(mask[rows, columns].copy(), columns.start, rows.start, (height, width))
    counts, height, width = _checked(mask)
    edges = np.cumsum(counts)
    first, last = edges[:-1:2], edges[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if first.size == 0:
        return CroppedMask(np.zeros((0, 0), dtype=bool), 0, 0, (height, width))
    x, right = int(first[0]) // height, int(last[-1]) // height + 1
    y, bottom = int((first % height).min()), int((last % height).max()) + 1
    # A run that continues in the next column covers the last row of one and the first of the other.
    if (first // height != last // height).any():
        y, bottom = 0, height
    tall, wide = bottom - y, right - x

    def places(pixels: np.ndarray) -> np.ndarray:
        return (pixels // height - x) * tall + pixels % height - y

    steps = np.zeros(tall * wide + 1, dtype=np.int8)
    np.add.at(steps, places(first), 1)
    np.add.at(steps, places(last) + 1, -1)
    inside = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    return CroppedMask(inside.reshape(wide, tall).T, x, y, (height, width))


def area(mask: Mask) -> int:
    """Count the pixels of a mask."""
    if isinstance(mask, Mapping):
        return int(_checked(mask)[0][1::2].sum())
    return int(np.count_nonzero(mask))


def bounding_slices(mask: np.ndarray) -> tuple[slice, slice]:
    """The bounding box of an H x W mask as (rows, columns); two empty slices if it is empty."""
    rows, columns = (np.flatnonzero(np.any(mask, axis=axis)).tolist() or [0, -1] for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _checked(rle: Mapping[str, Any]) -> tuple[np.ndarray, int, int]:
    """Run lengths (int64), H and W of a valid RLE, or UserError."""
    try:
        height, width = (int(n) for n in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, str | bytes):
            counts = decode_counts(counts if isinstance(counts, str) else counts.decode("ascii"))
        lengths = np.array(counts, dtype=np.int64).reshape(-1)
        # pycocotools does not check this: its decoder writes past the end, or returns uninitialised
        # memory.
        if min(height, width) < 0 or (lengths < 0).any() or lengths.sum() != height * width:
            raise ValueError("wrong total")
        return lengths, height, width
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"This is not a valid COCO RLE ({error}): "
            "give size [H, W] and counts that add up to H x W."
        ) from error


def _text(rle: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}
