"""TIFF files as microscopes, Fiji, GIS tools and the web write them; docs/images-and-masks.md."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from samlet import images, samples
from samlet.errors import UserError
from samlet.images.decoding import decode

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (40, 70), dtype=np.uint8)
RGB8 = RNG.integers(0, 256, (40, 70, 3), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (40, 70), dtype=np.uint16)
RGB16 = RNG.integers(0, 65536, (40, 70, 3), dtype=np.uint16)
GREY12 = GREY16 >> 4
STACK16 = RNG.integers(0, 65536, (3, 40, 70), dtype=np.uint16)
FLOAT = RNG.normal(size=(40, 70)).astype(np.float32)
TISSUE = images.read(samples.IMAGES / "stained_1.png")


def by_pillow(path: Path, values: np.ndarray, **options: Any) -> None:
    Image.fromarray(values).save(path, **options)


def by_opencv(path: Path, values: np.ndarray, compression: int, predictor: int = 1) -> None:
    stored = values[..., ::-1] if values.ndim == 3 else values
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    assert cv2.imwrite(str(path), stored, options)


def by_tifffile(path: Path, values: np.ndarray, **options: Any) -> None:
    kind = "rgb" if values.ndim == 3 and values.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(path, values, **({"photometric": kind} | options))


LZW, DEFLATE = 5, 32946
EXACT: dict[str, tuple[Callable[..., None], np.ndarray, dict]] = {
    "Pillow, LZW, 8 bit grey": (by_pillow, GREY8, {"compression": "tiff_lzw"}),
    "Pillow, LZW, 8 bit RGB": (by_pillow, RGB8, {"compression": "tiff_lzw"}),
    "Pillow, LZW, 16 bit grey": (by_pillow, GREY16, {"compression": "tiff_lzw"}),
    "Pillow, LZW, predictor, 16 bit": (
        by_pillow, GREY16, {"compression": "tiff_lzw", "tiffinfo": {317: 2}},
    ),
    "Pillow, deflate": (by_pillow, GREY16, {"compression": "tiff_adobe_deflate"}),
    "Pillow, PackBits": (by_pillow, RGB8, {"compression": "packbits"}),
    "Pillow, Zstandard": (by_pillow, RGB8, {"compression": "zstd"}),
    "Pillow, float": (by_pillow, FLOAT, {"compression": "tiff_lzw"}),
    "Pillow, BigTIFF": (by_pillow, RGB8, {"big_tiff": True}),
    "OpenCV, LZW, predictor, 16 bit RGB": (
        by_opencv, RGB16, {"compression": LZW, "predictor": 2},
    ),
    "OpenCV, deflate, 16 bit RGB": (by_opencv, RGB16, {"compression": DEFLATE}),
    "OpenCV, LZW, float": (by_opencv, FLOAT, {"compression": LZW}),
    "tifffile, LZW, planes apart, 16 bit RGB": (
        by_tifffile, np.moveaxis(RGB16, 2, 0),
        {"compression": "lzw", "planarconfig": "separate", "photometric": "rgb"},
    ),
    "tifffile, big endian, predictor": (
        by_tifffile, GREY16, {"byteorder": ">", "compression": "lzw", "predictor": True},
    ),
    "tifffile, 12 bits packed": (by_tifffile, GREY12, {"bitspersample": 12}),
    "tifffile, 1 bit": (by_tifffile, GREY8 > 99, {}),
    "tifffile, half precision": (by_tifffile, FLOAT.astype(np.float16), {}),
    "tifffile, tiles, floating-point predictor": (
        by_tifffile, FLOAT, {"tile": (16, 16), "compression": "zlib", "predictor": 3},
    ),
    "tifffile, JPEG 2000": (
        by_tifffile, GREY16, {"compression": "jpeg2000", "compressionargs": {"level": 0}},
    ),
    "ImageJ": (by_tifffile, GREY16, {"imagej": True}),
    "ImageJ, RGB": (by_tifffile, RGB8, {"imagej": True}),
}  # fmt: skip


@pytest.mark.parametrize("kind", EXACT)
def test_what_is_stored_comes_back(tmp_path: Path, kind: str) -> None:
    write, values, options = EXACT[kind]
    write(tmp_path / "a.tif", values, **options)
    expected = np.moveaxis(values, 0, 2) if options.get("planarconfig") else values
    stored = decode(tmp_path / "a.tif")
    assert stored.kind == "colour"
    np.testing.assert_array_equal(stored.values, expected)
    assert images.read(tmp_path / "a.tif").shape == (40, 70, 3)


@pytest.mark.parametrize("writer", ["Pillow", "tifffile", "tiled"])
def test_jpeg_in_tiff(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "a.tif"
    if writer == "Pillow":
        Image.fromarray(TISSUE).save(path, compression="jpeg", quality=95)
    else:
        tile = (32, 32) if writer == "tiled" else None
        options = {"compressionargs": {"level": 95}, "tile": tile}
        by_tifffile(path, TISSUE, compression="jpeg", **options)
    assert np.abs(images.read(path).astype(int) - TISSUE).mean() < 5


@pytest.mark.parametrize("layout", ["SubIFDs", "GDAL's overviews", "OME"])
def test_the_full_size_of_a_pyramid(tmp_path: Path, layout: str) -> None:
    path, half = tmp_path / "a.ome.tif", GREY16[::2, ::2]
    with tifffile.TiffWriter(path, ome=layout == "OME") as tiff:
        options: dict[str, Any] = {"tile": (16, 16), "compression": "lzw"}
        options["photometric"] = "minisblack"
        inside = layout != "GDAL's overviews"
        metadata = {"axes": "YX"} if layout == "OME" else None
        tiff.write(GREY16, subifds=1 if inside else 0, metadata=metadata, **options)
        tiff.write(half, subfiletype=1, metadata=None, **options)
    np.testing.assert_array_equal(decode(path).values, GREY16)


def test_pages_of_16_bit_lzw(tmp_path: Path) -> None:
    """As Pillow, ImageMagick and many cameras' programs write them."""
    path = tmp_path / "a.tif"
    first, *rest = map(Image.fromarray, STACK16)
    first.save(path, save_all=True, append_images=rest, compression="tiff_lzw")
    with pytest.raises(UserError, match="holds 3 pages and does not tell what they are"):
        images.read(path)
    for number, page in enumerate(STACK16):
        expected = images.to_rgb(page)
        np.testing.assert_array_equal(images.read(path, channels=[number]), expected)


@pytest.mark.parametrize("missing", [-9999.0, float("nan"), 65535])
def test_what_gdal_marks_as_missing(tmp_path: Path, missing: float) -> None:
    values = (GREY16 // 2).astype(np.uint16 if missing == 65535 else np.float32)
    gone = RNG.random(values.shape) < 0.2
    holed = np.where(gone, values.dtype.type(missing), values)
    tag = (42113, 2, 0, f"{missing:g}", True)
    by_tifffile(tmp_path / "a.tif", holed, extratags=[tag], metadata=None, tile=(16, 16))
    expected = images.to_rgb(np.where(gone, np.nan, values.astype(np.float32)))
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), expected)


def test_colours_that_are_not_read_name_the_remedy(tmp_path: Path) -> None:
    separated = RNG.integers(0, 65536, (40, 70, 4), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", separated, photometric="separated")
    with pytest.raises(UserError, match=r"a\.tif has colours .*SEPARATED, 16 bits.*as PNG"):
        images.read(tmp_path / "a.tif")


def multi_file(folder: Path, dimension: str, planes: np.ndarray, per_file: int) -> list[Path]:
    """An OME data set, each file of which names all of them, as Micro-Manager writes it."""
    count = len(planes)
    sizes = {axis: count if axis == dimension else 1 for axis in "CZT"}
    files = [f"{i}.ome.tif" for i in range(count // per_file)]
    ids = [f"urn:uuid:{uuid.uuid4()}" for _ in files]
    data = "".join(
        f'<TiffData IFD="{i % per_file}" First{dimension}="{i}" PlaneCount="1">'
        f'<UUID FileName="{files[i // per_file]}">{ids[i // per_file]}</UUID></TiffData>'
        for i in range(count)
    )
    channels = '<Channel ID="C" SamplesPerPixel="1"/>' * sizes["C"]
    for number, name in enumerate(files):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[number]}"><Image ID="I"><Pixels ID="P" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="70" SizeY="40" '
            + " ".join(f'Size{axis}="{size}"' for axis, size in sizes.items())
            + f">{channels}{data}</Pixels></Image></OME>"
        )
        with tifffile.TiffWriter(folder / name) as tiff:
            for plane in planes[number * per_file : (number + 1) * per_file]:
                tiff.write(plane, description=text, metadata=None, photometric="minisblack")
                text = ""
    return [folder / name for name in files]


@pytest.mark.parametrize("where", ["beside the others", "elsewhere", "alone", "renamed"])
@pytest.mark.parametrize("dimension", ["C", "Z"])
def test_one_file_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dimension: str, where: str
) -> None:
    """Its own pixels, whatever other files there are, and in whatever folder one is."""
    monkeypatch.chdir(tmp_path if where == "beside the others" else "/")
    for path, plane in zip(multi_file(tmp_path, dimension, STACK16[:2], 1), STACK16, strict=False):
        if where == "alone":
            (tmp_path / "alone").mkdir(exist_ok=True)
            path = path.rename(tmp_path / "alone" / path.name)
        elif where == "renamed":
            path = path.rename(tmp_path / f"copy of {path.name}")
        stored = decode(path)
        assert stored.kind == "colour"
        np.testing.assert_array_equal(stored.values, plane)
        if where == "alone":
            path.unlink()


def test_a_file_with_some_of_the_planes(tmp_path: Path) -> None:
    channels = multi_file(tmp_path, "C", RNG.integers(0, 65536, (4, 40, 70), np.uint16), 2)
    assert decode(channels[1]).values.shape == (40, 70, 2)
    assert images.read(channels[1], channels=[1]).shape == (40, 70, 3)
    slices = multi_file(tmp_path, "Z", RNG.integers(0, 65536, (4, 40, 70), np.uint16), 2)
    with pytest.raises(UserError, match=r"1\.ome\.tif is a stack \(axes ZYX, 2 x 40 x 70\)"):
        images.read(slices[1])
