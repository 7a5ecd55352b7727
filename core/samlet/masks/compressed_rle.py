"""COCO's compressed run lengths, checked to the last character.

pycocotools decodes runs that stop short of the mask's end, and leaves there whatever the memory
held. With the run lengths themselves their sum can be checked, which `samlet.masks.from_rle` does.

Each number is written in groups of five bits, the lowest first, a character a group: its code is 48
more than the bits, plus 32 if further groups follow. The last group has the sign in its highest
bit. From the fourth on, a number is the difference from the run length two before.

Source: rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.
"""

import numpy as np

# More than any run needs, and few enough not to overflow.
_MOST_GROUPS = 7


def decode_counts(counts: str) -> list[int]:
    """Decode the "counts" of a compressed RLE.

    Returns:
        run lengths along the columns, background first, as in an uncompressed RLE.

    Raises:
        ValueError: a character that means nothing, or an unfinished number.
    """
    if not counts:
        return []
    codes = np.array([ord(character) for character in counts]) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.append(0, ends[:-1] + 1)
    groups = ends + 1 - starts
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32 or groups.max() > _MOST_GROUPS:
        raise ValueError(f"the counts that end in {counts[-20:]!r} are damaged")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, groups))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 1 << 5 * groups, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()
