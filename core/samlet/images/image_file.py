"""Image files, stacks and OME-Zarr folders: opened in one way, and read slice by slice."""

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path

from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS, DecodedImage, check_size
from samlet.images.formats.pixel_size import PixelSize
from samlet.images.formats.planes import Planes, without_single
from samlet.images.formats.read_errors import explain_read_errors
from samlet.images.opening import open_planes
from samlet.images.rgb import Limits
from samlet.images.scaling import joint_limits
from samlet.images.slice_paths import LETTERS, SlicePath
from samlet.utils.single_flight import SingleFlightCache

_UNKNOWN = "IQ"
"""Letters of pages of which the file does not tell what they are."""

_limits: SingleFlightCache[list[Limits] | None] = SingleFlightCache(256, lambda _: 1)


class ImageFile:
    """An image or a stack that is open.

    Args:
        path: of the file, and of the slices in it that are meant.
        planes: what reads it.
        max_pixels: see `samlet.images.read`.

    Attributes:
        path: see above.
        lengths: how many slices the file has along "T" and "Z"; none of an image.
        numbers: of the slices that are meant, along the same axes.
        has_unknown_pages: whether the slices, along "Z", may as well be channels.
        series_count: how many images or stacks the file has.

    Raises:
        UserError: there are no such slices, or the axes are not read, or planes are too large.
    """

    def __init__(self, path: SlicePath, planes: Planes, max_pixels: int) -> None:
        self.path = path
        self.series_count = planes.series_count
        self._planes = planes
        axes, shape = without_single(planes.axes, planes.shape)
        self._shape = f"axes {axes}, {' x '.join(map(str, shape))}"
        sizes = dict(zip(axes, shape, strict=True))
        unknown = "".join(axis for axis in axes if axis in _UNKNOWN)
        self.has_unknown_pages = len(unknown) == 1
        # tifffile labels any three unnamed dimensions so; the shorter one holds channels.
        self._looks_like_channels = axes == "QYX" and sizes["X"] < sizes["Q"]
        self._letters = {axis: axis for axis in LETTERS if axis in axes}
        if self.has_unknown_pages and not self._letters:
            self._letters = {"Z": unknown}
        is_known = len(sizes) == len(axes) and {*"YX"} <= {*sizes}
        if not is_known or not {*axes} <= {*"YXCS", *self._letters.values()}:
            raise UserError(
                f"{path.file} has axes that are not read ({self._shape}): save it as OME-TIFF, "
                "with no other axes than time, z and channels."
            )
        self.lengths = {axis: sizes[letter] for axis, letter in self._letters.items()}
        self.numbers = {
            axis: path.numbers.get(axis, range(count)) for axis, count in self.lengths.items()
        }
        for axis, numbers in path.numbers.items():
            if numbers[-1] >= self.lengths.get(axis, 1):
                raise UserError(
                    f"{path.file} has no slice {LETTERS[axis]}={numbers[-1]}, counted from 0 "
                    f"({self._shape}): choose another one."
                )
        values = prod(n for axis, n in sizes.items() if axis not in self._letters.values())
        check_size(path.file, sizes["Y"], sizes["X"], values, max_pixels)

    @property
    def pixel_size(self) -> PixelSize | None:
        """Height and width of a pixel; None if the file does not say it."""
        with explain_read_errors(self.path.file):
            return self._planes.pixel_size

    @property
    def holds_channels(self) -> bool:
        """Whether pages of unknown meaning are taken for channels, as no slice of them is named."""
        return self.has_unknown_pages and not self.path.numbers

    def slice_axes(self, channels: Sequence[int] | None, are_pages_slices: bool) -> list[str]:
        """The axes along which there are several of the slices that are meant.

        Args:
            channels: chosen by the user, for whom pages of unknown meaning are channels then.
            are_pages_slices: whether the user says that such pages are slices.
        """
        may_be_channels = channels is not None or self._looks_like_channels
        if self.holds_channels and may_be_channels and not are_pages_slices:
            return []
        return [axis for axis, numbers in self.numbers.items() if len(numbers) > 1]

    def decode(self, index: Mapping[str, int] | None = None) -> DecodedImage:
        """The values of a slice as they are stored.

        Args:
            index: of the slice along "T" and "Z"; None for the one that is meant. Of pages of
                unknown meaning all are read if none is.

        Raises:
            UserError: the file is damaged, or several slices are meant.
        """
        if index is None:
            index = {} if self.holds_channels else self._index()
        with explain_read_errors(self.path.file):
            return self._planes.decode({self._letters[axis]: n for axis, n in index.items()})

    def limits(
        self, channels: Sequence[int] | None, percentiles: tuple[float, float]
    ) -> list[Limits] | None:
        """What becomes black and full intensity in all slices; see `joint_limits`.

        Raises:
            UserError: the file is damaged, or its channels must be chosen.
        """
        places = list(product(*map(range, self.lengths.values())))

        def decode(number: int) -> DecodedImage:
            return self.decode(dict(zip(self.lengths, places[number], strict=True)))

        def find() -> list[Limits] | None:
            return joint_limits(decode, len(places), channels, percentiles, str(self.path.file))

        file = self.path.file
        with explain_read_errors(file):
            changed = file.stat().st_mtime_ns
        return _limits.get(
            f"{file.absolute()} {changed} {self.path.series} {channels} {percentiles}", find
        )

    def close(self) -> None:
        """Release the file."""
        self._planes.close()

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _index(self) -> dict[str, int]:
        if any(len(numbers) > 1 for numbers in self.numbers.values()):
            first = SlicePath(
                self.path.file,
                self.path.series,
                {axis: numbers[:1] for axis, numbers in self.numbers.items()},
            )
            raise UserError(
                f"{self.path.path} is a stack ({self._shape}): choose a slice with --slice, or by "
                f"its path, such as {first.path.name}."
            )
        return {axis: numbers[0] for axis, numbers in self.numbers.items()}


def open_image(
    path: str | Path,
    *,
    content: bytes | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    palette_indices: bool = False,
) -> ImageFile:
    """Open an image, a stack or an OME-Zarr folder.

    Args:
        path: of the file, or of slices in it; see `samlet.images.slice_path`.
        content: the file's bytes, if they are in memory; only PNG and the like, and TIFF.
        max_pixels: see `samlet.images.read`.
        palette_indices: see `samlet.images.decoding.decode`.

    Raises:
        UserError: missing, not an image, damaged, too large, or of a layout that is not read; or
            there is no such series or slice.
    """
    parsed = SlicePath.parse(path) if content is None else SlicePath(Path(path))
    with explain_read_errors(parsed.file):
        planes = open_planes(parsed, content, palette_indices)
        try:
            return ImageFile(parsed, planes, max_pixels)
        except BaseException:
            planes.close()
            raise


def read_pixel_size(path: str | Path) -> PixelSize | None:
    """Read the size of an image's pixels.

    Args:
        path: an image, a stack or an OME-Zarr folder. It is in the metadata of OME, ImageJ and the
            files of microscopes, or in the resolution tags of TIFF, which are left out where a
            pixel would be larger than 20 micrometres, since they are meant for printing then.

    Returns:
        the size, or None if the file does not say it.

    Raises:
        UserError: the file is missing or damaged.
    """
    with open_image(path, max_pixels=sys.maxsize) as file:
        return file.pixel_size
