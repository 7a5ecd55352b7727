"""What a viewer shows of an image, without a window."""

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from samlet.errors import UserError
from samlet_napari.layers.plane import Plane
from samlet_napari.viewer.view import View

SHAPE = (3, 7, 20, 30)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def image_in(viewer: ViewerModel, **options: Any) -> Image:
    layer: Image = viewer.add_image(np.zeros(SHAPE), **options)
    return layer


@pytest.mark.parametrize(
    "transform",
    [
        {},
        {"scale": (1, 2.5, 0.5, 0.5), "translate": (0, -7, 100, -30)},
        {"rotate": 30},
    ],
)
def test_places_in_the_world_are_those_of_the_data(
    viewer: ViewerModel, transform: dict[str, Any]
) -> None:
    layer = image_in(viewer, **transform)
    view = View(viewer, layer)
    view.go_to(Plane((2, 3), (1, 4, 0, 0)))
    plane, x, y = view.to_pixel(layer.data_to_world((1, 4, 12.25, 3.5)))
    assert plane == Plane((2, 3), (1, 4, 0, 0))
    assert (x, y) == pytest.approx((3.5, 12.25))


def test_places_of_a_transposed_view(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer))
    viewer.dims.order = (0, 2, 3, 1)
    viewer.dims.set_current_step(2, 11)
    viewer.dims.set_current_step(0, 2)
    plane, x, y = view.to_pixel((0, 5, 11, 22))
    assert (plane, x, y) == (Plane((3, 1), (2, 0, 11, 0)), 5, 22)
    assert view.size(plane) == (30, 7)


@pytest.mark.parametrize("scale", [(1, 1, 1, 1), (1, 2.5, 0.5, 0.5)])
def test_a_plane_that_was_gone_to_is_shown(viewer: ViewerModel, scale: tuple[float, ...]) -> None:
    view = View(viewer, image_in(viewer, scale=scale, translate=(0, 3, 0, 0)))
    viewer.add_image(np.zeros((2, *SHAPE)))
    for number in (6, 0, 3):
        plane = Plane((2, 3), (2, number, 0, 0))
        view.go_to(plane)
        assert view.plane() == plane


def test_the_slices_beside_are_those_of_the_slider_that_was_moved(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer))
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 6)
    here = view.plane()
    # As the sliders do when they are touched.
    viewer.dims.last_used = 1
    assert view.slice_axis(here) == 1
    assert view.neighbours(here) == [here.moved(1, 5)]
    viewer.dims.last_used = 0
    assert view.neighbours(here) == [here.moved(0, 2), here.moved(0, 0)]


def test_the_first_slider_counts_once_it_was_moved(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer))
    here = view.plane()
    # napari says 0 of it before and after.
    assert viewer.dims.last_used == 0 and view.slice_axis(here) == 1
    viewer.dims.set_current_step(0, 2)
    assert viewer.dims.last_used == 0 and view.slice_axis(here) == 0
    viewer.dims.set_current_step(1, 5)
    assert view.slice_axis(here) == 1


def test_layers_that_come_and_go_are_no_use_of_a_slider(viewer: ViewerModel) -> None:
    layer = image_in(viewer)
    view = View(viewer, layer)
    viewer.add_image(np.zeros((9, 9, 20, 30)))
    viewer.layers.clear()
    viewer.layers.append(layer)
    assert view.slice_axis(view.plane()) == 1


def test_a_slider_of_a_larger_layer_moves_no_slice_of_this(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer))
    viewer.add_image(np.zeros((2, *SHAPE)))
    viewer.dims.last_used = 0
    assert view.slice_axis(view.plane()) == 1
    viewer.dims.last_used = 1
    assert view.slice_axis(view.plane()) == 0


def test_colours_are_no_slices(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer), colour_axis=1)
    viewer.dims.set_current_step(1, 6)
    assert view.slice_axis(view.plane()) == 0
    flat = viewer.add_image(np.zeros((20, 30)))
    assert View(viewer, flat).slice_axis(Plane((0, 1), (0, 0))) is None
    assert View(viewer, flat).neighbours(Plane((0, 1), (0, 0))) == []


def test_before_the_first_drawing_the_whole_plane_is_seen(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer))
    assert view.visible_box() == (0, 0, 30, 20) and view.visible_size() == 30


def test_what_the_canvas_shows_is_seen(viewer: ViewerModel) -> None:
    layer = image_in(viewer)
    view = View(viewer, layer)
    layer.corner_pixels = np.array([[0, 0, 4, 6], [0, 0, 9, 20]])
    assert view.visible_box() == (6, 4, 21, 10) and view.visible_size() == 15
    layer.corner_pixels = np.array([[0, 0, -4, 6], [0, 0, 90, 99]])
    assert view.visible_box() == (6, 0, 30, 20)


def test_what_the_canvas_shows_of_a_pyramid_is_told_in_full_resolution(viewer: ViewerModel) -> None:
    values = np.zeros((400, 600))
    layer = viewer.add_image([values, values[::2, ::2], values[::4, ::4]], multiscale=True)
    layer._data_level = 2
    layer.corner_pixels = np.array([[10, 20], [50, 75]])
    x0, y0, x1, y1 = View(viewer, layer).visible_box()
    assert (x0, y0) == (80, 40) and 300 <= x1 <= 305 and 200 <= y1 <= 205


def test_the_3d_view_shows_no_plane(viewer: ViewerModel) -> None:
    view = View(viewer, image_in(viewer))
    viewer.dims.ndisplay = 3
    for request in (view.plane, view.visible_box, view.visible_size):
        with pytest.raises(UserError, match="2D view"):
            request()
