"""Label Studio's values and the shapes in pixels that they mean, in both directions."""

import numpy as np
import pytest

from samlet.datasets.label_studio import geometry
from samlet.datasets.label_studio.geometry import Ellipse, Rectangle, RegionValue
from samlet.errors import UserError
from samlet.masks import crop_mask

SIZE = (90, 160)


def region(**fields: object) -> RegionValue:
    return RegionValue(fields, SIZE, "The region", "draw it again")


@pytest.mark.parametrize("shape", [Rectangle, Ellipse])
@pytest.mark.parametrize("degrees", [0, 30, 90, 215])
def test_what_is_written_is_read(shape: type[Rectangle | Ellipse], degrees: float) -> None:
    drawn = shape(70, 40, 20, 10, degrees)
    again = shape.read(region(**drawn.to_value(SIZE)))
    assert np.allclose(
        [getattr(again, name) for name in vars(again)],
        [getattr(drawn, name) for name in vars(drawn)],
    )
    # Every pixel of the mask is within the bounds, and they are not larger than need be.
    ys, xs = np.nonzero(drawn.mask(SIZE))
    (x0, y0), (x1, y1) = drawn.bounds()
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert np.abs(np.array([x0, y0, x1, y1]) - box).max() <= 1.5


def test_polygons_and_brush_masks() -> None:
    outline = np.array([[10, 10], [60.5, 20], [30, 70]])
    again = geometry.read_polygon(region(**geometry.polygon_value(outline, SIZE)))
    assert np.allclose(again, outline)
    mask = Ellipse(70, 40, 20, 10, 30).mask(SIZE)
    assert np.array_equal(
        geometry.read_brush(region(**geometry.brush_value(crop_mask(mask)))), mask
    )


def test_percents_are_of_width_and_height() -> None:
    assert geometry.read_keypoint(region(x=50, y=100)) == (80, 90)
    rectangle = Rectangle.read(region(x=10, y=20, width=50, height=-10))
    assert rectangle == Rectangle(16, 18, 80, -9, 0)
    assert rectangle.bounds().tolist() == [[16, 9], [96, 18]]
    # Turned clockwise about its corner, what went right goes down.
    assert np.allclose(Rectangle(80, 40, 10, 20, 90).bounds(), [[60, 40], [80, 50]])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, 'The region has no number "x": draw it again.'),
        ({"x": True, "y": 1}, 'The region has no number "x": draw it again.'),
        ({"x": 1, "y": float("nan")}, 'The region has no number "y": draw it again.'),
        ({"x": 1, "y": 1, "width": 1e7, "height": 1}, 'has no number "width": draw it again.'),
    ],
)
def test_wrong_values(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        Rectangle.read(region(**fields))
    assert str(caught.value).endswith(sentence)
    with pytest.raises(UserError, match='no number "x" from -1 to 101: draw it again'):
        geometry.read_keypoint(region(x=102, y=1))
    with pytest.raises(UserError, match='a "width" of 0 and hence no area: draw it again'):
        region().check_not_zero(height=1.0, width=0.0)
