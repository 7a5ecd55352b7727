"""Where the model looks: properties of windows, whatever the image and the prompts."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from samlet.everything.tiling import UNTILED_RATIO
from samlet_napari.inference.roi import FloatBox, Roi, choose_roi, with_context
from samlet_napari.layers.plane import Plane

SIDE = 512
FLAT = Plane((0, 1), (0, 0))

shares = st.floats(0, 1, allow_subnormal=False)
lengths = st.integers(1, 40_000)
sizes = st.tuples(lengths, lengths)
views = st.floats(1, 100_000, allow_subnormal=False)
extents = st.tuples(shares, shares, shares, shares)


def within(size: tuple[int, int], extent: FloatBox) -> FloatBox:
    """An extent in pixels from one in shares of the image."""
    height, width = size
    x0, x1 = sorted((extent[0] * width, extent[2] * width))
    y0, y1 = sorted((extent[1] * height, extent[3] * height))
    return x0, y0, x1, y1


def at(x: float, y: float) -> FloatBox:
    return x, y, x, y


def roi(size: tuple[int, int], extent: FloatBox, visible_size: float = SIDE) -> Roi:
    return choose_roi(FLAT, size, extent, visible_size, SIDE)


@given(sizes, extents, views)
def test_a_window_holds_its_prompts(
    size: tuple[int, int], extent: FloatBox, visible_size: float
) -> None:
    extent = within(size, extent)
    assert roi(size, extent, visible_size).contains(extent)


@given(sizes, extents, views)
def test_a_window_lies_in_the_image(
    size: tuple[int, int], extent: FloatBox, visible_size: float
) -> None:
    x0, y0, x1, y1 = roi(size, within(size, extent), visible_size).box
    assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]


@given(sizes, extents, views)
def test_a_window_is_no_smaller_than_the_models_input(
    size: tuple[int, int], extent: FloatBox, visible_size: float
) -> None:
    height, width = roi(size, within(size, extent), visible_size).size
    assert height >= min(SIDE, size[0]) and width >= min(SIDE, size[1])


@given(
    st.integers(1, int(UNTILED_RATIO * SIDE)), st.integers(1, int(UNTILED_RATIO * SIDE)), extents
)
def test_small_images_are_seen_whole(height: int, width: int, extent: FloatBox) -> None:
    size = (height, width)
    assert roi(size, within(size, extent), 1.0).box == (0, 0, width, height)


@given(sizes, extents, views, views)
def test_zooming_out_never_makes_a_window_smaller(
    size: tuple[int, int], extent: FloatBox, a: float, b: float
) -> None:
    extent = within(size, extent)
    near, far = (roi(size, extent, visible_size).size for visible_size in sorted((a, b)))
    assert near[0] <= far[0] and near[1] <= far[1]


@given(sizes, extents, views)
def test_a_window_is_not_much_larger_than_the_view_or_the_prompts_need(
    size: tuple[int, int], extent: FloatBox, visible_size: float
) -> None:
    assume(max(size) > UNTILED_RATIO * SIDE)
    x0, y0, x1, y1 = extent = within(size, extent)
    needed = max(SIDE, visible_size, 4 * (x1 - x0), 4 * (y1 - y0))
    assert max(roi(size, extent, visible_size).size) <= needed * (1 + 1e-9)


@given(sizes, shares, shares, views)
def test_a_point_has_a_quarter_of_the_window_around_it(
    size: tuple[int, int], x: float, y: float, visible_size: float
) -> None:
    point = within(size, at(x, y))
    found = roi(size, point, visible_size)
    x0, y0, x1, y1 = found.box
    quarter = max(found.size) / 4
    assert x0 == 0 or point[0] - x0 >= quarter - 1
    assert y0 == 0 or point[1] - y0 >= quarter - 1
    assert x1 == size[1] or x1 - point[0] >= quarter - 1
    assert y1 == size[0] or y1 - point[1] >= quarter - 1


@given(st.integers(0, 2**32))
def test_nearby_prompts_share_windows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    centre = generator.uniform(2000, 8000, 2)
    places = centre + generator.uniform(-SIDE / 4, SIDE / 4, (50, 2))
    found = {roi((10_000, 10_000), at(x, y)).box for x, y in places.tolist()}
    assert len(found) <= 4


def test_a_whole_image_clicked_all_over_needs_few_windows() -> None:
    places = np.random.default_rng(0).uniform(0, 4096, (500, 2)).tolist()
    found = {roi((4096, 4096), at(x, y)).box for x, y in places}
    assert len(found) <= (4096 // (SIDE // 2) - 1) ** 2


def test_zooming_in_shows_more_detail() -> None:
    seen = [max(roi((9000, 9000), at(4000, 4000), view).size) for view in (9000, 2100, 600, 9)]
    assert seen == [8192, 2048, 512, 512]


def test_at_the_borders_windows_are_as_large_as_elsewhere() -> None:
    assert roi((9000, 9001), at(8999, 8999)).box == (8489, 8488, 9001, 9000)
    assert roi((9000, 9001), at(3, 8900)).box == (0, 8488, 512, 9000)
    assert roi((700, 9000), at(8999, 3), 1024).box == (7976, 0, 9000, 700)


@given(sizes, extents)
def test_surroundings_hold_the_part_and_enough_around_it(
    size: tuple[int, int], extent: FloatBox
) -> None:
    x0, y0, x1, y1 = (round(edge) for edge in within(size, extent))
    box = with_context((x0, y0, x1, y1), size, SIDE)
    assert Roi(FLAT, box).contains((x0, y0, x1, y1))
    left, top, right, bottom = box
    assert left >= 0 and top >= 0 and right <= size[1] and bottom <= size[0]
    if max(size) <= UNTILED_RATIO * SIDE:
        assert box == (0, 0, size[1], size[0])
    else:
        assert right - left == max(x1 - x0, min(SIDE, size[1]))
        assert bottom - top == max(y1 - y0, min(SIDE, size[0]))
