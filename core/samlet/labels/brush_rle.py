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

_WORD = 8


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
