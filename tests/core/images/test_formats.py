"""OME-Zarr, CZI, ND2 and LIF through the one door of all formats."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest
import tifffile
import zarr
from pylibCZIrw import czi

from samlet import images
from samlet.errors import UserError
from samlet.images import SliceChoice, SlicePath, slice_path
from samlet.images.decoding import decode
from tests.microscope_files import TCZYX, WRITERS, write_lif, write_nd2, write_zarr

RNG = np.random.default_rng(5)
SIZE = images.PixelSize(0.25, 0.5)


@pytest.mark.parametrize("name", WRITERS)
def test_every_plane_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, TCZYX)
    with images.open_image(path) as file:
        assert file.lengths == {"T": 2, "Z": 4} and file.series_count == 1
        # Of ND2 they are square.
        assert file.pixel_size == pytest.approx((0.5, 0.5) if name == "a.nd2" else SIZE)
        for t, z in np.ndindex(2, 4):
            decoded = file.decode({"T": t, "Z": z})
            assert decoded.kind == "channels"
            np.testing.assert_array_equal(decoded.values, np.moveaxis(TCZYX[t, :, z], 0, 2))
    # As RGB, all slices are scaled as one tall image of them.
    tall = np.moveaxis(TCZYX, 1, 4).reshape(-1, 30, 3)
    expected = images.to_rgb(tall, channels=(2, 0)).reshape(2, 4, 20, 30, 3)
    for t, z in ((0, 3), (1, 0)):
        slice_ = images.read(slice_path(path, t=t, z=z), channels=(2, 0))
        np.testing.assert_array_equal(slice_, expected[t, z])
    with images.open_stack(slice_path(path, t=1), channels=(2, 0)) as stack:
        assert stack.axis == "z"
        np.testing.assert_array_equal(list(stack), expected[1])
    with images.open_stack(slice_path(path, z=2), channels=(2, 0)) as stack:
        assert stack.axis == "time"
        np.testing.assert_array_equal(list(stack), expected[:, 2])


@pytest.mark.parametrize("name", WRITERS)
def test_mistakes_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, TCZYX)
    for wrong, reason in {
        f"{name}.t0.z4": r"has no slice z=4, counted from 0 \(axes .*\): choose another one",
        f"{name}.t2": "has no slice t=2",
        f"{name}.s1.t0.z0": "has no series 1: it has 1, counted from 0",
        f"{name}.t0": f"{name}.t0 is a stack .* by its path, such as {name}.t0.z0",
        f"b{name}.t0": f"b{name} does not exist",
    }.items():
        with pytest.raises(UserError, match=reason):
            images.read(tmp_path / wrong, channels=(0,))
    with pytest.raises(UserError, match="has no channel 3: choose 1 to 3 of its 3"):
        images.read(tmp_path / f"{name}.t0.z0", channels=(3,))
    with pytest.raises(UserError, match="more than the limit of 100: crop or tile it"):
        images.read(tmp_path / f"{name}.t0.z0", max_pixels=100)


def test_colours(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(rgb[..., ::-1])
    np.testing.assert_array_equal(images.read(tmp_path / "a.czi"), rgb)
    assert images.read_pixel_size(tmp_path / "a.czi") is None
    write_nd2(tmp_path / "a.nd2", rgb[np.newaxis, np.newaxis, np.newaxis])
    np.testing.assert_array_equal(images.read(tmp_path / "a.nd2"), rgb)


@pytest.mark.parametrize("compressed", [False, True])
def test_nd2_as_its_own_library_reads_it(tmp_path: Path, compressed: bool) -> None:
    """Positions, with rows that are padded where values are not compressed."""
    path = tmp_path / "a.nd2"
    values = TCZYX if compressed else TCZYX[..., :29]
    write_nd2(path, values, values[::-1], compressed=compressed)
    with nd2.ND2File(path) as file:
        expected = file.asarray()
        assert "".join(file.sizes) == "TPZCYX"
    assert images.list_series([path]) == [tmp_path / "a.nd2.s0", tmp_path / "a.nd2.s1"]
    for position in range(2):
        for t, z in np.ndindex(2, 4):
            plane = decode(slice_path(path, series=position, t=t, z=z)).values
            np.testing.assert_array_equal(np.moveaxis(plane, 2, 0), expected[t, position, z])
    np.testing.assert_array_equal(expected[0, 1], values[1].swapaxes(0, 1))


def test_series(tmp_path: Path) -> None:
    """Scenes, images of a project, fields of a plate, and what bioformats2raw writes."""
    first, second = TCZYX[:1, :1, :2], TCZYX[1:, :2, :, :10]
    write_lif(tmp_path / "a.lif", {"one": first, "two": second})
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for scene, plane in enumerate((first[0, 0, 0], second[0, 0, 0])):
            file.write(plane[..., None], location=(100 * scene, 0), scene=scene)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for values in (first, second):
            tiff.write(values, metadata={"axes": "TCZYX"}, photometric="minisblack")
    for name, places in {"raw.zarr": ("0", "1"), "plate.zarr": ("B/2/0", "B/3/0")}.items():
        root = zarr.open_group(tmp_path / name, mode="w")
        for place, values in zip(places, (first, second), strict=True):
            write_zarr(tmp_path / name / place, values)
        if name == "raw.zarr":
            root.attrs["ome"] = {"bioformats2raw.layout": 3}
        else:
            root.attrs["ome"] = {"plate": {"wells": [{"path": "B/2"}, {"path": "B/3"}]}}
            for well in ("B/2", "B/3"):
                group = zarr.open_group(tmp_path / name / well, mode="a")
                group.attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
    for name in ("a.lif", "a.czi", "a.ome.tif", "raw.zarr", "plate.zarr"):
        path = tmp_path / name
        z = None if name == "a.czi" else 0
        for series, values in ((None, first), (0, first), (1, second)):
            plane = decode(slice_path(path, series=series, z=z)).values
            np.testing.assert_array_equal(
                plane.reshape(*plane.shape[:2], -1)[..., 0], values[0, 0, 0]
            )
        notes: list[str] = []
        slices = images.list_slices([path], note=notes.append)
        assert len(slices) == (1 if name == "a.czi" else 2)
        assert "has 2 series, of which the first is read" in notes[0]
        every = images.list_slices([path], SliceChoice.parse(None, "all"))
        assert len(every) == (2 if name == "a.czi" else 6)
        assert all(SlicePath.parse(one).series in (0, 1) for one in every)
        both = [slice_path(path, series=number) for number in (0, 1)]
        assert images.list_series([path, tmp_path / "missing.tif"]) == [
            *both,
            tmp_path / "missing.tif",
        ]
        with pytest.raises(UserError, match="has no series 2: it has 2"):
            images.read(slice_path(path, series=2, z=z))


def test_folders_of_all_formats(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, write in WRITERS.items():
        write(tmp_path / ("" if name == "a.czi" else "b") / name, TCZYX)
    found = [path.relative_to(tmp_path).as_posix() for path in images.find(tmp_path)]
    assert found == ["a.czi", "b/a.lif", "b/a.nd2", "b/a.ome.tif", "b/a.zarr", "b/old.ome.zarr"]
    for name in ("a.czi.z3.labels.png", "a.czi.labels.tif", "b/a.zarr.t0.z1.overlay.png"):
        assert images.is_result(tmp_path / name)


def test_zarrs_that_are_none(tmp_path: Path) -> None:
    array: Any = TCZYX
    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "empty": (lambda path: path.mkdir(), "is no Zarr, as it has no metadata: copy it again"),
        "array": (lambda path: zarr.save_array(path, array), "cannot be read as OME-Zarr"),
        "plain": (lambda path: zarr.open_group(path, mode="w"), "but no image of OME-Zarr"),
        "angle": (
            lambda path: write_zarr(path, TCZYX, "aczyx"),
            r"axes that are not read \(axes \?C",
        ),
    }
    for name, (write, reason) in cases.items():
        path = tmp_path / f"{name}.zarr"
        write(path)
        with pytest.raises(UserError, match=reason):
            images.read(path)
    write_zarr(tmp_path / "half.zarr", TCZYX)
    (tmp_path / "half.zarr" / "0" / "zarr.json").unlink()
    with pytest.raises(UserError, match=r"cannot be read as OME-Zarr .* copy it again"):
        images.read(tmp_path / "half.zarr")
    write_zarr(tmp_path / "cut.zarr", TCZYX)
    (chunk,) = [path for path in (tmp_path / "cut.zarr" / "0" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(UserError, match=r"cut\.zarr cannot be decoded"):
        decode(tmp_path / "cut.zarr.t0.z0")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is a folder: give one image file"):
        images.read(tmp_path / "folder")


@pytest.mark.parametrize("name", ["a.czi", "a.lif", "a.nd2"])
def test_files_that_are_cut_short(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, TCZYX)
    content = (tmp_path / name).read_bytes()
    for size in (20, 200, len(content) // 2):
        (tmp_path / f"short{name}").write_bytes(content[:size])
        with pytest.raises(UserError, match=f"short{name} "):
            decode(tmp_path / f"short{name}.t1.z3")


def test_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"zarr": "a.zarr", "pylibCZIrw": "a.czi", "liffile": "a.lif", "nd2": "a.nd2"}
    for module, name in modules.items():
        WRITERS[name](tmp_path / name, TCZYX)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            patch.setitem(sys.modules, f"{module}.czi", None)
            with pytest.raises(UserError, match=r"not installed: get it with pip .*formats"):
                images.read(tmp_path / name)
