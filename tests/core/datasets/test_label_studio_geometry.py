"""Label Studio's values and the shapes in pixels that they mean, in both directions."""

import base64
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samlet.datasets.label_studio import geometry
from samlet.datasets.label_studio.bitmask import bitmask_value, read_bitmask
from samlet.datasets.label_studio.geometry import Ellipse, Rectangle, RegionValue
from samlet.datasets.label_studio.vectors import read_vector, vector_value
from samlet.errors import UserError
from samlet.masks import crop_mask, fill_ellipse, fill_polygon, iou

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


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_bitmasks_of_any_colour(mode: str) -> None:
    mask = Ellipse(70, 40, 20, 10, 30).mask(SIZE)
    image = Image.new(mode, SIZE[::-1])
    image.putalpha(Image.fromarray(mask.astype(np.uint8) * 200))
    stream = BytesIO()
    image.save(stream, "PNG")
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    assert np.array_equal(read_bitmask(region(imageDataURL=url)), mask)


@pytest.mark.parametrize("mask", [Ellipse(70, 40, 20, 10, 30).mask(SIZE), np.ones(SIZE, bool)])
def test_bitmasks_are_written_black_and_opaque_on_the_object(mask: np.ndarray) -> None:
    value = bitmask_value(crop_mask(mask))
    assert np.array_equal(read_bitmask(region(**value)), mask)
    header, _, body = value["imageDataURL"].partition(",")
    assert header == "data:image/png;base64" and len(body) < 1000
    rgba = np.asarray(Image.open(BytesIO(base64.b64decode(body))).convert("RGBA"))
    assert not rgba[..., :3].any() and np.array_equal(rgba[..., 3], mask * 255)


def test_a_bitmask_without_opacity() -> None:
    stream = BytesIO()
    Image.new("RGB", SIZE[::-1]).save(stream, "PNG")
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    with pytest.raises(UserError, match="has a bitmask that is not 160 x 90 pixels with opacity"):
        read_bitmask(region(imageDataURL=url))


def in_percent(point: np.ndarray) -> dict[str, float]:
    x, y = (100 * point / SIZE[::-1]).tolist()
    return {"x": x, "y": y}


def vertex(number: int, point: np.ndarray, before: int | None) -> dict[str, Any]:
    named = {"id": f"v{number}", "prevPointId": None if before is None else f"v{before}"}
    return {**named, **in_percent(point), "isBezier": False}


def test_outlines_of_vectors() -> None:
    corners = np.array([[10, 10], [60.5, 20], [80, 50], [30, 70]])
    written = vector_value(corners, SIZE)
    assert np.allclose(read_vector(region(**written)), corners)
    # Label Studio takes an outline for closed if its first vertex follows its last one.
    assert written["vertices"][0]["prevPointId"] == written["vertices"][-1]["id"]
    # A vertex that was inserted later is the last in the list.
    a, b, c, d = corners
    moved = [vertex(0, a, 3), vertex(2, c, 1), vertex(3, d, 2), vertex(1, b, 0)]
    assert np.allclose(read_vector(region(vertices=moved, closed=True)), corners)
    unlinked = [in_percent(corner) for corner in corners]
    assert np.allclose(read_vector(region(vertices=unlinked, closed=True)), corners)


def test_curves_of_vectors() -> None:
    """Four cubic curves with control points at 0.5523 of the radius are nearly a circle."""
    middle, radius, reach = np.array([80, 45]), 30.0, 30 * 0.5523
    vertices = []
    for i in range(4):
        out = np.array([np.cos(i * np.pi / 2), np.sin(i * np.pi / 2)])
        along = np.array([-out[1], out[0]])
        one, other = radius * out - reach * along, radius * out + reach * along
        curved = {
            "isBezier": True,
            "controlPoint1": in_percent(middle + one),
            "controlPoint2": in_percent(middle + other),
        }
        vertices.append(vertex(i, middle + radius * out, (i - 1) % 4) | curved)
    outline = read_vector(region(vertices=vertices, closed=True))
    assert np.allclose(np.hypot(*(outline - middle).T), radius, rtol=1e-3)
    drawn = fill_polygon(outline, SIZE)
    assert iou(drawn, fill_ellipse(80, 45, 30, 30, 0, SIZE)) > 0.98
    # A side between a curved and a plain vertex is curved at one end.
    vertices[1] = vertex(1, np.array([80, 75]), 0)
    half = read_vector(region(vertices=vertices, closed=True))
    assert len(half) == len(outline) and not np.allclose(half, outline)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, 'has no list "vertices": draw it again'),
        ({"vertices": [], "closed": False}, "is a line and no outline of an object: close it, in"),
        ({"vertices": [1, 2, 3], "closed": True}, 'has "vertices" that are no objects'),
        ({"vertices": [{"x": 1, "y": 1}], "closed": True}, "not three or more points"),
        ({"vertices": [{"x": 1}] * 3, "closed": True}, 'has no number "y": draw it again'),
        (
            {
                "vertices": [
                    vertex(i, np.array([i, i]), min(i - 1, 0) if i else None) for i in range(4)
                ],
                "closed": True,
            },
            "is branched and no outline of an object: draw it again without the branches",
        ),
    ],
)
def test_wrong_vectors(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_vector(region(**fields))


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
