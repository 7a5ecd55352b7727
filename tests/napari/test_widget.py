"""Point-click segmentation in a real window: mouse and keys on the canvas, against the labels."""

import logging
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

import napari
from samlet import ImageEmbedding, Predictor
from samlet.masks import deepest_point, iou
from samlet_napari.inference.requests import Response
from samlet_napari.ui.controller import Controller
from samlet_napari.ui.input_bindings import MouseMode
from samlet_napari.viewer.overlays import CLICKS, HOVER, MASK, PREVIEW
from tests.napari.desk import Desk, wait

CELLS = (5, 12, 27, 35)


@pytest.fixture
def cells(desk: Desk, picture: np.ndarray) -> Image:
    """An image that is ready to be clicked on."""
    layer = desk.viewer.add_image(picture, name="cells")
    desk.open(layer)
    return layer


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Row and column of its deepest point."""
    x, y = deepest_point(mask)
    return y, x


def preview(desk: Desk) -> np.ndarray:
    """What the preview shows, in the image's pixels: lines and areas alike."""
    assert desk.workspace.overlays is not None
    layer = desk.workspace.overlays.preview
    shape = desk.workspace.view().shape
    shown = np.zeros(shape, bool)
    image = desk.workspace.image
    assert image is not None
    corner = np.rint(image.world_to_data(layer.data_to_world((0,) * layer.ndim))).astype(int)
    where = tuple(slice(c, c + n) for c, n in zip(corner, layer.data.shape, strict=True))
    shown[where] = layer.data[tuple(slice(0, s.stop - s.start) for s in where)] > 0
    return shown


@pytest.mark.usefixtures("full_size")
def test_point_see_press(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    found = []
    for number, label in enumerate(CELLS, start=1):
        desk.click(*centre(truth == label))
        desk.settle()
        assert iou(preview(desk), truth == label) > 0.5
        desk.key(Qt.Key.Key_C)
        assert f"Object {number} is in cells objects" in desk.status
        found.append(iou(desk.labels() == number, truth == label))
    assert np.mean(found) > 0.8
    assert not preview(desk).any()
    assert desk.viewer.layers["cells objects"] is desk.widget.form.labels.value


@pytest.mark.usefixtures("cells")
def test_what_samlet_logs_is_a_notification() -> None:
    """As the one that says that images are encoded in bfloat16."""
    logging.getLogger("samlet.engines.precision").info("Images are encoded in bfloat16.")
    assert notification_manager.records[-1].message == "Images are encoded in bfloat16."


def test_hover_shows_the_mask_under_the_cursor(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    overlays = desk.workspace.overlays
    assert overlays is not None
    for label in CELLS:
        desk.hover(*centre(truth == label))
        desk.settle()
        assert iou(preview(desk), truth == label) > 0.5
        assert HOVER in overlays.preview.data and MASK not in overlays.preview.data
    assert not any(layer.name == "cells objects" for layer in desk.viewer.layers)
    desk.widget.form.live.value = False
    assert not preview(desk).any()
    desk.hover(*centre(truth == 5))
    desk.settle()
    assert not preview(desk).any()


@pytest.mark.parametrize("how", [{"button": "right"}, {"ctrl": True}])
def test_a_negative_click_takes_away(
    desk: Desk, cells: Image, truth: np.ndarray, how: dict[str, bool]
) -> None:
    desk.click(*centre(truth == 5))
    desk.settle()
    before = preview(desk)
    row, column = centre(truth == 25)
    desk.click(row, column, **how)  # type: ignore[arg-type]
    desk.settle()
    session, overlays = desk.workspace.session, desk.workspace.overlays
    assert session is not None and session.draft is not None and overlays is not None
    assert [step.points[0][2] for step in session.draft.steps] == [True, False]
    assert overlays.clicks.face_color[:, :3].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert not preview(desk)[round(row), round(column)]
    desk.key(Qt.Key.Key_Z)
    desk.settle()
    np.testing.assert_array_equal(preview(desk), before)


def test_a_dragged_box(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    desk.widget.form.mode.value = MouseMode.BOX
    camera = desk.viewer.scene.camera.center
    rows, columns = np.nonzero(truth == 27)
    desk.drag((rows.min() - 1, columns.min() - 1), (rows.max() + 1, columns.max() + 1))
    desk.settle()
    assert iou(preview(desk), truth == 27) > 0.6
    assert desk.viewer.scene.camera.center == camera
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels() == 1, truth == 27) > 0.7


def test_a_scribble_is_several_points(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    desk.widget.form.mode.value = MouseMode.SCRIBBLE
    row, column = centre(truth == 5)
    desk.drag((row, column - 8), (row, column), (row, column + 8))
    desk.settle()
    session = desk.workspace.session
    assert session is not None and session.draft is not None
    (step,) = session.draft.steps
    assert len(step.points) == 6
    assert iou(preview(desk), truth == 5) > 0.5
    desk.key(Qt.Key.Key_Z)
    assert session.draft is None


def test_hovering_never_lags_behind(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    responses: list[Response] = []
    desk.on_responses(responses.append)
    with desk.watched("hovering"):
        for row in np.linspace(60, 460, 60):
            QTest.mouseMove(desk.canvas, desk.at(row, 348))
            wait(5)
        end = centre(truth == 12)
        desk.hover(*end)
        desk.settle()
    # Places that were left before the model came to them are never answered.
    assert 2 < len(responses) < 62
    (last,) = responses[-1].request.steps[0].points
    np.testing.assert_allclose(last[:2], end[::-1], atol=1)
    assert iou(preview(desk), truth == 12) > 0.5


def test_dragging_in_click_mode_moves_the_image(desk: Desk, cells: Image) -> None:
    camera = desk.viewer.scene.camera.center
    desk.drag((200, 200), (260, 300))
    desk.settle()
    assert desk.viewer.scene.camera.center != camera
    assert desk.workspace.session is not None and desk.workspace.session.draft is None


def test_tab_shows_three_masks_and_comes_round(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    desk.click(*centre(truth == 5))
    desk.settle()
    shown = [preview(desk)]
    for _ in range(3):
        desk.key(Qt.Key.Key_Tab)
        desk.settle()
        shown.append(preview(desk))
    np.testing.assert_array_equal(shown[0], shown[3])
    assert not np.array_equal(shown[0], shown[1]) and not np.array_equal(shown[1], shown[2])


def test_undo_goes_back_through_points_and_commits(
    desk: Desk, cells: Image, truth: np.ndarray
) -> None:
    for label in CELLS[:2]:
        desk.click(*centre(truth == label))
        desk.settle()
        desk.key(Qt.Key.Key_C)
    assert set(np.unique(desk.labels())) == {0, 1, 2}
    desk.click(*centre(truth == 27))
    desk.settle()
    desk.key(Qt.Key.Key_Z)
    assert "object" in desk.status and desk.labels().max() == 2
    desk.key(Qt.Key.Key_Z, ctrl=True)
    assert desk.labels().max() == 1
    desk.key(Qt.Key.Key_Z)
    assert desk.labels().max() == 0
    desk.key(Qt.Key.Key_Z)
    assert desk.status == "There is nothing to undo."


@pytest.mark.parametrize("key", [Qt.Key.Key_Escape, Qt.Key.Key_X])
def test_cancel_drops_the_object(desk: Desk, cells: Image, truth: np.ndarray, key: Qt.Key) -> None:
    desk.click(*centre(truth == 5))
    desk.settle()
    desk.key(key)
    assert not preview(desk).any()
    desk.key(Qt.Key.Key_C)
    assert desk.status == "There is no object yet: click on one first."


def test_edit_brings_the_prompts_back(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    place = centre(truth == 5)
    desk.click(*place)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    desk.click(*centre(truth == 27))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    before = desk.labels().copy()
    desk.hover(*place)
    desk.key(Qt.Key.Key_E)
    desk.settle()
    session, overlays = desk.workspace.session, desk.workspace.overlays
    assert session is not None and session.draft is not None and overlays is not None
    assert session.draft.label == 1
    np.testing.assert_allclose(overlays.clicks.data, [place], atol=1)
    desk.click(*centre(truth == 25), button="right")
    desk.settle()
    desk.key(Qt.Key.Key_C)
    after = desk.labels()
    np.testing.assert_array_equal(after == 2, before == 2)
    assert iou(after == 1, truth == 5) > 0.6
    desk.hover(500, 5)
    desk.key(Qt.Key.Key_E)
    assert desk.status == "There is no object here: point at one in the labels."


def test_auto_commit_makes_each_click_an_object(
    desk: Desk, cells: Image, truth: np.ndarray
) -> None:
    desk.widget.form.auto_commit.value = True
    for label in CELLS:
        desk.click(*centre(truth == label))
    desk.settle()
    found = desk.labels()
    assert found.max() == len(CELLS)
    assert np.mean([iou(found == n, truth == c) for n, c in enumerate(CELLS, 1)]) > 0.75


def test_objects_respect_others_unless_told(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    mine = np.zeros(truth.shape, np.uint16)
    mine[truth == 5] = 7
    mine[:, : int(centre(truth == 5)[1])][truth[:, : int(centre(truth == 5)[1])] == 5] = 9
    desk.widget.form.labels.value = desk.viewer.add_labels(mine.copy(), name="mine")
    desk.click(*centre(truth == 5))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    np.testing.assert_array_equal(desk.labels()[truth == 5], mine[truth == 5])
    desk.key(Qt.Key.Key_Z)
    desk.widget.form.overwrite.value = True
    desk.click(*centre(truth == 5))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels() == 10, truth == 5) > 0.6


def test_clicks_before_the_model_is_ready_are_answered(
    desk: Desk, picture: np.ndarray, truth: np.ndarray
) -> None:
    desk.widget.form.auto_commit.value = True
    with desk.watched("loading and encoding"):
        desk.widget.form.image.value = desk.viewer.add_image(picture, name="cells")
        assert desk.workspace.session is None
        desk.viewer.reset_view()
        for label in CELLS:
            desk.click(*centre(truth == label))
        desk.until(lambda: desk.workspace.labels is not None)
        desk.settle()
    assert desk.labels().max() == len(CELLS)


def test_everything_and_stop(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    desk.click(*centre(truth == 5))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    mine = desk.labels() == 1
    with desk.watched("everything"):
        desk.press("Everything")
        assert desk.controller.tasks.is_running
        desk.until(lambda: not desk.controller.tasks.is_running, seconds=180)
    found = desk.labels()
    np.testing.assert_array_equal(found == 1, mine)
    hits = sum(
        max(iou(found == n, truth == c) for n in np.unique(found[truth == c])) > 0.5
        for c in range(1, truth.max() + 1)
    )
    assert hits > 0.6 * truth.max()
    desk.key(Qt.Key.Key_Z)
    assert set(np.unique(desk.labels())) == {0, 1}
    desk.press("Everything")
    desk.press("Stop")
    desk.until(lambda: not desk.controller.tasks.is_running)
    assert desk.status == "Stopped." and desk.labels().max() == 1


def test_similar_objects_follow_the_slider_until_they_are_committed(
    desk: Desk, cells: Image, truth: np.ndarray
) -> None:
    desk.press("Find similar")
    assert desk.status.startswith("There is no object here to find others like it")
    for label in CELLS[:2]:
        desk.click(*centre(truth == label))
        desk.settle()
        desk.key(Qt.Key.Key_C)
    mine = desk.labels().copy()
    slider, session = desk.widget.form.likeness, desk.workspace.session
    assert not slider.visible and session is not None
    desk.press("Find similar")
    desk.until(lambda: session.similar is not None, seconds=180)
    desk.until(lambda: not desk.controller.tasks.is_running)
    similar, overlays = session.similar, desk.workspace.overlays
    assert similar is not None and overlays is not None and slider.visible
    assert f"{len(similar.kept)} objects with a likeness of 0.50" in desk.status
    # Nothing is written yet, and the slider acts at once.
    np.testing.assert_array_equal(desk.labels(), mine)
    counts, pixels = [], []
    for value in (1.0, 0.8, 0.5, 0.0):
        slider.value = value
        counts.append(len(similar.kept))
        pixels.append(np.count_nonzero(overlays.preview.data))
    assert counts == sorted(counts) and counts[-1] > counts[0]
    assert pixels == sorted(pixels) and pixels[-1] > pixels[0]
    desk.hover(*centre(truth == CELLS[0]))
    wait(50)
    assert np.count_nonzero(overlays.preview.data) == pixels[-1]
    desk.key(Qt.Key.Key_C)
    found = desk.labels()
    assert session.similar is None and not slider.visible
    for label in (1, 2):
        np.testing.assert_array_equal(found == label, mine == label)
    hits = sum(
        max(iou(found == n, truth == c) for n in np.unique(found[truth == c])) > 0.5
        for c in range(1, truth.max() + 1)
    )
    assert hits > 0.6 * truth.max()
    # They are undone together; what is dropped is not written.
    desk.key(Qt.Key.Key_Z)
    np.testing.assert_array_equal(desk.labels(), mine)
    desk.press("Find similar")
    desk.until(lambda: session.similar is not None, seconds=180)
    desk.key(Qt.Key.Key_Escape)
    assert session.similar is None and not slider.visible
    np.testing.assert_array_equal(desk.labels(), mine)


def test_everything_in_view_stays_in_view(desk: Desk, cells: Image) -> None:
    desk.viewer.scene.camera.zoom = 2.5
    desk.viewer.scene.camera.center = (130, 174)
    wait(50)
    x0, y0, x1, y1 = desk.workspace.view().visible_box()
    assert x1 - x0 < 400 and y1 - y0 < 400
    desk.press("Everything in view")
    desk.until(lambda: not desk.controller.tasks.is_running, seconds=180)
    found = desk.labels().copy()
    assert found.max() > 1
    found[y0:y1, x0:x1] = 0
    assert not found.any()


def scaled(image: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return image, {"scale": (0.5, 0.25), "translate": (100, -40)}


def turned(image: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return image, {"rotate": 30, "scale": (2, 2)}


def colour(image: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.repeat(image[..., None], 4, axis=2), {"rgb": True}


def deep(image: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return image.astype(np.uint16) * 50 + 1000, {"contrast_limits": (1000, 13750)}


def fractions(image: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return (image / 255).astype(np.float32), {"contrast_limits": (0, 1)}


def pyramid(image: np.ndarray) -> tuple[list[np.ndarray], dict[str, object]]:
    return [image, image[::2, ::2], image[::4, ::4]], {"multiscale": True}


def lazy(image: np.ndarray) -> tuple[da.Array, dict[str, object]]:
    return da.from_array(image, chunks=(100, 130)), {"contrast_limits": (0, 255)}


def stored(image: np.ndarray) -> tuple[zarr.Array, dict[str, object]]:
    return zarr.array(image, chunks=(128, 128)), {"contrast_limits": (0, 255)}


@pytest.mark.parametrize("make", [scaled, turned, colour, deep, fractions, pyramid, lazy, stored])
def test_clicks_land_in_whatever_napari_shows(
    desk: Desk, picture: np.ndarray, truth: np.ndarray, make: object
) -> None:
    data, settings = make(picture)  # type: ignore[operator]
    desk.open(desk.viewer.add_image(data, name="cells", **settings))
    desk.viewer.reset_view()
    wait(50)
    desk.click(*centre(truth == 27))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels() == 1, truth == 27) > 0.7
    labels, image = desk.workspace.labels, desk.workspace.image
    assert labels is not None and image is not None
    np.testing.assert_allclose(labels.data_to_world((3, 7)), image.data_to_world((3, 7)))


def test_a_transposed_view(desk: Desk, picture: np.ndarray, truth: np.ndarray) -> None:
    stack = np.stack([picture, np.zeros_like(picture)])
    desk.viewer.add_image(stack, name="cells")
    desk.viewer.dims.order = (0, 2, 1)
    desk.viewer.dims.set_current_step(0, 0)
    desk.viewer.reset_view()
    desk.open(desk.viewer.layers["cells"])
    desk.click(0, *centre(truth == 27))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels()[0] == 1, truth == 27) > 0.7
    assert not desk.labels()[1].any()


def test_the_3d_view_is_refused_in_a_sentence(desk: Desk, picture: np.ndarray) -> None:
    desk.open(desk.viewer.add_image(np.stack([picture] * 3)))
    desk.viewer.dims.ndisplay = 3
    QTest.mouseClick(desk.canvas, Qt.MouseButton.LeftButton, pos=desk.canvas.rect().center())
    assert desk.status.startswith("Clicks need the 2D view")
    desk.viewer.dims.ndisplay = 2


def test_channels_are_blended_or_colours(
    desk: Desk, picture: np.ndarray, truth: np.ndarray
) -> None:
    half = picture.shape[1] // 2
    left, right = picture.copy(), picture.copy()
    left[:, half:] = right[:, :half] = 0
    layer = desk.viewer.add_image(left, colormap="gray", blending="additive", name="left")
    desk.viewer.add_image(right, colormap="gray", blending="additive", name="right")
    desk.open(layer)
    place = centre(truth == 12)
    assert left[int(place[0]), int(place[1])] == 0
    desk.widget.form.channels.value = "all visible layers, blended"
    wait(100)
    desk.until(lambda: len(desk.workspace.embeddings.snapshot.channels) == 2)  # type: ignore
    desk.settle()
    desk.click(*place)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels() == 1, truth == 12) > 0.7

    desk.open(desk.viewer.add_image(np.stack([left, right]), name="both"))
    desk.widget.form.channels.value = 0
    desk.until(lambda: desk.workspace.embeddings.snapshot.colour_axis == 0)  # type: ignore
    desk.settle()
    desk.click(0, *place)
    desk.settle()
    assert iou(preview(desk)[0], truth == 12) > 0.6


@pytest.mark.usefixtures("full_size")
def test_contrast_limits_decide_what_the_model_sees(
    desk: Desk, picture: np.ndarray, truth: np.ndarray
) -> None:
    dark = picture.astype(np.uint16)
    layer = desk.viewer.add_image(dark, contrast_limits=(0, 60000), name="dark")
    desk.open(layer)
    desk.click(*centre(truth == 27))
    desk.settle()
    blind = iou(preview(desk), truth == 27)
    layer.contrast_limits = (0, 255)
    desk.until(lambda: desk.workspace.embeddings.snapshot.channels[0].limits == (0, 255))  # type: ignore
    desk.settle()
    assert iou(preview(desk), truth == 27) > max(0.7, blind + 0.1)


def test_switching_and_deleting_images_while_they_are_encoded(
    desk: Desk, picture: np.ndarray, truth: np.ndarray
) -> None:
    a = desk.viewer.add_image(picture, name="a")
    b = desk.viewer.add_image(picture[::-1], name="b")
    for layer in (a, b, a, b):
        desk.widget.form.image.value = layer
        wait(5)
        QTest.mouseClick(desk.canvas, Qt.MouseButton.LeftButton, pos=desk.canvas.rect().center())
    desk.viewer.layers.remove(b)
    desk.until(lambda: desk.status == "b was removed: choose another image.")
    assert {layer.name for layer in desk.viewer.layers} == {"a"}
    desk.open(a)
    desk.click(*centre(truth == 27))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert iou(desk.labels() == 1, truth == 27) > 0.7


def test_labels_that_do_not_fit_are_refused(desk: Desk, cells: Image) -> None:
    desk.widget.form.labels.value = desk.viewer.add_labels(np.zeros((9, 9), int), name="small")
    assert "small is 9 x 9 and the image is 520 x 696" in desk.status


def test_a_removed_labels_layer_makes_room_for_a_new_one(
    desk: Desk, cells: Image, truth: np.ndarray
) -> None:
    for _ in range(2):
        desk.click(*centre(truth == 27))
        desk.settle()
        desk.key(Qt.Key.Key_C)
        assert desk.labels().max() == 1
        desk.viewer.layers.remove("cells objects")
        desk.until(lambda: desk.widget.form.labels.value is None and desk.workspace.labels is None)


def test_closing_gives_everything_back(
    desk: Desk, cells: Image, truth: np.ndarray, picture: np.ndarray
) -> None:
    desk.click(*centre(truth == 27))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    desk.click(*centre(truth == 5))
    labels = desk.viewer.layers["cells objects"]
    desk.viewer.window.remove_dock_widget(desk.widget)
    wait(50)
    assert {layer.name for layer in desk.viewer.layers} == {"cells", "cells objects"}
    desk.viewer.layers.selection.active = labels
    desk.key(Qt.Key.Key_Tab)
    QTest.mouseClick(desk.canvas, Qt.MouseButton.LeftButton, pos=desk.canvas.rect().center())
    assert labels.data.max() == 1

    again = Desk(desk.viewer)
    assert again.widget is not desk.widget
    again.open(cells)
    again.widget.form.labels.value = labels
    again.click(*centre(truth == 5))
    again.settle()
    again.key(Qt.Key.Key_C)
    assert labels.data.max() == 2
    again.widget.close_down()


def test_two_viewers_do_not_meet(
    desk: Desk, cells: Image, truth: np.ndarray, picture: np.ndarray
) -> None:
    other_viewer = napari.Viewer(show=True)
    other = Desk(other_viewer)
    other.open(other_viewer.add_image(picture, name="others"))
    desk.click(*centre(truth == 27))
    other.click(*centre(truth == 5))
    desk.settle()
    other.settle()
    desk.key(Qt.Key.Key_C)
    other.key(Qt.Key.Key_C)
    assert iou(desk.labels() == 1, truth == 27) > 0.7
    assert iou(other.labels() == 1, truth == 5) > 0.6
    other.widget.close_down()
    other_viewer.close()
    desk.click(*centre(truth == 5))
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert desk.labels().max() == 2


def test_keys_and_clicks_are_ours_only_on_our_layers(
    desk: Desk, cells: Image, truth: np.ndarray
) -> None:
    desk.viewer.layers.selection.active = cells
    desk.click(*centre(truth == 27))
    desk.settle()
    assert desk.workspace.session is not None and desk.workspace.session.draft is None
    desk.viewer.layers.selection.active = desk.viewer.layers[CLICKS]
    desk.click(*centre(truth == 27))
    desk.settle()
    assert desk.workspace.session.draft is not None
    assert {CLICKS, PREVIEW} <= {layer.name for layer in desk.viewer.layers}


def test_prompts_survive_saving_and_loading(
    desk: Desk, cells: Image, truth: np.ndarray, tmp_path: Path
) -> None:
    place = centre(truth == 27)
    desk.click(*place)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    before = desk.labels().copy()
    path = tmp_path / "cells.samlet.tif"
    desk.viewer.layers["cells objects"].save(str(path), plugin="samlet")
    desk.viewer.layers.remove("cells objects")
    (labels,) = desk.viewer.open(path, plugin="samlet")
    desk.widget.form.labels.value = labels
    np.testing.assert_array_equal(desk.labels(), before)
    desk.viewer.layers.selection.active = desk.viewer.layers[CLICKS]
    desk.hover(*place)
    desk.key(Qt.Key.Key_E)
    desk.settle()
    session = desk.workspace.session
    assert session is not None and session.draft is not None
    np.testing.assert_allclose(session.draft.steps[0].points[0][:2], place[::-1], atol=1)
    assert iou(preview(desk), before == 1) == 1


def test_embeddings_beside_the_image_are_found_again(
    desk: Desk, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cells.npy"
    np.save(path, picture)
    (layer,) = desk.viewer.open(path)
    desk.open(layer)
    desk.widget.form.beside_image.value = True
    desk.settle()
    folder = tmp_path / "cells.npy.samlet"
    assert len(list(folder.glob("*.safetensors"))) == 1
    encoded: list[tuple[int, ...]] = []
    encode = Predictor.encode

    def noting(predictor: Predictor, image: np.ndarray) -> ImageEmbedding:
        encoded.append(image.shape[:2])
        return encode(predictor, image)

    monkeypatch.setattr(Predictor, "encode", noting)
    desk.viewer.layers.remove(layer)
    (layer,) = desk.viewer.open(path)
    desk.open(layer)
    desk.click(260, 348)
    desk.settle()
    assert desk.workspace.session.draft.response.prediction is not None  # type: ignore
    # Parts of the image are, to zoom in; the image is not.
    assert all(max(size) < max(picture.shape[:2]) / 2 for size in encoded)


def test_a_model_that_is_missing_is_told(desk: Desk, cells: Image, tmp_path: Path) -> None:
    desk.controller.choose_model(str(tmp_path / "none.safetensors"))
    desk.until(lambda: "none.safetensors" in desk.status and "..." not in desk.status)
    assert "There is no checkpoint" in desk.status


def test_the_palette_and_menus_act(desk: Desk, cells: Image, truth: np.ndarray) -> None:
    from napari._app_model import get_app_model

    commands = get_app_model().commands
    desk.click(*centre(truth == 27))
    desk.settle()
    commands.execute_command("samlet.commit").result()
    assert desk.labels().max() == 1
    commands.execute_command("samlet.undo").result()
    assert desk.labels().max() == 0
    commands.execute_command("samlet.propagate_forward").result()
    assert "click on one first" in desk.status


def test_without_a_widget_an_action_says_so(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samlet_napari.ui import commands

    told: list[str] = []
    monkeypatch.setattr("samlet_napari.ui.open_controllers.show_info", told.append)
    commands.commit(viewer)
    assert told == ["Open Plugins > samlet > Segment first."]


def test_the_widget_opens_without_an_image(desk: Desk) -> None:
    assert desk.status == "Open an image, and choose it here."
    for button in desk.widget.buttons:
        desk.press(button)
        assert desk.status.endswith((".", "again."))
    assert isinstance(desk.controller, Controller)
