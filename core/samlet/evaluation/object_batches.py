"""Labelled objects, a few at a time, so that an image's masks are never all in memory."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from samlet.datasets.examples import Example
from samlet.datasets.layers import objects

CHUNK = 16
"""Prompts decoded at once: more is hardly faster, and their masks have the image's size."""

MIN_AREA = 20
"""Objects with fewer pixels are not prompted for: a click or box cannot tell them from noise."""

GroupOf = Callable[[np.ndarray], str]
"""Names the group of an image (RGB uint8, H x W x 3), such as how it was taken."""


def object_chunks(
    labels: np.ndarray, min_area: int = MIN_AREA
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield (label, bool H x W) of up to `CHUNK` objects at a time.

    Args:
        labels: int32, L x H x W, layers of label maps.
        min_area: objects with fewer pixels are left out.
    """
    large = (pair for pair in objects(labels) if np.count_nonzero(pair[1]) >= min_area)
    while chunk := list(islice(large, CHUNK)):
        yield chunk


def group_name(example: Example, group_of: GroupOf | None) -> str:
    """Name the group of an example's image; "" where images are not grouped."""
    return group_of(example.image) if group_of is not None else ""
