"""The labelled objects of an image in batches, so that their masks are never all in memory."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from samlet.datasets.layers import iter_objects

BATCH_SIZE = 16
"""Prompts decoded at once. More is hardly faster, and each mask is as large as the image."""

MIN_AREA = 20
"""Objects with fewer pixels are skipped: a click or box cannot tell them from noise."""


def object_batches(
    labels: np.ndarray, min_area: int = MIN_AREA
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield (label, bool H x W) of up to `BATCH_SIZE` objects at a time.

    Args:
        labels: int32, L x H x W, layers of label maps.
        min_area: objects with fewer pixels are skipped.
    """
    large = (pair for pair in iter_objects(labels) if np.count_nonzero(pair[1]) >= min_area)
    while batch := list(islice(large, BATCH_SIZE)):
        yield batch
