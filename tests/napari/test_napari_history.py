"""napari's private undo history, as `samlet_napari.labels.napari_history` uses it."""

import numpy as np
from napari.layers import Labels

from samlet_napari.labels import napari_history
from samlet_napari.layers.plane import Plane

FLAT = Plane((0, 1), (0, 0))


def test_an_edit_that_was_made_already_can_be_undone_and_redone() -> None:
    layer = Labels(np.zeros((20, 30), np.uint8))
    before = np.asarray(layer.data)[5:9, 10:16].copy()
    after = before.copy()
    after[1, 2:4] = 7
    layer.data[5:9, 10:16] = after
    edit = napari_history.make_edit(FLAT, (10, 5, 16, 9), before != after, before, after)
    napari_history.record(layer, [edit])
    assert napari_history.count_undone(layer) == 0
    layer.undo()
    assert not layer.data.any() and napari_history.count_undone(layer) == 1
    layer.redo()
    assert layer.data[6, 12:14].tolist() == [7, 7] and layer.data.sum() == 14
    assert napari_history.count_undone(layer) == 0


def test_recording_edits_writes_nothing() -> None:
    layer = Labels(np.zeros((20, 30), np.uint8))
    ones = np.ones((2, 2), np.uint8)
    edit = napari_history.make_edit(FLAT, (0, 0, 2, 2), ones > 0, 0 * ones, ones)
    napari_history.record(layer, [edit])
    assert not layer.data.any()
