"""Objects in a labels layer: written, rewritten, taken away and taken back."""

import copy
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels

from samlet.errors import UserError
from samlet.masks import Box
from samlet_napari.inference.prompts import Step
from samlet_napari.labels.label_store import LabelStore
from samlet_napari.labels.object_metadata import KEY
from samlet_napari.labels.pyramid import empty_labels
from samlet_napari.layers.plane import Plane

FLAT = Plane((0, 1), (0, 0))
SHAPE = (24, 32)
STACK = (5, 24, 32)
STEPS = (Step(((4.0, 6.0, True),)), Step(box=(1.0, 2.0, 9.0, 8.0)))
ACROSS = [Plane(axes, (0, 0, 0)) for axes in ((1, 2), (2, 1), (0, 2), (2, 0), (0, 1), (1, 0))]


def full(box: Box) -> np.ndarray:
    return np.ones((box[3] - box[1], box[2] - box[0]), bool)


def store_of(data: Any, **options: Any) -> LabelStore:
    layer = Labels(data, multiscale=isinstance(data, list), **options)
    return LabelStore(layer, (data[0] if isinstance(data, list) else data).shape)


@pytest.fixture
def store() -> LabelStore:
    return store_of(np.zeros(SHAPE, np.uint16))


def write(store: LabelStore, box: Box, label: int, overwrite: bool = False) -> Any:
    return store.write(FLAT, box, full(box), label, STEPS, overwrite)


def test_an_object_is_written_where_it_is(store: LabelStore) -> None:
    mask = np.random.default_rng(0).random((6, 8)) < 0.5
    store.write(FLAT, (3, 5, 11, 11), mask, 7, STEPS)
    expected = np.zeros(SHAPE, int)
    expected[5:11, 3:11] = 7 * mask
    assert np.array_equal(store.data, expected)
    placed = store.metadata.object_in(7, FLAT)
    assert placed is not None and placed.steps == STEPS
    assert placed.box == store.bounding_box(FLAT, 7)
    assert [each.plane for each in store.metadata.objects(7)] == [FLAT]
    row, column = np.argwhere(mask)[0]
    assert store.label_at(FLAT, 3.4 + column, 4.6 + row) == 7
    assert store.label_at(FLAT, -1, 5) == store.label_at(FLAT, 32, 5) == 0


def test_pixels_of_others_are_left_unless_they_may_be_taken(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 1)
    write(store, (5, 0, 15, 10), 2)
    assert (store.data[:10, :10] == 1).all() and (store.data[:10, 10:15] == 2).all()
    write(store, (5, 0, 15, 10), 3, overwrite=True)
    assert (store.data[:10, :5] == 1).all() and (store.data[:10, 5:15] == 3).all()


def test_an_object_without_a_free_pixel_is_known_all_the_same(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 1)
    before = store.data.copy()
    write(store, (2, 2, 6, 6), 2)
    placed = store.metadata.object_in(2, FLAT)
    assert np.array_equal(store.data, before)
    assert placed is not None and placed.box is None and placed.steps == STEPS
    assert store.next_label() == 3


def test_rewriting_clears_the_old_pixels(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 1)
    write(store, (20, 4, 30, 8), 1)
    assert np.count_nonzero(store.data) == 40 and (store.data[4:8, 20:30] == 1).all()
    assert len([each.plane for each in store.metadata.objects(1)]) == 1


def test_rewriting_clears_what_others_have_painted_of_it(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 1)
    store.layer.data_setitem((np.array([20]), np.array([30])), 1)
    change = write(store, (4, 4, 6, 6), 1)
    assert np.count_nonzero(store.data) == 4
    store.revert(change)
    assert np.count_nonzero(store.data) == 101


def test_an_object_that_nobody_prompted_is_rewritten_too() -> None:
    data = np.zeros(SHAPE, np.uint16)
    data[2:9, 3:8] = 4
    store = store_of(data)
    assert store.metadata.object_in(4, FLAT) is None
    write(store, (20, 4, 30, 8), 4)
    assert np.count_nonzero(store.data) == 40


def test_taking_an_object_away(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 1)
    write(store, (10, 0, 20, 10), 2)
    change = store.write(FLAT, (12, 12, 13, 13), None, 1)
    assert (
        store.metadata.object_in(1, FLAT) is None
        and [each.plane for each in store.metadata.objects(1)] == []
    )
    assert np.unique(store.data).tolist() == [0, 2]
    store.revert(change)
    placed = store.metadata.object_in(1, FLAT)
    assert placed is not None and placed.steps == STEPS
    assert np.count_nonzero(store.data == 1) == 100


boxes = st.tuples(
    st.integers(0, 31), st.integers(0, 23), st.integers(1, 12), st.integers(1, 12)
).map(lambda b: (b[0], b[1], min(b[0] + b[2], 32), min(b[1] + b[3], 24)))
writes = st.lists(
    st.tuples(boxes, st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 4)),
    max_size=8,
)


@given(writes)
@settings(max_examples=40)
def test_taking_back_in_reverse_order_leads_back_to_the_start(
    actions: list[tuple[Box, int, bool, bool, int]],
) -> None:
    generator = np.random.default_rng(len(actions))
    data = generator.integers(0, 3, STACK).astype(np.uint16)
    store = store_of(data, metadata={KEY: {"objects": {"1": []}, "note": 5}})
    states = []
    changes = []
    for box, label, is_removal, overwrite, number in actions:
        states.append((store.data.copy(), copy.deepcopy(dict(store.layer.metadata))))
        mask = None if is_removal else generator.random((box[3] - box[1], box[2] - box[0])) < 0.7
        plane = Plane((1, 2), (number, 0, 0))
        changes.append(store.write(plane, box, mask, label, STEPS, overwrite))
    while changes:
        store.revert(changes.pop())
        pixels, metadata = states.pop()
        assert np.array_equal(store.data, pixels)
        assert store.layer.metadata == metadata


def test_a_new_number_is_above_all_that_there_are(store: LabelStore) -> None:
    assert store.next_label() == 1
    first = write(store, (0, 0, 10, 10), store.next_label())
    assert store.next_label() == 2
    store.layer.data_setitem((np.array([20]), np.array([30])), 9)
    assert store.next_label() == 10
    store.layer.brush_size = 1
    store.layer.paint((22, 3), 12)
    assert store.next_label() == 13
    store.layer.fill((15, 15), 20)
    assert store.next_label() == 21
    store.revert(write(store, (12, 12, 14, 14), 30, overwrite=True))
    store.revert(first)
    assert store.next_label() == 21
    write(store, (0, 0, 1, 1), 40, overwrite=True)
    assert store.next_label() == 41


def test_a_new_layer_that_others_paint_on() -> None:
    layer = Labels(np.zeros(SHAPE, np.uint16))
    store = LabelStore(layer, SHAPE, is_empty=True)
    assert store.next_label() == 1
    layer.data_setitem((np.array([20]), np.array([30])), 3)
    assert store.next_label() == 4
    write(store, (0, 0, 2, 2), 3)
    assert np.count_nonzero(layer.data) == 4


def test_other_data_in_the_same_layer_is_written_to(store: LabelStore) -> None:
    change = write(store, (0, 0, 10, 10), 1)
    old = store.data
    # As napari's menu converts to another type.
    store.layer.data = np.where(old == 1, 5, 0).astype(np.uint32)
    assert store.next_label() == 6
    write(store, (20, 4, 30, 8), 70_000)
    assert (store.layer.data[4:8, 20:30] == 70_000).all()
    assert not old[4:8, 20:30].any()
    # Nothing is left of what was written.
    assert not store.revert(change)
    assert (store.layer.data[:10, :10] == 5).all()


def test_a_write_is_taken_back_in_data_of_another_type(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 300)
    change = write(store, (2, 2, 6, 6), 301, overwrite=True)
    store.layer.data = store.data.astype(np.int64)
    assert store.revert(change)
    assert (store.layer.data[:10, :10] == 300).all()


def test_a_number_that_the_layer_cannot_hold_any_more_is_refused(store: LabelStore) -> None:
    write(store, (0, 0, 10, 10), 300)
    change = write(store, (2, 2, 6, 6), 5, overwrite=True)
    store.layer.data = store.data.astype(np.uint8)
    before = store.data.copy()
    for act in (lambda: store.revert(change), lambda: write(store, (20, 0, 30, 9), 300)):
        with pytest.raises(UserError, match="holds numbers from 0 to 255, and not 300"):
            act()
    assert np.array_equal(store.data, before)


@pytest.mark.parametrize("hand", [7, 0, 2])
def test_taking_back_leaves_what_was_painted_since(store: LabelStore, hand: int) -> None:
    write(store, (0, 0, 10, 10), 2)
    change = write(store, (5, 5, 15, 15), 1, overwrite=True)
    # One stroke on the object, one beside it in the corner of its box, and one across its border.
    for row, column in ((9, 9), (4, 14), (15, 9)):
        store.layer.brush_size = 3
        store.layer.paint((row, column), hand)
    painted = store.data.copy()
    assert store.revert(change)
    is_theirs = np.zeros(SHAPE, bool)
    is_theirs[5:15, 5:15] = painted[5:15, 5:15] != 1
    expected = np.where(painted == 1, 0, painted)
    expected[5:10, 5:10] = np.where(is_theirs[5:10, 5:10], painted[5:10, 5:10], 2)
    assert np.array_equal(store.data, expected)


def test_taking_away_and_rewriting_are_taken_back_only_where_nobody_has_painted(
    store: LabelStore,
) -> None:
    write(store, (0, 0, 10, 10), 1)
    for mask in (None, full((20, 10, 24, 14))):
        before = store.data.copy()
        change = store.write(FLAT, (20, 10, 24, 14), mask, 1)
        store.layer.data[2:4, 2:4] = 9
        assert store.revert(change)
        before[2:4, 2:4] = 9
        assert np.array_equal(store.data, before)
        store.layer.data[2:4, 2:4] = 1


def test_what_a_bucket_has_renumbered_is_not_taken_back(store: LabelStore) -> None:
    change = write(store, (0, 0, 10, 10), 1)
    store.layer.fill((5, 5), 8)
    assert not store.revert(change)
    assert (store.data[:10, :10] == 8).all() and store.metadata.object_in(1, FLAT) is None


KINDS = {
    "numpy": lambda: np.zeros(STACK, np.uint16),
    "zarr": lambda: zarr.array(np.zeros(STACK, np.uint16), chunks=(1, 16, 16)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_shown", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (2, 1), (2, 0)])
def test_naparis_undo_takes_writes_back_in_turn_with_what_it_paints(
    kind: str, is_shown: bool, axes: tuple[int, int]
) -> None:
    store = store_of(KINDS[kind](), visible=is_shown)
    layer = store.layer
    plane = Plane(axes, tuple(3 if axis not in axes else 0 for axis in range(3)))

    def pixels() -> np.ndarray:
        return np.array(layer.data)

    states = [pixels()]
    for act in (
        lambda: layer.data_setitem(tuple(np.mgrid[1:5, 2:9, 1:7].reshape(3, -1)), 9),
        lambda: store.write(plane, (1, 1, 4, 5), full((1, 1, 4, 5)), 1, overwrite=True),
        lambda: layer.data_setitem(tuple(np.mgrid[2:4, 3:5, 2:5].reshape(3, -1)), 8),
        lambda: store.write(plane, (0, 0, 3, 3), full((0, 0, 3, 3)), 2, overwrite=True),
        lambda: store.write(plane, (0, 0, 3, 3), None, 2),
    ):
        act()
        states.append(pixels())
        assert not np.array_equal(states[-1], states[-2])
    for expected in reversed(states[:-1]):
        layer.undo()
        assert np.array_equal(pixels(), expected)
    for expected in states[1:]:
        layer.redo()
        assert np.array_equal(pixels(), expected)


def test_what_is_gathered_is_one_step_of_naparis_undo(store: LabelStore) -> None:
    with store.batch():
        write(store, (0, 0, 4, 4), 1)
        write(store, (6, 6, 9, 9), 2)
    store.layer.undo()
    assert not store.data.any()


def test_a_write_that_fails_leaves_naparis_undo_as_it_was(store: LabelStore) -> None:
    with pytest.raises(UserError), store.batch():
        write(store, (0, 0, 4, 4), 1)
        write(store, (6, 6, 9, 9), 70_000)
    write(store, (10, 10, 12, 12), 3)
    store.layer.undo()
    assert np.unique(store.data).tolist() == [0, 1]
    store.layer.undo()
    assert not store.data.any()


def test_numbers_that_naparis_undo_brings_back_are_taken(store: LabelStore) -> None:
    store.revert(write(store, (0, 0, 4, 4), store.next_label()))
    assert store.next_label() == 1
    store.layer.undo()
    assert (store.data[:4, :4] == 1).all() and store.next_label() == 2
    store.layer.redo()
    assert store.next_label() == 1


def test_where_an_object_came_back_it_is_cleared_when_it_is_rewritten() -> None:
    layer = Labels(np.zeros(SHAPE, np.uint16))
    store = LabelStore(layer, SHAPE, is_empty=True)
    write(store, (0, 0, 4, 4), 1)
    write(store, (20, 4, 30, 8), 1)
    layer.undo()
    write(store, (10, 10, 12, 12), 1)
    assert np.count_nonzero(layer.data) == 4


def test_data_of_another_shape_in_the_same_layer_is_left_alone(store: LabelStore) -> None:
    change = write(store, (0, 0, 10, 10), 1)
    store.layer.data = np.zeros((9, 9), np.uint16)
    with pytest.raises(UserError, match="9 x 9"):
        write(store, (0, 0, 5, 5), 2)
    with pytest.raises(UserError, match="9 x 9"):
        store.revert(change)
    assert not store.layer.data.any()


@pytest.mark.parametrize("plane", ACROSS)
def test_planes_along_any_axes(plane: Plane) -> None:
    store = store_of(np.zeros(STACK, np.uint16))
    ([across],) = [{0, 1, 2} - set(plane.axes)]
    plane = plane.moved(across, 3)
    mask = np.random.default_rng(0).random((4, 3)) < 0.6
    store.write(plane, (1, 0, 4, 4), mask, 5, STEPS)
    seen = np.moveaxis(store.data, (*plane.axes, across), (0, 1, 2))
    assert np.array_equal(seen[:4, 1:4, 3], 5 * mask)
    assert np.count_nonzero(store.data) == np.count_nonzero(mask)
    assert np.array_equal(store.mask_of(plane, 5, (1, 0, 4, 4)), mask)
    elsewhere = plane.moved(across, 2)
    change = store.write(elsewhere, (0, 0, 1, 1), full((0, 0, 1, 1)), 5)
    assert [each.plane for each in store.metadata.objects(5)] == [plane, elsewhere]
    assert store.bounding_box(elsewhere, 5) == (0, 0, 1, 1)
    store.revert(change)
    assert np.count_nonzero(store.data) == np.count_nonzero(mask)
    assert [each.plane for each in store.metadata.objects(5)] == [plane]


@given(
    st.lists(
        st.tuples(boxes, st.sampled_from(ACROSS), st.integers(0, 4), st.integers(1, 3)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=40)
def test_all_levels_of_a_pyramid_show_the_same(
    actions: list[tuple[Box, Plane, int, int]],
) -> None:
    shape = (5, 23, 31)
    levels = [np.zeros((5, -(-23 // step), -(-31 // step)), np.uint16) for step in (1, 2, 4)]
    store = store_of(levels)
    changes = []
    for box, plane, number, label in actions:
        ([across],) = [{0, 1, 2} - set(plane.axes)]
        height, width = (shape[axis] for axis in plane.axes)
        x0, y0 = min(box[0], width - 1), min(box[1], height - 1)
        box = (x0, y0, max(x0 + 1, min(box[2], width)), max(y0 + 1, min(box[3], height)))
        plane = plane.moved(across, number)
        changes.append(store.write(plane, box, full(box), label, overwrite=True))
        for step, level in zip((1, 2, 4), levels, strict=True):
            assert np.array_equal(level, levels[0][:, ::step, ::step])
    for change in reversed(changes):
        store.revert(change)
    assert not any(level.any() for level in levels)


def test_a_new_layer_is_a_pyramid_only_if_it_is_large() -> None:
    small = empty_labels((3, 4096, 200))
    assert isinstance(small, np.ndarray) and small.shape == (3, 4096, 200)
    large = empty_labels((2, 300, 4099))
    assert isinstance(large, list)
    assert [level.shape for level in large] == [
        (2, 300, 4099),
        (2, 150, 2050),
        (2, 75, 1025),
        (2, 38, 513),
    ]
    store = store_of(large)
    store.write(Plane((1, 2), (1, 0, 0)), (4001, 200, 4099, 300), full((4001, 200, 4099, 300)), 1)
    assert all(
        np.array_equal(small, large[0][:, ::n, ::n]) for n, small in ((2, large[1]), (8, large[3]))
    )


def test_used_up_numbers() -> None:
    data = np.zeros(SHAPE, np.uint8)
    data[3, 4] = 254
    store = store_of(data, name="mine")
    write(store, (0, 0, 2, 2), store.next_label())
    assert store.data[0, 0] == 255
    with pytest.raises(UserError, match="mine has no free number left above 255"):
        store.next_label()


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="mine is 9 x 9 and the image is 24 x 32"):
        LabelStore(Labels(np.zeros((9, 9), int), name="mine"), SHAPE)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(SHAPE, np.uint16))
    array = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, dtype=np.uint16)
    array[:] = 0
    for data in (
        da.zeros(SHAPE, dtype=np.uint16),
        np.load(tmp_path / "labels.npy", mmap_mode="r"),
        zarr.open_array(tmp_path / "labels.zarr", mode="r"),
        # A pyramid of another factor, and one with a level that cannot be written.
        [np.zeros(SHAPE, np.uint16), np.zeros((8, 11), np.uint16)],
        [np.zeros(SHAPE, np.uint16), da.zeros((12, 16), dtype=np.uint16)],
    ):
        with pytest.raises(UserError, match="mine cannot be written"):
            store_of(data, name="mine")


def test_zarr_is_written(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "labels.zarr", shape=STACK, chunks=(1, 16, 16), dtype="u2")
    array[:] = 0
    store = store_of(array)
    assert store.next_label() == 1
    plane = Plane((2, 0), (0, 7, 0))
    box = (1, 10, 4, 30)
    change = store.write(plane, box, full(box), 3, STEPS)
    on_disk = zarr.open_array(tmp_path / "labels.zarr", mode="r")
    assert (np.asarray(on_disk)[1:4, 7, 10:30] == 3).all()
    assert store.next_label() == 4 and store.label_at(plane, 1, 10) == 3
    store.revert(change)
    assert not np.asarray(on_disk).any()


@pytest.mark.parametrize(
    "prior",
    [
        None,
        "a note",
        {"note": 5},
        {"objects": [1, 2]},
        {"objects": {"1": "?", "2": 5, "x": [], 3: []}},
        {"objects": {"1": [None, {"axes": "?"}, 7], "²": [], "9" * 5000: []}},
        {
            "objects": {
                "1": [{"axes": [0, 1], "index": [0, 0], "steps": [], "extent": [-9, 0, 3, 4]}]
            }
        },
    ],
)
def test_strange_metadata(prior: Any) -> None:
    store = store_of(np.zeros(SHAPE, np.uint16), metadata={KEY: copy.deepcopy(prior), "theirs": 1})
    assert store.next_label() <= 3
    assert (
        store.metadata.object_in(1, FLAT) is None
        and [each.plane for each in store.metadata.objects(1)] == []
    )
    assert store.layer.metadata == {KEY: prior, "theirs": 1}
    change = write(store, (0, 0, 10, 10), 1)
    placed = store.metadata.object_in(1, FLAT)
    assert placed is not None and placed.box == (0, 0, 10, 10)
    assert store.layer.metadata["theirs"] == 1
    if isinstance(prior, dict):
        assert store.layer.metadata[KEY].get("note") == prior.get("note")
    store.revert(change)
    if isinstance(prior, dict) and isinstance(prior.get("objects"), dict):
        assert store.layer.metadata[KEY] == prior
    assert not store.data.any()


def test_numbers_in_the_metadata_that_the_layer_cannot_hold_do_not_count() -> None:
    store = store_of(np.zeros(SHAPE, np.uint8), metadata={KEY: {"objects": {"70000": [], "7": []}}})
    assert store.next_label() == 8


def test_the_layer_is_drawn_once_for_all_that_is_gathered(store: LabelStore) -> None:
    drawn: list[int] = []
    store.layer.events.set_data.connect(lambda: drawn.append(np.count_nonzero(store.data)))
    with store.batch():
        write(store, (0, 0, 2, 2), 1)
        write(store, (4, 4, 6, 6), 2)
    assert drawn == [8]
    write(store, (8, 8, 10, 10), 3)
    assert drawn == [8, 12]


def test_a_closed_store_no_longer_follows_its_layer(store: LabelStore) -> None:
    assert store.next_label() == 1
    store.close()
    store.layer.data_setitem((np.array([20]), np.array([30])), 9)
    assert store.next_label() == 1
