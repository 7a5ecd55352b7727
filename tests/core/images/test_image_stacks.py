"""Stacks in TIFF files as Fiji, OME tools, Pillow and tifffile write them, and in arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from samlet import images
from samlet.errors import UserError
from samlet.images.scaling import SAMPLED_VALUES
from tests.core.images.test_tiff import multi_file

RNG = np.random.default_rng(1)
GREY8 = RNG.integers(0, 256, (5, 40, 70), dtype=np.uint8)
GREY16 = RNG.integers(0, 60000, (5, 40, 70), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (5, 40, 70, 3), dtype=np.uint8)
RGBA8 = np.concatenate([RGB8, np.full_like(RGB8[..., :1], 255)], axis=-1)


def by_tifffile(axes: str = "", **options: Any) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, values: np.ndarray) -> None:
        metadata = {"metadata": {"axes": axes}} if axes else {}
        rgb = values.shape[-1] in (3, 4)
        kind = "rgb" if rgb else "minisblack"
        tifffile.imwrite(path, values, **({"photometric": kind} | metadata | options))

    return write


def by_pillow(path: Path, values: np.ndarray) -> None:
    first, *others = (Image.fromarray(slice_) for slice_ in values)
    first.save(path, save_all=True, append_images=others, compression="tiff_lzw")


STACKS: dict[str, tuple[Callable, np.ndarray, str, bool]] = {
    "tifffile, unnamed": (by_tifffile(), GREY8, "z", False),
    "tifffile, named": (by_tifffile("TYX", compression="zlib"), GREY8, "time", True),
    "tifffile, RGB": (by_tifffile(), RGB8, "z", False),
    "tifffile, RGBA": (by_tifffile(), RGBA8, "z", False),
    "tifffile, tiles": (by_tifffile("ZYX", tile=(16, 16)), GREY8, "z", True),
    "ImageJ, z": (by_tifffile("ZYX", imagej=True), GREY16, "z", True),
    "ImageJ, time": (by_tifffile("TYX", imagej=True), GREY16, "time", True),
    "ImageJ, RGB": (by_tifffile("TYXS", imagej=True), RGB8, "time", True),
    "Pillow": (by_pillow, GREY8, "z", False),
    "Pillow, RGB": (by_pillow, RGB8, "z", False),
    "OME": (by_tifffile("TYX", ome=True), GREY16, "time", True),
    "two rows": (by_tifffile("ZYX"), GREY8[:, :1, :2], "z", True),
    "float": (by_tifffile("ZYX"), GREY16.astype(np.float32), "z", True),
}


@pytest.mark.parametrize("kind", STACKS)
def test_slices_come_back(tmp_path: Path, kind: str) -> None:
    write, values, axis, is_known = STACKS[kind]
    path = tmp_path / ("a.ome.tif" if kind == "OME" else "a.tif")
    write(path, values)
    assert images.is_stack(path)
    with images.open_stack(path) as stack:
        slices = list(stack)
        # In any order, each by itself.
        np.testing.assert_array_equal(stack[3], slices[3])
    assert (stack.axis, stack.is_axis_known, len(stack)) == (axis, is_known, 5)
    # As an image of all slices beside each other is scaled.
    tall = values.reshape(-1, *values.shape[2:])
    np.testing.assert_array_equal(np.concatenate(slices), images.to_rgb(tall))
    assert slices[0].shape == (*values.shape[1:3], 3) and slices[0].dtype == np.uint8
    for other in ("z", "time"):
        with images.open_stack(path, axis=other) as stack:
            assert stack.axis == other and stack.is_axis_known


@pytest.mark.parametrize(
    ("writer", "axes"),
    # ImageJ has channels after slices.
    [
        (writer, axes)
        for writer in ("ImageJ", "OME", "tifffile")
        for axes in ("ZCYX", "TCYX", "CZYX")
        if (writer, axes) != ("ImageJ", "CZYX")
    ],
)
def test_channels_of_slices(tmp_path: Path, writer: str, axes: str) -> None:
    values = RNG.integers(0, 60000, (4, 5, 40, 70), dtype=np.uint16)
    path = tmp_path / ("a.ome.tif" if writer == "OME" else "a.tif")
    by_tifffile(axes, imagej=writer == "ImageJ")(path, values)
    last = np.moveaxis(values, axes.index("C"), 3)
    with images.open_stack(path, channels=(2, 0)) as stack:
        shown = np.concatenate(list(stack))
    expected = images.to_rgb(last.reshape(-1, 70, last.shape[-1]), channels=(2, 0))
    np.testing.assert_array_equal(shown, expected)
    with images.open_stack(path) as stack, pytest.raises(UserError, match="channels: choose one"):
        stack[0]


def test_a_dark_slice_stays_dark(tmp_path: Path) -> None:
    values = GREY16.copy()
    values[1] = RNG.integers(0, 40, values[1].shape)
    values[4] = 7
    by_tifffile("ZYX")(tmp_path / "a.tif", values)
    with images.open_stack(tmp_path / "a.tif") as stack:
        assert stack[1].max() <= 1 and stack[4].max() == 0 and stack[0].max() == 255
    np.testing.assert_array_equal(np.stack(list(images.ImageStack.from_array(values)))[1:2] > 1, 0)


def test_what_else_tiffs_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    by_tifffile("ZYX", photometric="miniswhite")(path, GREY8)
    with images.open_stack(path) as stack:
        np.testing.assert_array_equal(stack[2][..., 0], 255 - GREY8[2])
    missing = GREY16.copy()
    missing[:, :10] = 65535
    by_tifffile("ZYX", extratags=[(42113, 2, 0, "65535", True)])(path, missing)
    with images.open_stack(path) as stack:
        assert stack[0][:10].max() == 0 and stack[0][10:].max() == 255
    slices = multi_file(tmp_path, "Z", RNG.integers(0, 65536, (4, 40, 70), np.uint16), 2)
    with images.open_stack(slices[1]) as stack:
        assert len(stack) == 2 and stack.axis == "z"


def test_pages_that_may_be_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    by_tifffile()(path, GREY16)
    assert images.is_stack(path) and not images.is_stack(path, channels=(0, 1))
    assert images.read(path, channels=(0, 1)).shape == (40, 70, 3)
    # More pages than columns: channels last, as `images.read` has it.
    by_tifffile()(path, GREY16.transpose(2, 1, 0))
    assert not images.is_stack(path)
    with pytest.raises(UserError, match=r"choose up to three .* channels, or one with --slice"):
        images.read(path)
    with images.open_stack(path, axis="time") as stack:
        assert len(stack) == 70


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("YX", (40, 70)), ("CYX", (5, 40, 70)), ("ZYX", (1, 40, 70)), ("TZYX", (2, 3, 40, 70))],
)
def test_what_is_no_stack(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.tif"
    by_tifffile(axes)(path, np.zeros(shape, np.uint8))
    reason = "is no stack of several slices: read it as an image"
    if axes == "TZYX":
        reason = r"has slices along time and z: choose a time point or a depth, such as a\.tif\.t0"
    for axis in ("auto", "z"):
        assert not images.is_stack(path, axis=axis)
        with pytest.raises(UserError, match=reason):
            images.open_stack(path, axis=axis)


def test_other_formats_are_no_stacks(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(slice_) for slice_ in GREY8)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    assert not images.is_stack(tmp_path / "a.gif")
    assert images.read(tmp_path / "a.gif").shape == (40, 70, 3)


def test_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with pytest.raises(UserError, match="does not exist"):
        images.open_stack(path)
    by_tifffile("ZYX", compression="zlib")(path, GREY8)
    with pytest.raises(UserError, match="is z, time or auto, not 'depth'"):
        images.open_stack(path, axis="depth")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="more than the limit"):
        images.open_stack(path, max_pixels=1000)
    wrong = pytest.raises(UserError, match="no channel 1:")
    with images.open_stack(path, channels=[1]) as stack, wrong:
        stack[0]
    for number in (5, -1):
        with images.open_stack(path) as stack, pytest.raises(IndexError):
            stack[number]
    for size in (0, 5, 300, len(path.read_bytes()) // 2):
        (tmp_path / "short.tif").write_bytes(path.read_bytes()[:size])
        with (
            pytest.raises(UserError, match=r"short\.tif (cannot be decoded|is not an image)"),
            images.open_stack(tmp_path / "short.tif") as stack,
        ):
            list(stack)
    by_tifffile(volumetric=True, tile=(16, 16, 16))(path, GREY8)
    several = pytest.raises(UserError, match="several slices in one page: save it with a page for")
    with images.open_stack(path) as stack, several:
        stack[0]
    tifffile.imwrite(path, GREY8, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    palette = pytest.raises(UserError, match=r"colours of a kind that is not read \(PALETTE, 8")
    with images.open_stack(path, axis="z") as stack, palette:
        stack[0]
    for shape in ((0, 40, 70), (40, 70), (5, 0, 70)):
        with pytest.raises(UserError, match="of shape"):
            list(images.ImageStack.from_array(np.zeros(shape, np.uint8)))


def test_memory_is_that_of_a_slice(tmp_path: Path) -> None:
    """Also where percentiles are taken from a sample, since the stack is larger."""
    path, side, count = tmp_path / "a.tif", 1024, 40
    assert count * side**2 > 2 * SAMPLED_VALUES
    slice_ = RNG.integers(0, 1000, (side, side), dtype=np.uint16)
    tifffile.imwrite(
        path, (slice_ for _ in range(count)), shape=(count, side, side), dtype=np.uint16,
        photometric="minisblack", metadata={"axes": "ZYX"},
    )  # fmt: skip
    process = psutil.Process()
    before = process.memory_info().rss
    with images.open_stack(path) as stack:
        largest = max(process.memory_info().rss - before for _ in stack)
        shown = stack[0]
    assert largest < 200e6
    # A sample gives nearly the percentiles of all values.
    exact = images.to_rgb(slice_)
    assert np.abs(shown.astype(int) - exact).max() <= 1
