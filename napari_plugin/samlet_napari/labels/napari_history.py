"""napari's own undo history of a labels layer: the one place that uses napari's private names.

`tests/napari/test_napari_history.py` fails when they change.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels

from samlet.masks import Box
from samlet_napari.layers.plane import Plane

Edit = tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]
"""An entry of the history: indices along each axis, and the values there before and after."""


def make_edit(
    plane: Plane, box: Box, changed: np.ndarray, before: np.ndarray, after: np.ndarray
) -> Edit:
    """An edit of the changed pixels only.

    Args:
        plane: where.
        box: where in the plane, half open.
        changed: bool, h x w of the box.
        before: the box's values before the edit.
        after: and after it.
    """
    rows, columns = np.nonzero(changed)
    displayed = {plane.axes[0]: rows + box[1], plane.axes[1]: columns + box[0]}
    indices = (
        np.asarray(displayed.get(axis, np.full(len(rows), at)), np.int32)
        for axis, at in enumerate(plane.index)
    )
    return tuple(indices), before[changed], after[changed]


def record(layer: Labels, edits: Sequence[Edit]) -> None:
    """Add edits that were made already, as one step of napari's undo."""
    with layer.block_history():
        for edit in edits:
            # The public data_setitem writes as well, by arrays of indices whatever the data, and
            # into what is drawn, which in a hidden layer is that of other data.
            layer._save_history(edit)


def count_undone(layer: Labels) -> int:
    """How many steps napari could redo."""
    return len(layer._redo_history)


def can_record(array: Any) -> bool:
    """Whether arrays of indices mean single pixels of an array, as napari's undo needs it."""
    return isinstance(array, np.ndarray) or type(array).__module__.startswith("zarr")
