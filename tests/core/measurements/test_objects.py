"""Measurements of drawn shapes, by hand and beside scikit-image's regionprops."""

from math import pi

import numpy as np
import pytest
from skimage.draw import disk, ellipse
from skimage.measure import regionprops

import samlet
from samlet.measurements import PixelSize, measure_objects


def drawn() -> np.ndarray:
    """An ellipse, a square in the corner, a line, and a pixel; numbered with gaps."""
    labels = np.zeros((200, 300), np.uint16)
    labels[ellipse(80, 100, 20, 40, rotation=np.deg2rad(30))] = 7
    labels[190:200, 290:300] = 70
    labels[150, 10:60] = 9
    labels[5, 5] = 65535
    return labels


def test_shapes_have_the_sizes_that_they_were_drawn_with() -> None:
    columns = measure_objects(drawn())
    assert columns["label"].tolist() == [7, 9, 70, 65535]
    assert columns["area_px"][1:].tolist() == [50, 100, 1]
    assert columns["area_px"][0] == pytest.approx(pi * 20 * 40, rel=0.01)
    assert columns["centroid_x"].tolist() == pytest.approx([100, 34.5, 294.5, 5])
    assert columns["centroid_y"].tolist() == pytest.approx([80, 150, 194.5, 5])
    assert columns["axis_major_px"][0] == pytest.approx(80, rel=0.01)
    assert columns["axis_minor_px"][0] == pytest.approx(40, rel=0.01)
    # Counter-clockwise, as seen on the screen; the line lies along the x axis.
    assert columns["orientation"][:2].tolist() == pytest.approx([30, 0], abs=0.5)
    assert columns["eccentricity"][0] == pytest.approx(np.sqrt(1 - 0.25), rel=0.01)
    assert columns["solidity"].tolist() == pytest.approx([0.98, 1, 1, 1], abs=0.01)
    assert columns["touches_border"].tolist() == [False, False, True, False]
    assert "area_um2" not in columns


def test_a_turned_ellipse_turns_its_orientation() -> None:
    for degrees in (-60, -10, 0, 45, 90):
        labels = np.zeros((120, 120), int)
        labels[ellipse(60, 60, 15, 40, rotation=np.deg2rad(degrees))] = 1
        (angle,) = measure_objects(labels)["orientation"]
        assert angle == pytest.approx(degrees, abs=0.5)


def test_micrometres_scale_lengths_and_areas() -> None:
    in_pixels = measure_objects(drawn())
    columns = measure_objects(drawn(), pixel_size=PixelSize(0.5, 0.5))
    assert np.array_equal(columns["area_px"], in_pixels["area_px"])
    assert columns["area_um2"] == pytest.approx(in_pixels["area_px"] * 0.25)
    for name in ("perimeter", "axis_major", "axis_minor"):
        assert columns[f"{name}_um"] == pytest.approx(in_pixels[f"{name}_px"] * 0.5)
    for name in ("centroid_x", "centroid_y", "orientation", "eccentricity", "solidity"):
        assert columns[name] == pytest.approx(in_pixels[name])


def test_pixels_that_are_not_square() -> None:
    """A disk that was taken with pixels twice as wide as high is half as wide in pixels."""
    labels = np.zeros((200, 100), int)
    labels[ellipse(100, 50, 40, 20)] = 1
    columns = measure_objects(labels, pixel_size=PixelSize(1, 2))
    assert columns["area_um2"][0] == pytest.approx(pi * 40 * 40, rel=0.02)
    assert columns["axis_major_um"][0] == pytest.approx(80, rel=0.02)
    assert columns["eccentricity"][0] < 0.2
    assert "perimeter_um" not in columns
    assert (columns["centroid_x"][0], columns["centroid_y"][0]) == pytest.approx((50, 100))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_intensities_are_those_of_regionprops(dtype: type) -> None:
    rng = np.random.default_rng(0)
    labels = drawn()
    image: np.ndarray = rng.integers(0, 200, (*labels.shape, 3)).astype(dtype)
    columns = measure_objects(labels, image)
    for i, region in enumerate(regionprops(labels, image)):
        for channel in range(3):
            names = ("mean", "min", "max")
            for name in names:
                expected = getattr(region, f"intensity_{name}")[channel]
                assert columns[f"{name}_{channel}"][i] == pytest.approx(expected)
            total = region.image_intensity[region.image][:, channel].sum(dtype=float)
            assert columns[f"sum_{channel}"][i] == pytest.approx(total)


def test_missing_values_are_left_out() -> None:
    labels = np.zeros((40, 40), int)
    labels[disk((20, 20), 10)] = 1
    labels[0, 0] = 2
    image = np.full((40, 40), 5.0)
    image[20:, :] = np.nan
    image[0, 0] = np.nan
    columns = measure_objects(labels, image)
    assert columns["mean"][0] == columns["min"][0] == columns["max"][0] == 5
    assert columns["sum"][0] == 5 * (labels[:20] == 1).sum()
    assert np.isnan([columns[name][1] for name in ("mean", "min", "max")]).all()


def test_no_objects_give_empty_columns() -> None:
    columns = measure_objects(np.zeros((5, 6), np.uint8), np.zeros((5, 6)))
    assert {len(values) for values in columns.values()} == {0}
    assert columns.keys() == measure_objects(drawn(), np.zeros((200, 300))).keys()


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    for labels, image in (
        (np.zeros((3, 5, 6), int), None),
        (np.zeros((5, 6)), None),
        (np.full((5, 6), -1), None),
        (np.ones((5, 6), int), np.zeros((6, 5))),
    ):
        with pytest.raises(samlet.UserError) as refused:
            measure_objects(labels, image)
        assert "\n" not in str(refused.value)
