"""Label Studio's brush masks: RGBA images packed as @thi.ng/rle-pack does.

A stream of bits, the highest of each byte first. It starts with 32 bits: how many words were
packed; 5 bits: the size of a word in bits, less 1; and four times 4 bits: the sizes of a count in
bits, less 1. Then follow groups until all words are there. 1 bit: whether it is a run; 2 bits:
which of the four sizes its count has; the count, less 1; and one word to repeat for a run, else as
many words as counted. The words are the bytes of an H x W x 4 image, of which opacity counts.

Source: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack#encoding-format.
"""

import numpy as np

from samlet.errors import UserError
from samlet.masks import CroppedMask, crop_mask

_WORD = 8
# The sizes of a count in bits that Label Studio itself writes.
_COUNT_SIZES = np.array([3, 4, 8, 16])
_HEADER = 32 + 5 + 4 * 4


def encode(mask: np.ndarray | CroppedMask) -> list[int]:
    """Pack a mask, byte for byte as Label Studio's own converter does.

    The image that is packed has 255 in all four channels on the mask and 0 elsewhere. The cost is
    that of the mask's box and its runs, however large the image is.

    Args:
        mask: bool, H x W, or cut out of such a mask.

    Returns:
        The numbers of "rle".

    Raises:
        UserError: 2**30 pixels or more, whose words 32 bits cannot count.
    """
    cutout = mask if isinstance(mask, CroppedMask) else crop_mask(mask)
    height, width = cutout.size
    total = height * width * 4
    if total >= 1 << 32:
        raise UserError(
            f"An image of {width} x {height} pixels is too large for Label Studio's brush masks: "
            "use polygons, or cut the image into parts."
        )
    tokens, sizes = _tokens(*_runs(cutout))
    starts = _HEADER + np.cumsum(sizes) - sizes
    # Label Studio closes with one to eight zero bits.
    packed = np.zeros((_HEADER + int(sizes.sum())) // 8 + 1, np.uint8)
    header = total << 5 | _WORD - 1
    for count_size in _COUNT_SIZES.tolist():
        header = header << 4 | count_size - 1
    unused = -_HEADER % 8
    first = (header << unused).to_bytes((_HEADER + unused) // 8, "big")
    packed[: len(first)] = np.frombuffer(first, np.uint8)
    # A group has more than 8 bits and less than 33, so no two start in one byte, and five hold it.
    within = tokens << (40 - starts % 8 - sizes)
    for i in range(5):
        part = (within >> (32 - 8 * i) & 255).astype(np.uint8)
        # What the last group leaves of its five bytes may lie beyond the end.
        used = part > 0
        packed[starts[used] // 8 + i] |= part[used]
    return packed.tolist()


def _runs(cutout: CroppedMask) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in words, and values, of the runs of the RGBA image, row by row."""
    height, width = cutout.size
    # With background at either side, no run goes on in the next row.
    rows = np.pad(cutout.mask, ((0, 0), (1, 1)))
    row, column = np.nonzero(rows[:, 1:] != rows[:, :-1])
    edges = (cutout.y + row) * width + cutout.x + column
    # In a mask of full width they do go on: one run ends where another begins.
    edges, times = np.unique(edges, return_counts=True)
    lengths = np.diff(edges[times == 1], prepend=0, append=height * width) * 4
    values = np.arange(len(lengths)) % 2 * 255
    return lengths[lengths > 0], values[lengths > 0]


def _tokens(lengths: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups as numbers, and their sizes in bits, runs too long for a count in several."""
    longest = 1 << int(_COUNT_SIZES[-1])
    pieces = -(-lengths // longest)
    which = np.repeat(np.searchsorted(1 << _COUNT_SIZES[:-1], lengths), pieces)
    counts = np.full(int(pieces.sum()), longest)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * longest
    count_sizes = _COUNT_SIZES[which]
    tokens = (0b100 | which) << count_sizes | counts - 1
    return tokens << _WORD | np.repeat(values, pieces), 3 + count_sizes + _WORD


def decode(packed: bytes, size: tuple[int, int]) -> np.ndarray:
    """Unpack a brush mask.

    Strokes have soft edges and some versions paint them translucent, so a pixel counts where it
    has more than half of the greatest opacity of this mask.

    Args:
        packed: the numbers of "rle".
        size: (H, W).

    Returns:
        bool, H x W.

    Raises:
        UserError: not of this size, cut short, or packed in another way.
    """
    bits = _Bits(packed)
    total, word = bits.take(32), bits.take(5) + 1
    count_sizes = [bits.take(4) + 1 for _ in range(4)]
    height, width = size
    if total != height * width * 4 or word != _WORD:
        raise UserError(
            f"The brush mask has {total} words of {word} bits, not the {height * width * 4} bytes "
            f"of {width} x {height} RGBA pixels: export the labels again."
        )
    values = np.empty(total, np.uint8)
    done = 0
    while done < total:
        is_run = bits.take(1)
        until = done + bits.take(count_sizes[bits.take(2)]) + 1
        if until > total:
            raise UserError("The brush mask has too many pixels: export the labels again.")
        values[done:until] = bits.take(_WORD) if is_run else bits.take_bytes(until - done)
        done = until
    opacity = values.reshape(height, width, 4)[..., 3]
    return opacity > opacity.max() / 2


class _Bits:
    """Reads numbers from bytes, from the highest bit on."""

    def __init__(self, data: bytes):
        self._data = data
        self._position = 0

    def take(self, count: int) -> int:
        first, last = self._advance(count)
        window = int.from_bytes(self._data[first:last], "big")
        return window >> (last * 8 - self._position) & ((1 << count) - 1)

    def take_bytes(self, count: int) -> np.ndarray:
        shift = self._position % 8
        first, last = self._advance(count * 8)
        window = np.frombuffer(self._data[first:last], np.uint8)
        return window[:-1] << shift | window[1:] >> (8 - shift) if shift else window

    def _advance(self, count: int) -> tuple[int, int]:
        """The bytes, from and up to, that hold the next bits."""
        first, self._position = self._position // 8, self._position + count
        last = -(-self._position // 8)
        if last > len(self._data):
            raise UserError("The brush mask is cut short: export the labels again.")
        return first, last
