"""Everything mode through all slices: the same objects as on the command line, in a real window."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt
from scipy import ndimage

import samlet
from samlet.masks import to_rle
from samlet.predict.embedding_cache import EmbeddingCache
from samlet_napari import sample_data
from samlet_napari.inference import everything
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.everything import find_linked_objects
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane
from tests.models import nuclei_at
from tests.napari.desk import Desk

LARGE = 1 << 40


def bright_parts(
    predictor: Any, pixels: np.ndarray, progress: Callable[[float], None]
) -> list[dict[str, Any]]:
    """All bright parts of an image, as everything mode gives objects; far quicker than a model."""
    parts, count = ndimage.label(pixels[..., 0] > 100)
    progress(1.0)
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(parts == number)
        point = [float(columns[0]), float(rows[0])]
        mask = to_rle(parts == number)
        found.append({"segmentation": mask, "predicted_iou": 0.9, "point_coords": [point]})
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "segment_everything", bright_parts)


def discs(*tracks: Sequence[tuple[int, int] | None]) -> np.ndarray:
    """Bright discs of radius 9 on a dark ground, each at a place (row, column) in every slice."""
    rows, columns = np.mgrid[:90, :120]
    stack = np.full((len(tracks[0]), 90, 120), 10, np.uint8)
    for track in tracks:
        for plane, place in zip(stack, track, strict=True):
            if place is not None:
                plane[(rows - place[0]) ** 2 + (columns - place[1]) ** 2 <= 81] = 200
    return stack


MOVING = [(20, 20 + 4 * t) for t in range(5)]
STILL = [(60, 60)] * 5
ENDING: Sequence[tuple[int, int] | None] = [(20, 95), (20, 95), None, None, None]
MISSING: Sequence[tuple[int, int] | None] = [(65, 100), (65, 100), None, (65, 100), (65, 100)]


@pytest.fixture
def stack(desk: Desk, quick: None) -> Image:
    layer = desk.viewer.add_image(discs(MOVING, STILL, ENDING, MISSING), name="stack")
    desk.open(layer)
    return layer


def find_all(desk: Desk) -> None:
    desk.press("Everything")
    desk.until(lambda: not desk.controller.tasks.is_running)


def test_objects_have_one_number_in_all_slices(desk: Desk, stack: Image) -> None:
    desk.widget.form.slices.value = "all slices"
    desk.viewer.dims.set_current_step(0, 3)
    desk.settle()
    find_all(desk)
    assert desk.status == "Found 4 objects in the image in 5 slices. Z undoes them together."
    assert desk.viewer.dims.current_step[0] == 3
    labels = desk.labels().copy()
    bright = np.asarray(stack.data) > 100
    # Nothing but the one that is missing in slice 2, where it is filled in.
    np.testing.assert_array_equal(labels[[0, 1, 3, 4]] > 0, bright[[0, 1, 3, 4]])
    filled = (labels[2] > 0) & ~bright[2]
    np.testing.assert_array_equal(filled, labels[1] == labels[1][65, 100])
    for track in (MOVING, STILL, MISSING):
        numbers = {
            int(plane[place or (65, 100)]) for plane, place in zip(labels, track, strict=True)
        }
        assert len(numbers) == 1
    assert len(np.unique(labels)) == 5

    # An object is edited in any of its slices, with its clicks or its box.
    for slice_number, steps in ((3, 1), (2, 1)):
        desk.viewer.dims.set_current_step(0, slice_number)
        desk.settle()
        desk.hover(slice_number, 65, 100)
        desk.key(Qt.Key.Key_E)
        desk.settle()
        session = desk.workspace.session
        assert session is not None and session.draft is not None
        assert session.draft.label == labels[2][65, 100] and len(session.draft.steps) == steps
        desk.key(Qt.Key.Key_Escape)

    # Found again, all places are taken.
    find_all(desk)
    assert "Found no objects in the image in 5 slices other than those already" in desk.status
    np.testing.assert_array_equal(desk.labels(), labels)

    # One undo takes all slices back, except what was painted since.
    layer = desk.workspace.labels
    assert layer is not None
    rows, columns = np.nonzero(labels[4] == labels[4][60, 60])
    layer.data_setitem((np.full_like(rows, 4), rows, columns), 99)
    desk.key(Qt.Key.Key_Z)
    assert np.unique(desk.labels()).tolist() == [0, 99]
    assert (desk.labels()[4] == 99).sum() == len(rows)


def test_what_is_labelled_already_stays(desk: Desk, stack: Image) -> None:
    desk.widget.form.slices.value = "all slices"
    painted = np.zeros(stack.data.shape, np.uint16)
    painted[1, 50:71, 50:71] = 7
    labels = desk.viewer.add_labels(painted.copy(), name="mine")
    desk.widget.form.labels.value = labels
    find_all(desk)
    np.testing.assert_array_equal(labels.data == 7, painted == 7)
    number = labels.data[0, 60, 60]
    assert number > 7 and (labels.data[2:, 60, 60] == number).all()


def test_the_choice_is_there_for_stacks_only(desk: Desk, quick: None) -> None:
    form = desk.widget.form
    flat = desk.viewer.add_image(discs([(30, 30)])[0], name="flat")
    desk.open(flat)
    assert not form.slices.visible
    colours = desk.viewer.add_image(discs([(30, 30)] * 3), name="colours")
    desk.open(colours)
    assert form.slices.visible
    form.slices.value = "all slices"
    form.channels.value = 0
    desk.settle()
    assert not form.slices.visible
    find_all(desk)
    assert desk.status.startswith("Found 1 object in the image. Z")
    form.image.value = flat
    form.labels.value = None
    desk.settle()
    assert not form.slices.visible
    # Chosen for a stack, it does not disturb an image without slices.
    find_all(desk)
    assert desk.status.startswith("Found 1 object in the image. Z")


def test_in_a_film_of_stacks_the_slider_decides(desk: Desk, quick: None) -> None:
    one = discs(STILL)
    film = desk.viewer.add_image(np.stack([one, np.zeros_like(one), one]), name="film")
    desk.open(film)
    desk.viewer.dims.set_current_step(0, 2)
    desk.viewer.dims.set_current_step(1, 1)
    desk.settle()
    desk.widget.form.slices.value = "all slices"
    find_all(desk)
    assert desk.status == (
        "Found 1 object in the image in 5 slices of axis 1. Z undoes them together."
    )
    labels = desk.labels()
    assert labels[2].any((1, 2)).all() and not labels[:2].any()


def test_stop_keeps_what_was_found(
    desk: Desk, stack: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the fourth slice, with the first two written, and the third finished."""
    searched: list[int] = []

    def stop(predictor: Any, pixels: np.ndarray, progress: Callable[[float], None]) -> Any:
        searched.append(1)
        if len(searched) == 4:
            desk.until(lambda: bool(desk.labels()[1].any()))
            desk.controller.tasks.stop()
        return bright_parts(predictor, pixels, progress)

    monkeypatch.setattr(everything, "segment_everything", stop)
    desk.widget.form.slices.value = "all slices"
    find_all(desk)
    assert desk.status == "Stopped." and len(searched) == 4
    assert desk.labels()[:3].any((1, 2)).all() and not desk.labels()[3:].any()
    desk.press("Undo (Z)")
    assert not desk.labels().any()


def test_the_model_finds_what_it_finds_elsewhere(
    tmp_path: Any,
) -> None:
    """Against `samlet.segment_stack`; cut off objects are left out here."""
    [(values, _, _)] = sample_data.stack()
    part = np.ascontiguousarray(values[4:7, 300:410, 120:260])
    predictor = samlet.Predictor(nuclei_at(256), "torch")
    snapshot = LayerSnapshot.of([Image(part, contrast_limits=(part.min(), part.max()))])
    cache = EmbeddingCache(tmp_path, LARGE, LARGE)
    planes = [Plane((1, 2), (z, 0, 0)) for z in range(3)]
    seen: list[float] = []
    box = (0, 0, 140, 110)
    slices = list(
        find_linked_objects(EmbeddingProvider(predictor, snapshot, cache), planes, box, seen.append)
    )
    assert seen == sorted(seen) and 0 < seen[0] <= 1 / 3 and seen[-1] == 1
    shown = [snapshot.read(plane, box) for plane in planes]
    expected, tracks = samlet.segment_stack(predictor, shown)
    labels = np.zeros_like(expected)
    for plane, found in zip(labels, slices, strict=True):
        for each in found:
            assert each.mask is not None and each.track is not None
            left, top, right, bottom = each.box
            plane[top:bottom, left:right][each.mask] = each.track
    assert len(tracks) > 1
    np.testing.assert_array_equal(labels, expected)
