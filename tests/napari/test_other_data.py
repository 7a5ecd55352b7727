"""An image whose data, name or neighbours become others while it is clicked on."""

import gc
import weakref
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels
from qtpy.QtCore import Qt

from samlet.masks import deepest_point, iou
from samlet_napari.viewer.overlays import CLICKS
from tests.napari.desk import Desk, wait

CELL = 27


@pytest.fixture
def cells(desk: Desk, picture: np.ndarray) -> Image:
    layer = desk.viewer.add_image(picture.copy(), name="cells")
    desk.open(layer)
    return layer


def replace(desk: Desk, image: Image, data: Any) -> None:
    """Give a layer other data, and wait until it can be clicked on."""
    image.data = data
    desk.until(lambda: desk.workspace.embeddings is not None)
    desk.viewer.reset_view()
    desk.settle()


def commit(desk: Desk, mask: np.ndarray, *index: int) -> np.ndarray:
    """Click on an object, commit it, and give the labels."""
    x, y = deepest_point(mask)
    desk.click(*index, y, x)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    return desk.labels()


def cut(array: np.ndarray) -> np.ndarray:
    return array[100:400, 100:500]


def stacked(array: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(array), array, np.zeros_like(array)])


OTHERS = {
    "smaller": cut,
    "larger": lambda array: np.pad(array, ((0, 0), (0, 200))),
    "turned": lambda array: array.T,
    "dask": lambda array: da.from_array(cut(array), chunks=(100, 100)),
    "zarr": lambda array: zarr.array(cut(array), chunks=(100, 100)),
    "as many pixels": lambda array: array[::-1],
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind in ("smaller", "zarr") else ())
        for kind in OTHERS
    ],
)
def test_other_data_is_clicked_on_as_it_is(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray, kind: str
) -> None:
    commit(desk, truth == CELL)
    before = weakref.ref(cells.data)
    desk.widget.form.labels.value = None
    replace(desk, cells, OTHERS[kind](picture))
    expected = np.asarray(OTHERS[kind](truth)) == CELL
    found = commit(desk, expected)
    assert found.shape == expected.shape
    assert iou(found == 1, expected) > 0.7
    gc.collect()
    assert before() is None


@pytest.mark.parametrize("is_shown", [True, False])
def test_an_array_that_was_replaced_is_let_go(
    desk: Desk, cells: Image, picture: np.ndarray, is_shown: bool
) -> None:
    before = weakref.ref(cells.data)
    cells.visible = is_shown
    replace(desk, cells, picture[::-1].copy())
    cells.visible = True
    # What vispy is about to draw must not be collected.
    desk.settle()

    def is_let_go() -> bool:
        gc.collect()
        return before() is None

    # napari's own thread for the status bar may hold it for a moment.
    desk.until(is_let_go, seconds=10)


def test_an_image_that_becomes_a_stack_and_an_image_again(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    replace(desk, cells, stacked(picture))
    desk.viewer.dims.set_current_step(0, 1)
    desk.settle()
    found = commit(desk, truth == CELL, 1)
    assert found.shape == (3, *picture.shape) and not found[[0, 2]].any()
    assert iou(found[1] == 1, truth == CELL) > 0.7
    desk.widget.form.labels.value = None
    desk.viewer.layers.remove("cells objects")
    replace(desk, cells, picture)
    assert iou(commit(desk, truth == CELL) == 1, truth == CELL) > 0.7


def test_labels_of_the_size_before_are_refused_in_a_sentence(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    commit(desk, truth == CELL)
    before = desk.labels().copy()
    replace(desk, cells, cut(picture))
    told = "cells objects is 520 x 696 and the image is 300 x 400: choose labels of the same size"
    assert told in desk.status
    found = commit(desk, cut(truth) == CELL)
    assert told in desk.status
    np.testing.assert_array_equal(found, before)
    # Once they are of the same size, the object that was clicked can be committed.
    labels = desk.workspace.labels
    assert labels is not None
    labels.data = np.zeros((300, 400), np.uint16)
    desk.viewer.layers.selection.active = desk.viewer.layers[CLICKS]
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels() > 0, cut(truth) == CELL) > 0.7


def test_what_was_clicked_is_answered_on_the_new_pixels(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    x, y = deepest_point(truth == CELL)
    desk.click(y, x)
    desk.settle()
    cells.data = np.zeros_like(picture)
    cells.data = np.roll(picture, 3, axis=1)
    # At once, before the image is opened again.
    desk.key(Qt.Key.Key_C)
    desk.until(lambda: desk.workspace.embeddings is not None)
    desk.settle()
    expected = np.roll(truth, 3, axis=1) == CELL
    assert iou(desk.labels() == 1, expected) > max(0.7, iou(desk.labels() == 1, truth == CELL))


def test_clicks_right_after_other_data_are_not_lost(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    x, y = deepest_point(cut(truth) == CELL)
    cells.data = cut(picture)
    desk.controller.actions.click(cells.data_to_world((y, x)))
    desk.controller.actions.commit()
    wait(20)
    desk.controller.actions.click(cells.data_to_world((250, 20)))
    desk.until(lambda: desk.workspace.embeddings is not None)
    desk.settle()
    assert iou(desk.labels() == 1, cut(truth) == CELL) > 0.7
    session = desk.workspace.session
    assert session is not None and session.draft is not None


def test_everything_stops_when_the_data_is_replaced(
    desk: Desk, cells: Image, picture: np.ndarray
) -> None:
    desk.press("Everything")
    assert desk.controller.tasks.is_running
    replace(desk, cells, picture[::-1])
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert not desk.labels().any()


def test_another_layer_that_was_selected_stays_so(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    other = desk.viewer.add_labels(truth.copy(), name="mine")
    desk.viewer.layers.selection.active = other
    replace(desk, cells, cut(picture))
    assert desk.viewer.layers.selection.active is other
    desk.viewer.layers.selection.active = desk.viewer.layers[CLICKS]
    replace(desk, cells, picture)
    assert desk.viewer.layers.selection.active is desk.viewer.layers[CLICKS]


def test_an_image_that_cannot_be_opened_says_so_at_every_click(
    desk: Desk, cells: Image, picture: np.ndarray
) -> None:
    small = desk.viewer.add_image(cut(picture), name="small")
    told = "small is 300 x 400 and cells is 520 x 696: hide one of them"
    desk.widget.form.channels.value = "all visible layers, blended"
    desk.until(lambda: told in desk.status)
    cells.data = picture[::-1]
    desk.until(lambda: told in desk.status)
    wait(500)
    desk.click(100, 100)
    assert told in desk.status
    desk.press("Everything")
    assert told in desk.status
    small.visible = False
    desk.until(lambda: desk.workspace.embeddings is not None)
    desk.settle()
    desk.click(100, 100)
    desk.settle()
    assert desk.workspace.session is not None and desk.workspace.session.draft is not None


def test_layers_that_are_blended_are_followed(
    desk: Desk, cells: Image, picture: np.ndarray
) -> None:
    desk.viewer.add_image(np.zeros_like(picture), name="hidden", visible=False)
    desk.widget.form.channels.value = "all visible layers, blended"

    def seen(count: int, limits: tuple[float, float] = (0, 255)) -> bool:
        embeddings = desk.workspace.embeddings
        if embeddings is None or len(embeddings.snapshot.channels) != count:
            return False
        return embeddings.snapshot.channels[-1].limits == limits

    other = desk.viewer.add_image(picture[::-1].copy(), name="other")
    desk.until(lambda: seen(2))
    other.contrast_limits = (10, 100)
    desk.until(lambda: seen(2, (10, 100)))
    before = weakref.ref(other.data)
    replace(desk, other, picture.copy())
    gc.collect()
    assert before() is None
    other.visible = False
    desk.until(lambda: seen(1))
    other.visible = True
    desk.until(lambda: seen(2, (10, 100)))
    desk.viewer.layers.remove(other)
    desk.until(lambda: seen(1))


def test_channels_that_another_image_does_not_have_are_not_shown(
    desk: Desk, picture: np.ndarray
) -> None:
    colours = desk.viewer.add_image(np.stack([picture] * 3), name="colours")
    desk.open(colours)
    desk.widget.form.channels.value = 0
    desk.until(lambda: desk.workspace.embeddings.snapshot.colour_axis == 0)  # type: ignore
    slices = desk.viewer.add_image(np.stack([picture] * 20), name="slices")
    desk.open(slices)
    assert desk.widget.form.channels.value is None
    desk.until(lambda: desk.workspace.embeddings is not None)
    assert desk.workspace.embeddings.snapshot.colour_axis is None  # type: ignore
    desk.open(colours)
    desk.widget.form.channels.value = 0
    replace(desk, colours, picture)
    assert desk.workspace.embeddings.snapshot.colour_axis is None  # type: ignore


def test_what_was_chosen_first_can_be_chosen_again(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    desk.viewer.add_image(picture[::-1], name="other")
    for channels, count in (("all visible layers, blended", 2), (None, 1)):
        desk.widget.form.channels.value = channels
        assert len(desk.controller.sources._layers(cells)) == count
    desk.settle()
    desk.viewer.layers.selection.active = desk.viewer.layers[CLICKS]
    commit(desk, truth == CELL)
    first = desk.workspace.labels
    desk.widget.form.labels.value = None
    assert desk.workspace.labels is None
    commit(desk, truth == CELL)
    assert desk.workspace.labels not in (None, first)
    texts = {box.get_choice(text) for box, text in ((desk.widget.form.labels, "new layer"),)}
    assert texts == {None} and desk.widget.form.channels.current_choice == "this layer"


def test_renamed_layers_are_listed_under_their_new_names(
    desk: Desk, cells: Image, picture: np.ndarray, truth: np.ndarray
) -> None:
    mine = desk.viewer.add_labels(truth.copy(), name="mine")
    desk.widget.form.labels.value = mine

    def texts() -> list[str]:
        boxes = (desk.widget.form.image, desk.widget.form.labels)
        return [box.current_choice for box in boxes]

    assert texts() == ["cells", "mine"]
    cells.name, mine.name = "nuclei", "corrected"
    assert texts() == ["nuclei", "corrected"]
    assert desk.widget.form.image.value is cells and desk.widget.form.labels.value is mine
    assert desk.workspace.image is cells and desk.workspace.labels is mine
    # Two layers never have one name.
    other = desk.viewer.add_image(picture, name="nuclei")
    assert desk.widget.form.image.choices == (None, cells, other)
    desk.widget.form.image.value = other
    assert desk.widget.form.image.current_choice == other.name != "nuclei"
    # Our own layer is none to write to, whatever it is called.
    overlays = desk.workspace.overlays
    assert overlays is not None
    overlays.preview.name = "mine"
    assert overlays.preview not in desk.widget.form.labels.choices
    assert isinstance(mine, Labels)
