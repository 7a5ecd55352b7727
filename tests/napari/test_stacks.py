"""Stacks and large images in a real window."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from napari.layers import Image
from qtpy.QtCore import Qt

from samlet import images, samples
from samlet.masks import deepest_point, iou
from samlet.outputs import read_label_map
from samlet_napari import sample_data
from tests.napari.desk import Desk, wait

NUCLEUS = 27


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return sample_data.stack_labels()


@pytest.fixture
def stack(desk: Desk) -> Image:
    desk.viewer.open_sample("samlet", "stack")
    layer = desk.viewer.layers[0]
    assert isinstance(layer, Image)
    desk.open(layer)
    return layer


def go_to(desk: Desk, slice_number: int) -> None:
    desk.viewer.dims.set_current_step(0, slice_number)
    desk.settle()


def click_on(desk: Desk, truth: np.ndarray, slice_number: int) -> None:
    x, y = deepest_point(truth[slice_number] == NUCLEUS)
    desk.click(slice_number, y, x)
    desk.settle()


def test_an_object_is_carried_through_the_stack(
    desk: Desk, stack: Image, truth: np.ndarray
) -> None:
    slices = np.flatnonzero((truth == NUCLEUS).any((1, 2)))
    middle = int(slices[len(slices) // 2])
    go_to(desk, middle)
    click_on(desk, truth, middle)
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert "was propagated through" in desk.status
    go_to(desk, middle)
    desk.press("Propagate back")
    desk.until(lambda: not desk.controller.tasks.is_running)
    found = desk.labels()
    assert set(np.unique(found)) == {0, 1}
    assert iou(found == 1, truth == NUCLEUS) > 0.6
    there = np.flatnonzero((found == 1).any((1, 2)))
    assert abs(there[0] - slices[0]) <= 1 and abs(there[-1] - slices[-1]) <= 1
    assert desk.viewer.dims.current_step[0] == there[0]

    # Corrected in one slice, it keeps its number there, and what was clicked stays.
    other = int(slices[-2])
    go_to(desk, other)
    before = found[other].copy()
    x, y = deepest_point(before == 1)
    desk.hover(other, y, x)
    desk.key(Qt.Key.Key_E)
    desk.settle()
    click_on(desk, truth, other)
    desk.key(Qt.Key.Key_C)
    corrected = desk.labels()[other].copy()
    assert set(np.unique(corrected)) == {0, 1}
    go_to(desk, middle)
    x, y = deepest_point(desk.labels()[middle] == 1)
    desk.hover(middle, y, x)
    desk.key(Qt.Key.Key_E)
    desk.settle()
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    np.testing.assert_array_equal(desk.labels()[other], corrected)
    assert "before one that you have clicked in" in desk.status


def test_one_undo_takes_a_propagation_back(desk: Desk, stack: Image, truth: np.ndarray) -> None:
    slices = np.flatnonzero((truth == NUCLEUS).any((1, 2)))
    middle = int(slices[len(slices) // 2])
    go_to(desk, middle)
    click_on(desk, truth, middle)
    desk.key(Qt.Key.Key_C)
    alone = desk.labels().copy()
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert (desk.labels() != alone).any()
    desk.press("Undo (Z)")
    np.testing.assert_array_equal(desk.labels(), alone)


def test_an_object_in_a_film_of_stacks_is_carried_through_depth(
    desk: Desk, truth: np.ndarray
) -> None:
    desk.viewer.open_sample("samlet", "stack")
    stack = np.asarray(desk.viewer.layers.pop().data)
    empty = np.zeros_like(stack)
    desk.open(desk.viewer.add_image(np.stack([empty, stack, empty]), name="film"))
    time, middle = desk.workspace.view().plane().index[:2]
    assert time == 1
    numbers, sizes = np.unique(
        truth[middle][(truth[middle] > 0) & (truth[middle + 1] == truth[middle])],
        return_counts=True,
    )
    nucleus = numbers[sizes.argmax()]
    x, y = deepest_point(truth[middle] == nucleus)
    # No slider was touched.
    desk.click(time, middle, y, x)
    desk.settle()
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert "was propagated through" in desk.status
    found = desk.labels()
    assert iou(found[time, middle + 1] == 1, truth[middle + 1] == nucleus) > 0.5
    assert not found[[0, 2]].any() and not found[time, middle - 1].any()

    # Through time, if that slider was moved; there it is nowhere.
    desk.viewer.dims.set_current_step(1, middle)
    for step in (0, 1):
        desk.viewer.dims.set_current_step(0, step)
    desk.settle()
    before = found.copy()
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert desk.status == (
        "Object 1 was not found in slice 2 of axis 0: click on it there, or first move the slider "
        "to follow."
    )
    np.testing.assert_array_equal(desk.labels(), before)


def test_a_slice_that_was_painted_by_hand_is_not_overwritten(
    desk: Desk, stack: Image, truth: np.ndarray
) -> None:
    slices = np.flatnonzero((truth == NUCLEUS).any((1, 2)))
    middle = int(slices[len(slices) // 2])
    go_to(desk, middle)
    click_on(desk, truth, middle)
    desk.key(Qt.Key.Key_C)
    labels = desk.workspace.labels
    assert labels is not None
    rows, columns = np.nonzero(truth[middle + 2] == NUCLEUS)
    labels.data_setitem((np.full_like(rows, middle + 2), rows, columns), 1)
    painted = labels.data[middle + 2].copy()
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert desk.status.startswith(
        f"Object 1 was propagated through 1 slice, up to slice {middle + 2}, where it was painted "
        "by hand"
    )
    np.testing.assert_array_equal(labels.data[middle + 2], painted)
    assert (labels.data[middle + 1] == 1).any() and not labels.data[middle + 3].any()


def test_where_there_is_nowhere_to_go_on_to(desk: Desk, stack: Image, truth: np.ndarray) -> None:
    last = len(truth) - 1
    go_to(desk, last)
    desk.click(last, 60, 60)
    desk.settle()
    desk.press("Propagate on")
    assert desk.status == "There is no slice after this one: propagate the other way."
    labels = desk.workspace.labels
    assert labels is not None and labels.data[last].any()
    # Its pixels go again by napari's own undo.
    labels.undo()
    assert not labels.data.any()
    desk.press("Propagate back")
    assert desk.status == "Object 1 has no pixel in this slice: click on it first."


def test_slices_are_encoded_as_they_are_visited_and_neighbours_ahead(
    desk: Desk, stack: Image
) -> None:
    embeddings = desk.workspace.embeddings
    assert embeddings is not None
    for number in (3, 4, 9):
        go_to(desk, number)
        plane = desk.workspace.view().plane()
        for near in (plane, plane.moved(0, number + 1), plane.moved(0, number - 1)):
            assert embeddings.is_ready(desk.workspace.session.roi_for(near, (0, 0, 0, 0)))  # type: ignore[union-attr]
    assert not embeddings.is_ready(
        desk.workspace.session.roi_for(plane.moved(0, 0), (0, 0, 0, 0))  # type: ignore[union-attr]
    )


def test_a_large_image_is_clicked_on_tile_by_tile(desk: Desk, tmp_path: Path) -> None:
    picture = images.read(samples.IMAGES / "fluorescence_1.png")[..., 0]
    labels = read_label_map(samples.LABELS / "fluorescence_1.png")
    height, width = picture.shape
    side = 5000
    store = zarr.create_array(
        tmp_path / "large.zarr", shape=(side, side), chunks=(512, 512), dtype="uint8"
    )
    store[:] = np.tile(picture, (side // height + 1, side // width + 1))[:side, :side]
    desk.open(desk.viewer.add_image(store, contrast_limits=(0, 255), name="large"))
    row, column = 4 * height, 3 * width
    x, y = deepest_point(labels == NUCLEUS)
    desk.viewer.scene.camera.center = (row + y, column + x)
    desk.viewer.scene.camera.zoom = 1.2
    wait(100)
    desk.settle()
    with desk.watched("a click in a large image"):
        desk.click(row + y, column + x)
        desk.settle()
    session = desk.workspace.session
    assert session is not None and session.draft is not None and session.draft.response is not None
    x0, y0, x1, y1 = session.draft.response.request.roi.box
    assert x1 - x0 <= 1024 and y1 - y0 <= 1024
    desk.key(Qt.Key.Key_C)
    found = desk.labels()
    assert found.shape == (side, side)
    assert desk.workspace.labels is not None and desk.workspace.labels.multiscale
    there = found[row : row + height, column : column + width]
    assert iou(there == 1, labels == NUCLEUS) > 0.7
    assert (found == 1).sum() == (there == 1).sum()
    # What is seen from afar shows the object, too.
    assert (np.asarray(desk.workspace.labels.data[-1]) == 1).any()
    desk.key(Qt.Key.Key_Z)
    assert not any(np.asarray(level).any() for level in desk.workspace.labels.data)
