"""Reading images, against files written by Pillow, tifffile, OpenCV and segment_anything."""

import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from segment_anything.utils.transforms import ResizeLongestSide

from samlet import images, samples
from samlet.errors import UserError

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (21, 34), dtype=np.uint8)
RGB8 = RNG.integers(0, 256, (21, 34, 3), dtype=np.uint8)
GREY16 = RNG.integers(0, 4096, (21, 34), dtype=np.uint16)
RGB16 = RNG.integers(0, 4096, (21, 34, 3), dtype=np.uint16)
CHANNELS16 = RNG.integers(0, 4096, (5, 21, 34), dtype=np.uint16)
FULL = (0.0, 100.0)


def grey(plane: np.ndarray) -> np.ndarray:
    return np.stack([plane] * 3, axis=2)


def stretched(values: np.ndarray) -> np.ndarray:
    """Scale minimum to 0 and maximum to 255."""
    values = values.astype(float)
    return np.rint((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp", "ppm", "jp2"])
def test_lossless_grey_and_rgb_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY8).save(path, lossless=True)
    assert np.array_equal(images.read(path), grey(GREY8))
    if suffix != "gif":
        Image.fromarray(RGB8).save(path, lossless=True)
        result = images.read(path)
        assert np.array_equal(result, RGB8)
        assert result.dtype == np.uint8 and result.flags.c_contiguous


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(RGB8).save(tmp_path / "a.jpg", format="PNG")
    tifffile.imwrite(tmp_path / "b.png", RGB8, photometric="rgb")
    assert np.array_equal(images.read(tmp_path / "a.jpg"), RGB8)
    assert np.array_equal(images.read(tmp_path / "b.png"), RGB8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB8).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(images.read(tmp_path / "a.jpg"), expected)
    assert expected.shape[:2] == ((34, 21) if orientation > 4 else (21, 34))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_left_as_stored(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.tif"
    for compression in ("raw", "tiff_lzw"):
        Image.fromarray(RGB8).save(path, tiffinfo={274: orientation}, compression=compression)
        assert np.array_equal(images.read(path), RGB8)
    palette = Image.fromarray(RGB8).convert("P")
    palette.save(path, tiffinfo={274: orientation}, compression="tiff_lzw")
    assert np.array_equal(images.read(path), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("png", "1"),
        ("png", "P"),
        ("tif", "1"),
        ("tif", "P"),
        ("tif", "CMYK"),
        ("tif", "YCbCr"),
        ("jpg", "CMYK"),
        ("jpg", "YCbCr"),
    ],
)
def test_other_colour_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB8).convert(mode).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(images.read(path), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha_is_dropped_and_transparent_pixels_are_black(tmp_path: Path, suffix: str) -> None:
    alpha = np.full(GREY8.shape, 128, np.uint8)
    alpha[:5] = 0
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.dstack([RGB8, alpha])).save(path)
    assert np.array_equal(images.read(path), RGB8 * (alpha > 0)[..., None])
    Image.fromarray(np.dstack([GREY8, alpha]), mode="LA").save(path)
    assert np.array_equal(images.read(path), grey(GREY8 * (alpha > 0)))
    # Alpha that hides everything was never meant to.
    Image.fromarray(np.dstack([RGB8, alpha * 0])).save(path)
    assert np.array_equal(images.read(path), RGB8)


def png16(values: np.ndarray, colour_type: int) -> bytes:
    """Encode a 16-bit PNG after the specification: no library here writes grey + alpha."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def test_sixteen_bit_png_keeps_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), GREY16)
    assert np.array_equal(images.read(path, percentiles=FULL), grey(stretched(GREY16)))
    cv2.imwrite(str(path), RGB16[..., ::-1])
    assert np.array_equal(images.read(path, percentiles=FULL), stretched(RGB16))
    opaque = np.full(GREY16.shape, 65535, np.uint16)
    cv2.imwrite(str(path), np.dstack([RGB16[..., ::-1], opaque]))
    assert np.array_equal(images.read(path, percentiles=FULL), stretched(RGB16))
    path.write_bytes(png16(np.dstack([GREY16, opaque]), 4))
    assert np.array_equal(images.read(path, percentiles=FULL), grey(stretched(GREY16)))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_dtypes(tmp_path: Path, dtype: str, compression: str | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY16.astype(dtype), compression=compression)
    result = images.read(tmp_path / "a.tif", percentiles=FULL)
    assert np.array_equal(result, grey(stretched(GREY16)))


def test_tiff_bool_and_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY8 > 99, photometric="minisblack")
    assert np.array_equal(images.read(tmp_path / "a.tif"), grey((GREY8 > 99) * np.uint8(255)))
    tifffile.imwrite(tmp_path / "b.tif", GREY8, photometric="miniswhite")
    assert np.array_equal(images.read(tmp_path / "b.tif"), grey(255 - GREY8))


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    Image.fromarray(RGB8).save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(images.read(tmp_path / "a.tif"), expected)
    Image.fromarray(GREY16).save(tmp_path / "b.tif", compression="tiff_lzw")
    result = images.read(tmp_path / "b.tif", percentiles=FULL)
    assert np.array_equal(result, grey(stretched(GREY16)))


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"ome": True, "metadata": {"axes": "CYX"}},
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "metadata": None},
        {"photometric": "minisblack", "planarconfig": "separate"},
    ],
)
def test_channels_first_tiff(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, CHANNELS16, **options)
    result = images.read(path, channels=[4, 0, 2], percentiles=FULL)
    assert np.array_equal(result, np.dstack([stretched(CHANNELS16[c]) for c in (4, 0, 2)]))
    with pytest.raises(UserError, match=r"a\.tif.*channels"):
        images.read(path)


@pytest.mark.parametrize("planar", ["contig", None])
def test_channels_last_tiff(tmp_path: Path, planar: str | None) -> None:
    last = np.moveaxis(CHANNELS16, 0, 2)
    tifffile.imwrite(tmp_path / "a.tif", last, photometric="minisblack", planarconfig=planar)
    result = images.read(tmp_path / "a.tif", channels=[1], percentiles=FULL)
    assert np.array_equal(result, grey(stretched(CHANNELS16[1])))


def test_two_and_three_named_channels_need_no_choice(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", CHANNELS16[:2], imagej=True, metadata={"axes": "CYX"})
    result = images.read(tmp_path / "a.tif", percentiles=FULL)
    expected = [stretched(CHANNELS16[0]), stretched(CHANNELS16[1]), np.zeros((21, 34), np.uint8)]
    assert np.array_equal(result, np.dstack(expected))
    bright = CHANNELS16[:3] * np.array([1, 5, 10], np.uint16)[:, None, None]
    tifffile.imwrite(tmp_path / "b.tif", bright, ome=True, metadata={"axes": "CYX"})
    result = images.read(tmp_path / "b.tif", percentiles=FULL)
    assert np.array_equal(result, np.dstack([stretched(plane) for plane in bright]))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff_is_scaled_jointly(tmp_path: Path, planar: str) -> None:
    stored = RGB16 if planar == "contig" else np.moveaxis(RGB16, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    assert np.array_equal(images.read(tmp_path / "a.tif", percentiles=FULL), stretched(RGB16))


def test_stacks_are_refused(tmp_path: Path) -> None:
    for axes in ("ZYX", "TYX"):
        tifffile.imwrite(tmp_path / "a.tif", CHANNELS16, imagej=True, metadata={"axes": axes})
        with pytest.raises(
            UserError, match=r"a\.tif is a stack .* by its path, such as a\.tif\.[zt]0"
        ):
            images.read(tmp_path / "a.tif", channels=[0])
    tifffile.imwrite(tmp_path / "b.tif", CHANNELS16[:3], photometric="minisblack", metadata=None)
    with pytest.raises(UserError, match=r"b\.tif holds 3 pages"):
        images.read(tmp_path / "b.tif")


def test_percentiles_clip_outliers() -> None:
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    hot = values.copy()
    hot[0, 0] = 65535
    plain, outlier = images.to_rgb(values), images.to_rgb(hot)
    assert outlier[0, 0, 0] == 255
    assert np.abs(plain.astype(int) - outlier)[0, 1:].max() <= 1
    low, high = np.percentile(values, (10, 60))
    expected = np.clip(np.rint((values - low) / (high - low) * 255), 0, 255)
    assert np.array_equal(images.to_rgb(values, percentiles=(10, 60))[..., 0], expected)


def test_missing_and_constant_values() -> None:
    values = np.linspace(-3, 5, 700, dtype=np.float32).reshape(20, 35)
    holes = values.copy()
    holes[3, 3], holes[3, 4], holes[3, 5] = np.nan, np.inf, -np.inf
    with np.errstate(all="raise"):
        result = images.to_rgb(holes, percentiles=FULL)
        assert result[3, 3:6].max() == 0
        seen = np.isfinite(holes)
        assert np.array_equal(result[seen], grey(stretched(values))[seen])
        for constant in (0, 7, np.nan, np.inf, 1e300):
            assert images.to_rgb(np.full((4, 5), constant)).max() == 0
        offset = np.array([[2**31 - 3, 2**31 - 1]], np.uint32)
        assert images.to_rgb(offset, percentiles=FULL)[0, :, 0].tolist() == [0, 255]


def test_few_bright_spots_stay_visible() -> None:
    spots = np.zeros((200, 200), np.uint16)
    spots[50, 60] = 900
    assert images.to_rgb(spots)[50, 60].tolist() == [255] * 3
    assert images.to_rgb(spots).sum() == 255 * 3


def test_to_rgb_channels() -> None:
    last = np.moveaxis(CHANNELS16, 0, 2)
    assert images.to_rgb(last, channels=[1, 3])[..., 2].max() == 0
    stack8 = last.astype(np.uint8)
    assert np.array_equal(images.to_rgb(stack8, channels=(4, 1, 1)), stack8[..., [4, 1, 1]])
    assert np.array_equal(images.to_rgb(GREY8[..., None]), grey(GREY8))
    rgba = np.dstack([RGB16, np.full(GREY16.shape, 65535, np.uint16)])
    assert np.array_equal(images.to_rgb(rgba), images.to_rgb(RGB16))
    assert np.array_equal(images.to_rgb(RGB8), RGB8)


@pytest.mark.parametrize(
    ("array", "options", "sentence"),
    [
        (np.zeros((4, 5, 7)), {}, "7 channels: choose"),
        (np.zeros((4, 5, 3)), {"channels": [3]}, "counted from 0"),
        (np.zeros((4, 5, 3)), {"channels": [-1]}, "counted from 0"),
        (np.zeros((4, 5, 3)), {"channels": []}, "choose 1 to 3"),
        (np.zeros((4, 5, 9)), {"channels": [0, 1, 2, 3]}, "choose 1 to 3"),
        (np.zeros(5), {}, "H x W"),
        (np.zeros((2, 3, 4, 5)), {}, "H x W"),
        (np.zeros((0, 5)), {}, "not empty"),
        (np.zeros((4, 5), complex), {}, "real numbers"),
        (np.zeros((4, 5)), {"percentiles": (90, 10)}, "percentiles"),
        (np.zeros((4, 5)), {"percentiles": (0, 101)}, "percentiles"),
    ],
)
def test_bad_arrays(array: np.ndarray, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        images.to_rgb(array, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "PNG"},
        {"format": "JPEG"},
        {"format": "BMP"},
        {"format": "GIF"},
        {"format": "WEBP"},
        {"format": "TIFF"},
        {"format": "TIFF", "compression": "tiff_adobe_deflate"},
        {"format": "TIFF", "compression": "tiff_lzw"},
    ],
)
@pytest.mark.parametrize("part", [0.4, 0.95])
def test_truncated_files(tmp_path: Path, options: dict, part: float) -> None:
    path = tmp_path / "cut.img"
    Image.fromarray(np.tile(RGB8, (4, 4, 1))).save(path, **options)
    images.read(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(UserError, match=r"cut\.img cannot be decoded"):
        images.read(path)


def test_truncated_scientific_tiff(tmp_path: Path) -> None:
    for options in ({"rowsperstrip": 4}, {"tile": (16, 16)}, {"compression": "zlib"}):
        tifffile.imwrite(tmp_path / "a.tif", GREY16, **options)
        data = (tmp_path / "a.tif").read_bytes()
        for length in (4, 8, 60, len(data) - 20):
            (tmp_path / "a.tif").write_bytes(data[:length])
            with pytest.raises(UserError, match=r"a\.tif cannot be decoded"):
                images.read(tmp_path / "a.tif")


def test_not_images(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello, world, this is not an image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("text.png", "empty.jpg", "program.eps"):
        with pytest.raises(UserError, match=rf"{name} is not an image that samlet reads"):
            images.read(tmp_path / name)
    for suffix in ("czi", "nd2", "lif"):
        (tmp_path / f"empty.{suffix}").touch()
        told = rf"empty\.{suffix} does not begin as a {suffix.upper()} file does: copy it again"
        with pytest.raises(UserError, match=told):
            images.read(tmp_path / f"empty.{suffix}")
    with pytest.raises(UserError, match=r"none\.png does not exist"):
        images.read(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        images.read(tmp_path)
    (tmp_path / "flat.png").write_bytes(png16(np.zeros((0, 5), np.uint16), 0))
    with pytest.raises(UserError, match=r"flat\.png (is empty|cannot be decoded)"):
        images.read(tmp_path / "flat.png")


def test_unread_compression_names_the_remedy(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), RGB16, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    try:
        result = images.read(tmp_path / "a.tif", percentiles=FULL)
    except UserError as error:
        assert "pip install imagecodecs" in str(error)
    else:  # imagecodecs is installed
        assert np.array_equal(result, stretched(RGB16[..., ::-1]))


def test_declared_size_is_checked_before_decoding(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    bomb = png16(np.zeros((1, 1), np.uint16), 0)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    ihdr = b"IHDR" + header
    bomb = bomb[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + bomb[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(UserError, match=r"bomb\.png declares 60000 x 60000.*--max-pixels"):
        images.read(tmp_path / "bomb.png")
    for name in ("a.png", "a.tif", "a.jpg"):
        Image.fromarray(RGB8).save(tmp_path / name)
        assert images.read(tmp_path / name, max_pixels=21 * 34).shape == (21, 34, 3)
        with pytest.raises(UserError, match="max_pixels="):
            images.read(tmp_path / name, max_pixels=21 * 34 - 1)
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((40, 21, 34), np.uint8), imagej=True)
    with pytest.raises(UserError, match="limit of 714"):
        images.read(tmp_path / "deep.tif", max_pixels=21 * 34)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_raising_the_limit_passes_pillows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.png", "a.bmp", "a.jpg"):
        Image.fromarray(RGB8).save(tmp_path / name)
        with pytest.raises(Image.DecompressionBombError):
            Image.open(tmp_path / name)
        assert images.read(tmp_path / name).shape == RGB8.shape


def test_reading_in_threads(tmp_path: Path) -> None:
    Image.fromarray(RGB8).save(tmp_path / "a.png")
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(images.read(tmp_path / "a.png")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(np.array_equal(result, RGB8) for result in results)


def test_find(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tif", "sub/c.jpeg", "sub/.d.png", ".cache/e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = images.find(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.tif", "b.PNG", "sub/c.jpeg"]
    with pytest.raises(UserError, match="no image"):
        images.find(tmp_path / "folder.png")
    with pytest.raises(UserError, match="not a folder"):
        images.find(tmp_path / "missing")


@pytest.mark.parametrize("size", [64, 256, 1024])
@pytest.mark.parametrize(
    "shape", [(1, 500), (500, 1), (37, 500), (64, 64), (255, 257), (13, 7), (333, 1024), (700, 701)]
)
def test_resize_equals_segment_anything(shape: tuple[int, int], size: int) -> None:
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected_shape = ResizeLongestSide.get_preprocess_shape(*shape, size)
    if 0 in expected_shape:
        # Where segment_anything rounds to nothing and fails, one row is left.
        assert min(images.resize_longest(image, size).shape[:2]) == 1
        return
    assert images.resized_shape(*shape, size) == expected_shape
    result = images.resize_longest(image, size)
    assert np.array_equal(result, ResizeLongestSide(size).apply_image(image))
    assert max(result.shape[:2]) == size and result.flags.writeable


def test_avif(tmp_path: Path) -> None:
    """As web pages have them; the format loses a little."""
    picture = images.read(samples.IMAGES / "stained_1.png")
    Image.fromarray(picture).save(tmp_path / "a.avif", quality=95)
    assert np.abs(images.read(tmp_path / "a.avif").astype(int) - picture).mean() < 4


def test_16_bit_pgm_and_jpeg_2000(tmp_path: Path) -> None:
    for name in ("a.pgm", "a.jp2"):
        Image.fromarray(GREY16).save(tmp_path / name)
        assert np.array_equal(
            images.read(tmp_path / name, percentiles=FULL), grey(stretched(GREY16))
        )
