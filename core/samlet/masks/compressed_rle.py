"""Decoding COCO's compressed run lengths, with all of them checked.

pycocotools is not used for this: given runs that end before the mask does, it returns uninitialised
memory for the rest. From the run lengths decoded here, `samlet.masks.from_rle` checks the sum.

Each number is written in groups of five bits, the lowest first, one character per group: its code
is the bits + 48, + 32 if further groups follow. The highest bit of the last group is the sign. From
the fourth on, a number is the difference from the run length two before.

Source: rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.
"""

import numpy as np

_MAX_GROUPS = 7
"""Per number: more than any run length needs, and few enough not to overflow."""


def decode_counts(counts: str) -> list[int]:
    """Decode the `counts` of a compressed RLE.

    Returns:
        run lengths along the columns, background first, as in an uncompressed RLE.

    Raises:
        ValueError: a character outside the code, or an unfinished number.
    """
    if not counts:
        return []
    codes = np.array([ord(character) for character in counts]) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.append(0, ends[:-1] + 1)
    groups = ends + 1 - starts
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32 or groups.max() > _MAX_GROUPS:
        raise ValueError(f"the counts that end in {counts[-20:]!r} are damaged")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, groups))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 1 << 5 * groups, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()
