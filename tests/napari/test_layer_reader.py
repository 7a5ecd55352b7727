"""Windows of planes as the model sees them, against what numpy makes of the same values."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from napari.layers import Image

from samlet.errors import UserError
from samlet.images import read, to_rgb
from samlet_napari.layers.layer_reader import MOST_READ, Channel, LayerSnapshot
from samlet_napari.layers.plane import Plane, plane_of

FLAT = Plane((0, 1), (0, 0))
NO_NUMBER = float("nan")


def noise(shape: tuple[int, ...], dtype: Any = np.uint16, most: int = 4000) -> np.ndarray:
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


def whole(picture: LayerSnapshot, plane: Plane = FLAT) -> np.ndarray:
    height, width = picture.size(plane)
    return picture.read(plane, (0, 0, width, height))


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values.astype(np.float64) - low).clip(0, high - low) * 255 / (high - low))


class Level:
    """An array that remembers how many pixels were read of it."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.read = 0

    def __getitem__(self, where: Any) -> np.ndarray:
        values = self._values[where]
        self.read += values.size
        return values


def pyramid(*levels: np.ndarray) -> tuple[LayerSnapshot, list[Level]]:
    counted = [Level(level) for level in levels]
    channel = Channel(tuple(counted), (0.0, 255.0), None)
    return LayerSnapshot((channel,), levels[0].shape, False), counted


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint8, 20, 90),
        (np.uint8, 0, 255),
        (np.uint16, 100, 3000),
        (np.int32, -50, 900),
        (np.uint32, 10, 200),
        (np.float32, 0.5, 3.25),
        (np.float64, 1000, 1003),
    ],
)
def test_grey_is_stretched_between_its_contrast_limits(dtype: Any, low: float, high: float) -> None:
    shares = np.random.default_rng(0).uniform(-0.2, 1.2, (30, 40))
    least, most = (0, np.iinfo(dtype).max) if np.dtype(dtype).kind == "u" else (-1e9, 1e9)
    values = (low + shares * (high - low)).clip(least, most).astype(dtype)
    picture = LayerSnapshot.of([Image(values, contrast_limits=(low, high))])
    pixels = whole(picture)
    assert pixels.dtype == np.uint8 and pixels.shape == (30, 40, 3)
    assert np.abs(pixels[..., 0] - stretched(values, low, high)).max() <= 1
    assert (pixels == pixels[..., :1]).all()
    assert len(np.unique(pixels)) > 20


def test_large_numbers_keep_their_differences() -> None:
    values = 2**30 + np.arange(256, dtype=np.int64).reshape(16, 16)
    layer = Image(values, contrast_limits=(2**30, 2**30 + 255))
    assert whole(LayerSnapshot.of([layer]))[..., 0].tolist() == (values - 2**30).tolist()


def test_what_is_no_number_is_black() -> None:
    values = np.array([[0.0, NO_NUMBER, 1.0], [np.inf, -np.inf, 0.5]])
    layer = Image(values, contrast_limits=(0, 1))
    assert whole(LayerSnapshot.of([layer]))[..., 0].tolist() == [[0, 0, 255], [255, 0, 128]]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32])
def test_percentiles_are_those_of_to_rgb(dtype: Any) -> None:
    values = noise((30, 40)).astype(dtype)
    picture = LayerSnapshot.of([Image(values)], as_shown=False)
    window = picture.read(FLAT, (5, 10, 25, 30))
    assert np.array_equal(window, to_rgb(values[10:30, 5:25]))


COLOURS = [
    (np.uint8, 255),
    (np.uint8, 60),
    (np.uint16, 4095),
    (np.uint16, 65535),
    (np.int16, 4095),
    (np.uint32, 4095),
    (np.float16, 1.0),
    (np.float32, 1.0),
    (np.float64, 4095.0),
    (bool, 1),
]


def coloured(dtype: Any, most: float, channels: int) -> np.ndarray:
    shares = np.random.default_rng(0).uniform(0.2, 0.6, (20, 30, channels))
    return (shares * most).astype(dtype) if dtype is not bool else shares > 0.4


@pytest.mark.parametrize(("dtype", "most"), COLOURS)
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_is_seen_as_napari_shows_it(dtype: Any, most: float, channels: int) -> None:
    values = coloured(dtype, most, channels)
    layer = Image(values, rgb=True)
    for limits in (tuple(layer.contrast_limits), (0.1 * most, 0.5 * most)):
        layer.contrast_limits = limits
        picture = LayerSnapshot.of([layer])
        assert picture.shape == (20, 30)
        pixels = picture.read(FLAT, (4, 3, 24, 13))
        window = values[3:13, 4:24].astype(float)
        expected = stretched(window[..., :3], *limits)
        if channels == 4:
            expected = np.where(window[..., 3:] > 0, expected, 0)
        assert pixels.dtype == np.uint8 and np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize(("dtype", "most"), COLOURS)
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_by_percentiles_is_that_of_the_command_line(
    dtype: Any, most: float, channels: int
) -> None:
    values = coloured(dtype, most, channels)
    picture = LayerSnapshot.of([Image(values, rgb=True)], as_shown=False)
    pixels = picture.read(FLAT, (4, 3, 24, 13))
    assert np.array_equal(pixels, to_rgb(values[3:13, 4:24]))


def test_12_bit_colour_is_as_bright_as_on_the_command_line(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(3200, 300, (60, 80, 3)).clip(0, 4095)
    values[:5] = 150
    values = values.astype(np.uint16)
    tifffile.imwrite(tmp_path / "12-bit.tif", values, photometric="rgb")
    expected = read(tmp_path / "12-bit.tif")
    arrays = (values, da.from_array(values, chunks=(20, 20, 3)), zarr.array(values))
    for layer in [Image(array, rgb=True) for array in arrays]:
        shown, scaled = (whole(LayerSnapshot.of([layer], as_shown=on)) for on in (True, False))
        assert np.array_equal(scaled, expected)
        assert abs(shown.mean() - expected.mean()) < 20


def test_what_is_fully_transparent_is_black() -> None:
    values = np.full((20, 30, 4), 200, np.uint8)
    values[:10, :, 3] = 0
    for as_shown in (True, False):
        pixels = whole(LayerSnapshot.of([Image(values, rgb=True)], as_shown=as_shown))
        assert not pixels[:10].any() and (pixels[10:] == 200).all()


def test_layers_are_added_up_in_the_colours_of_their_colormaps() -> None:
    red, green, grey = (noise((20, 30)) + shift for shift in (0, 5, 9))
    layers = [
        Image(red, colormap="red", contrast_limits=(0, 4000)),
        Image(green[::-1], colormap="green", contrast_limits=(1000, 2000)),
        Image(grey[:, ::-1], colormap="gray", contrast_limits=(0, 8000)),
    ]
    pixels = whole(LayerSnapshot.of(layers)).astype(int)
    third = stretched(grey[:, ::-1], 0, 8000)
    expected = [
        stretched(red, 0, 4000) + third,
        stretched(green[::-1], 1000, 2000) + third,
        third,
    ]
    assert np.abs(pixels - np.stack(expected, axis=2).clip(0, 255)).max() <= 3
    assert (pixels[..., 0] == 255).any() and (pixels[..., 2] < 255).all()


def test_a_layer_alone_is_grey_whatever_its_colormap() -> None:
    values = noise((20, 30), np.uint8, 256)
    layer = Image(values, colormap="magenta", contrast_limits=(0, 255))
    assert np.array_equal(whole(LayerSnapshot.of([layer])), to_rgb(values))


def test_a_pyramid_and_an_array_are_blended_in_register() -> None:
    values = np.zeros((64, 96), np.uint8)
    values[40:60, 70:90] = 200
    flat = Image(values, colormap="red", contrast_limits=(0, 255))
    steep = Image(
        [values, values[::2, ::2], values[::4, ::4]],
        multiscale=True,
        colormap="green",
        contrast_limits=(0, 255),
    )
    for layers in ([flat, steep], [steep, flat]):
        pixels = LayerSnapshot.of(layers).read(FLAT, (0, 0, 96, 64), detail=24)
        assert pixels.shape == (16, 24, 3)
        assert np.array_equal(pixels[..., 0], values[::4, ::4])
        assert np.array_equal(pixels[..., 0], pixels[..., 1])


@pytest.mark.parametrize("as_shown", [True, False])
@pytest.mark.parametrize(("axis", "count"), [(0, 1), (0, 2), (0, 3), (1, 5), (3, 3)])
def test_an_axis_of_colours(axis: int, count: int, as_shown: bool) -> None:
    colours = [noise((20, 30), np.uint8, 200) // (1 + n) for n in range(count)]
    # Another axis is that of a stack, and this is its second slice.
    values = np.stack([np.zeros((20, 30, count), np.uint8), np.stack(colours, axis=2)])
    values = np.moveaxis(values, 3, axis)
    rows, columns = [a for a in range(4) if a != axis][1:]
    index = [0, 0, 0, 0]
    index[1 if axis == 0 else 0] = 1
    layer = Image(values, rgb=False, contrast_limits=(0, 255))
    picture = LayerSnapshot.of([layer], as_shown=as_shown, colour_axis=axis)
    pixels = picture.read(Plane((rows, columns), tuple(index)), (3, 2, 13, 12))
    expected = np.zeros((10, 10, 3), np.uint8)
    for number, colour in enumerate(colours[:3]):
        expected[..., number] = colour[2:12, 3:13]
    if count == 1:
        expected[..., 1:] = expected[..., :1]
    assert np.array_equal(pixels, expected)


def test_the_coarsest_level_that_suffices_is_read() -> None:
    values = noise((512, 1024), np.uint8, 256)
    levels = [values[:: 2**n, :: 2**n] for n in range(4)]
    for box, detail, expected in [
        ((0, 0, 1024, 512), 256, 2),
        ((0, 0, 1024, 512), 257, 1),
        ((0, 0, 1024, 512), 10, 3),
        ((0, 0, 1024, 512), 2000, 0),
        ((256, 128, 512, 384), 128, 1),
        ((1000, 500, 1024, 512), 128, 0),
    ]:
        picture, counted = pyramid(*levels)
        pixels = picture.read(FLAT, box, detail)
        assert [level.read > 0 for level in counted] == [n == expected for n in range(4)]
        x0, y0, x1, y1 = (edge // 2**expected for edge in box)
        assert np.array_equal(pixels[..., 0], levels[expected][y0:y1, x0:x1])


def test_a_window_of_a_dask_array_reads_only_its_chunks() -> None:
    values = noise((4, 60, 80), np.uint8, 256)
    chunks = []

    def count(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        chunks.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(values, chunks=(1, 20, 20)).map_blocks(count, dtype=np.uint8)
    layer = Image(lazy, contrast_limits=(0, 255), cache=False)
    picture = LayerSnapshot.of([layer])
    chunks.clear()
    pixels = picture.read(Plane((1, 2), (2, 0, 0)), (25, 5, 55, 15))
    assert np.array_equal(pixels, to_rgb(values[2, 5:15, 25:55]))
    assert sorted(set(chunks)) == [(2, 0, 1), (2, 0, 2)]


def test_zarr_is_read_as_numpy_is() -> None:
    values = noise((3, 40, 50))
    array = zarr.create_array({}, shape=values.shape, chunks=(1, 16, 16), dtype=values.dtype)
    array[:] = values
    plane = Plane((2, 0), (0, 7, 0))
    box = (1, 5, 3, 45)
    of_zarr, of_numpy = (
        LayerSnapshot.of([Image(data, contrast_limits=(0, 4000))]).read(plane, box)
        for data in (array, values)
    )
    assert of_numpy.shape == (40, 2, 3) and np.array_equal(of_zarr, of_numpy)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (2, 0), (0, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("rgb", [False, True])
def test_planes_along_any_axes(axes: tuple[int, int], rgb: bool) -> None:
    values = noise((12, 14, 16, 3) if rgb else (12, 14, 16), np.uint8, 256)
    picture = LayerSnapshot.of([Image(values, rgb=rgb, contrast_limits=None if rgb else (0, 255))])
    ([across],) = [{0, 1, 2} - set(axes)]
    plane = Plane(axes, (0, 0, 0)).moved(across, 5)
    across_last = np.moveaxis(values, (*axes, across), (0, 1, 2))
    expected = to_rgb(across_last[2:11, 3:10, 5])
    assert np.array_equal(picture.read(plane, (3, 2, 10, 11)), expected)
    assert picture.size(plane) == across_last.shape[:2]


def test_a_stack_shrunk_along_its_slices_is_read_at_the_same_depth() -> None:
    values = np.zeros((9, 64, 64), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None]
    picture, _ = pyramid(values, values[::2, ::2, ::2])
    shown = [picture.read(Plane((1, 2), (z, 0, 0)), (0, 0, 64, 64), 32)[0, 0, 0] for z in range(9)]
    assert max(abs(int(value) - z) for z, value in enumerate(shown)) <= 1


@pytest.mark.parametrize("corner", [(0, 0), (90, 60), (50, 0), (0, 30), (99, 69)])
@pytest.mark.parametrize("detail", [10, 20, 1000])
def test_windows_at_the_border_hold_pixels(corner: tuple[int, int], detail: int) -> None:
    values = noise((70, 100), np.uint8, 255) + np.uint8(1)
    # Levels whose lengths were rounded down, as some programs do.
    picture, _ = pyramid(values, values[:69:2, :99:2][:34, :49], values[:68:4, :96:4])
    x0, y0 = corner
    box = (x0, y0, min(x0 + 40, 100), min(y0 + 40, 70))
    pixels = picture.read(FLAT, box, detail)
    assert pixels.size and pixels.all()
    assert pixels.shape[0] <= box[3] - y0 and pixels.shape[1] <= box[2] - x0


def test_every_nth_pixel_of_a_huge_window_is_read() -> None:
    values = da.arange(3 * MOST_READ, chunks=-1)[None, :].repeat(40, axis=0) % 256
    picture = LayerSnapshot.of(
        [Image(values.astype(np.uint8), contrast_limits=(0, 255), cache=False)]
    )
    pixels = picture.read(FLAT, (0, 0, 3 * MOST_READ, 40))
    assert pixels.shape == (14, MOST_READ, 3)
    assert pixels[0, :, 0].tolist() == (np.arange(0, 3 * MOST_READ, 3) % 256).tolist()
    assert picture.read(FLAT, (0, 0, MOST_READ, 40)).shape == (40, MOST_READ, 3)
    # Who asks for all of them gets them.
    assert picture.read(FLAT, (0, 0, 3 * MOST_READ, 40), 3 * MOST_READ).shape[1] == 3 * MOST_READ


def test_a_picture_does_not_follow_its_layer() -> None:
    layer = Image(noise((20, 30)), contrast_limits=(0, 4000))
    picture = LayerSnapshot.of([layer])
    before = whole(picture)
    layer.contrast_limits = (1000, 1100)
    assert np.array_equal(whole(picture), before)
    assert not np.array_equal(whole(LayerSnapshot.of([layer])), before)


def test_layers_of_other_shapes_are_not_blended() -> None:
    layers = [Image(noise((20, 30)), name="small"), Image(noise((20, 31)), name="large")]
    with pytest.raises(UserError, match="large is 20 x 31 and small is 20 x 30"):
        LayerSnapshot.of(layers)


def test_complex_numbers_are_refused() -> None:
    channel = Channel((np.zeros((8, 8), complex),), (0.0, 1.0), None)
    with pytest.raises(UserError, match="complex128"):
        LayerSnapshot((channel,), (8, 8), False).read(FLAT, (0, 0, 8, 8))


@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8), (9,)])
def test_images_without_pixels_are_refused(shape: tuple[int, ...]) -> None:
    class Layer:
        data, multiscale, rgb, name = np.zeros(shape), False, False, "nothing"

    with pytest.raises(UserError, match="choose an image with pixels"):
        # napari itself has no image layer of some of these shapes.
        LayerSnapshot.of([Layer()])


def shown_plane(viewer: ViewerModel, layer: Image) -> Plane:
    return plane_of(layer, viewer.dims.displayed, viewer.dims.point)


def test_the_plane_follows_sliders_and_order() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 5, 20, 30)))
    viewer.dims.current_step = (3, 2, 9, 9)
    assert shown_plane(viewer, layer) == Plane((2, 3), (3, 2, 0, 0))
    viewer.dims.order = (3, 0, 2, 1)
    assert shown_plane(viewer, layer) == Plane((2, 1), (3, 0, 0, 9))


@pytest.mark.parametrize(
    "transform",
    [
        {"scale": (2.5, 0.5, 0.5)},
        {"translate": (-7, 100, -30)},
        {"scale": (0.3, 1, 2), "translate": (11, 0, 5)},
        {"rotate": 30, "scale": (2, 1, 1)},
    ],
)
@pytest.mark.parametrize("number", [0, 3, 6])
def test_the_plane_of_a_transformed_layer_is_the_slice_that_napari_shows(
    transform: dict[str, Any], number: int
) -> None:
    viewer = ViewerModel()
    values = np.arange(7)[:, None, None] + np.zeros((7, 20, 30))
    layer = viewer.add_image(values, **transform)
    viewer.dims.set_point(0, layer.data_to_world((number, 0, 0))[0])
    assert shown_plane(viewer, layer) == Plane((1, 2), (number, 0, 0))
    assert layer._slice.image.raw.mean() == number


def test_a_layer_of_fewer_axes_than_the_viewer() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((6, 4, 20, 30)))
    layer = viewer.add_image(np.zeros((4, 20, 30)))
    viewer.dims.current_step = (5, 3, 0, 0)
    assert shown_plane(viewer, layer) == Plane((1, 2), (3, 0, 0))
    viewer.dims.order = (1, 3, 0, 2)
    with pytest.raises(UserError, match="has no axis 0"):
        shown_plane(viewer, layer)


def test_beyond_the_ends_of_a_stack_its_last_slices_count() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((20, 20, 30)))
    layer = viewer.add_image(np.zeros((5, 20, 30)), translate=(5, 0, 0))
    for step, expected in ((0, 0), (7, 2), (19, 4)):
        viewer.dims.set_current_step(0, step)
        assert shown_plane(viewer, layer).index == (expected, 0, 0)


def test_the_3d_view_is_refused() -> None:
    viewer = ViewerModel(ndisplay=3)
    layer = viewer.add_image(np.zeros((4, 20, 30)))
    with pytest.raises(UserError, match="2D view"):
        shown_plane(viewer, layer)
