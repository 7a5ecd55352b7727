"""The button "Measure": the objects of the shown plane, in the features of the labels layer."""

import numpy as np
import pytest

from samlet.measurements import PixelSize, measure_objects
from tests.napari.desk import Desk


def blocks(*shape: int) -> np.ndarray:
    """Labels 2 and 5, 3 x 4 and 6 x 2 pixels, in the last two axes."""
    labels = np.zeros(shape, np.uint16)
    labels[..., 4:7, 10:14] = 2
    labels[..., 12:18, 3:5] = 5
    return labels


def test_values_are_in_the_features(desk: Desk) -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 9000, (24, 30), np.uint16)
    # Until the model is ready, which tells so in the status line, too.
    desk.open(desk.viewer.add_image(picture, scale=(0.5, 250), units=("um", "nm")))
    desk.press("Measure")
    assert desk.status == "There is no object here to measure: commit one first."

    labels = blocks(24, 30)
    layer = desk.viewer.add_labels(labels, scale=(0.5, 250), units=("um", "nm"))
    desk.widget.form.labels.value = layer
    desk.press("Measure")
    assert desk.status.startswith("Measured 2 objects: ")
    table = layer.features
    assert list(table["index"]) == [2, 5]
    assert list(table["area_um2"]) == pytest.approx([12 * 0.125, 12 * 0.125])
    assert list(table["mean"]) == pytest.approx([picture[labels == n].mean() for n in (2, 5)])
    expected = measure_objects(labels, picture, PixelSize(0.5, 0.25))
    assert list(table) == ["index", *list(expected)[1:]]
    for name in list(expected)[1:]:
        np.testing.assert_allclose(table[name], expected[name])


def test_the_shown_plane_counts(desk: Desk) -> None:
    """Of a stack, also as seen from the side; without a unit of length, in pixels."""
    picture = np.random.default_rng(4).random((7, 24, 30)).astype(np.float32)
    labels = blocks(7, 24, 30)
    labels[3] = 0
    labels[3, 8:10, 20:25] = 9
    desk.widget.form.image.value = desk.viewer.add_image(picture)
    layer = desk.viewer.add_labels(labels)
    desk.widget.form.labels.value = layer
    desk.viewer.dims.set_current_step(0, 3)
    desk.press("Measure")
    assert list(layer.features["index"]) == [9]
    assert list(layer.features["area_px"]) == [10]
    assert list(layer.features["sum"]) == pytest.approx([picture[3, 8:10, 20:25].sum()])

    desk.viewer.dims.order = (1, 2, 0)
    desk.viewer.dims.set_current_step(1, 5)
    desk.press("Measure")
    assert list(layer.features["index"]) == [2]
    assert list(layer.features["area_px"]) == [24]
    assert list(layer.features["centroid_y"]) == pytest.approx([11.5])
    assert list(layer.features["centroid_x"]) == pytest.approx([18 / 6])


def test_colours_are_measured_one_by_one(desk: Desk) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (24, 30, 3), np.uint8)
    desk.widget.form.image.value = desk.viewer.add_image(picture, rgb=True)
    labels = blocks(24, 30)
    layer = desk.viewer.add_labels(labels)
    desk.widget.form.labels.value = layer
    desk.press("Measure")
    for channel in range(3):
        means = [picture[labels == n, channel].mean() for n in (2, 5)]
        assert list(layer.features[f"mean_{channel}"]) == pytest.approx(means)
