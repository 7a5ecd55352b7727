"""The files of microscopes, read by libraries of `samlet[formats]`: CZI, LIF and ND2."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from samlet.errors import UserError
from samlet.images.formats.decoded_image import DecodedImage
from samlet.images.formats.extras import import_reader
from samlet.images.formats.pixel_size import PixelSize
from samlet.images.formats.planes import ArrayPlanes, check_series, with_channels


@contextmanager
def _closed_on_error(file: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


class CziPlanes:
    """A scene in a Zeiss file; see `samlet.images.formats.planes.Planes`.

    Args:
        path: the file.
        series: the scene, counted from 0; None for the first.

    Raises:
        UserError: pylibCZIrw is not installed, or there is no such scene.
    """

    def __init__(self, path: Path, series: int | None) -> None:
        self._file = import_reader("pylibCZIrw.czi", path).CziReader(str(path))
        with _closed_on_error(self._file):
            scenes = self._file.scenes_bounding_rectangle_no_pyramid
            self.series_count = max(1, len(scenes))
            number = check_series(path, series, self.series_count)
            self._scene = sorted(scenes)[number] if scenes else None
            rectangle = (
                scenes[self._scene] if scenes else self._file.total_bounding_rectangle_no_pyramid
            )
            self._roi = tuple(rectangle)
            lengths = {
                axis: last - first
                for axis, (first, last) in self._file.total_bounding_box.items()
                if axis not in ("X", "Y")
            }
            self._channels = lengths["C"]
            self.axes = "".join(axis if axis in "TZC" else "?" for axis in lengths) + "YX"
            self.shape = (*lengths.values(), rectangle.h, rectangle.w)
            if any(kind.startswith("Bgr") for kind in self._file.pixel_types.values()):
                self.axes, self.shape = f"{self.axes}S", (*self.shape, 3)

    @cached_property
    def pixel_size(self) -> PixelSize | None:
        """See `Planes`."""
        root = ElementTree.fromstring(self._file.raw_metadata)
        sides = [
            root.findtext(f"./Metadata/Scaling/Items/Distance[@Id='{axis}']/Value") for axis in "YX"
        ]
        # In metres.
        return PixelSize.checked(*(float(side or 0) * 1e6 for side in sides))

    def decode(self, index: Mapping[str, int]) -> DecodedImage:
        """See `Planes`."""
        parts = []
        for channel in range(self._channels):
            place = {**index, "C": channel}
            values = self._file.read(roi=self._roi, plane=place, scene=self._scene)
            # Colours are blue, green and red.
            parts.append(values[..., ::-1])
        if len(parts) > 1:
            return DecodedImage(np.concatenate(parts, axis=-1), "channels")
        return DecodedImage(parts[0] if parts[0].shape[2] == 3 else parts[0][..., 0], "colour")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class LifPlanes(ArrayPlanes):
    """An image in a Leica file; see `samlet.images.formats.planes.Planes`.

    Args:
        path: the file.
        series: the image, counted from 0; None for the first.

    Raises:
        UserError: liffile is not installed, or there is no such image.
    """

    def __init__(self, path: Path, series: int | None) -> None:
        self._file = import_reader("liffile", path).LifFile(path)
        with _closed_on_error(self._file):
            images: Sequence[Any] = list(self._file.images)
            if not images:
                raise UserError(f"{path} holds no image: export it again.")
            image = images[check_series(path, series, len(images))]
            axes = _axes_in_lif(image.dims)
            array = image.asarray(out="memmap")
            super().__init__(axes, array, len(images), _size_in_lif(image.coords))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _axes_in_lif(dims: Sequence[str]) -> str:
    axes = "".join(axis if len(axis) == 1 else "?" for axis in dims)
    # A section across the layers has no rows, and a spectrum is one of channels.
    axes = axes if "Y" in axes else axes.replace("Z", "Y")
    return axes if "C" in axes else axes.replace("λ", "C").replace("Λ", "C")


def _size_in_lif(coords: Mapping[str, Any]) -> PixelSize | None:
    """From the positions of rows and columns in metres."""
    sides = []
    for axis in "YX":
        places = coords.get(axis, ())
        if len(places) < 2:
            return None
        sides.append(abs(places[-1] - places[0]) / (len(places) - 1) * 1e6)
    return PixelSize.checked(*sides)


class Nd2Planes:
    """A position in a Nikon file; see `samlet.images.formats.planes.Planes`.

    Args:
        path: the file.
        series: the position, counted from 0; None for the first.

    Raises:
        UserError: nd2 is not installed, or there is no such position.
    """

    def __init__(self, path: Path, series: int | None) -> None:
        self._file = import_reader("nd2", path).ND2File(path)
        with _closed_on_error(self._file):
            lengths = dict(self._file.sizes)
            self.series_count = lengths.pop("P", 1)
            self._position = check_series(path, series, self.series_count)
            self.axes = "".join(axis if len(axis) == 1 else "?" for axis in lengths)
            self.shape = tuple(lengths.values())
            # Axes of length 1 are not in a frame, not even Y and X.
            self._frame_axes = "".join(axis for axis in "CYXS" if lengths.get(axis, 1) > 1)
            self._frames = {
                tuple(place.get(axis, 0) for axis in "PTZ"): number
                for number, place in enumerate(self._file.loop_indices)
            }

    @cached_property
    def pixel_size(self) -> PixelSize | None:
        """See `Planes`."""
        with suppress(AttributeError, IndexError, TypeError):
            volume = self._file.metadata.channels[0].volume
            if all(volume.axesCalibrated[:2]):
                width, height = volume.axesCalibration[:2]
                return PixelSize.checked(height, width)
        return None

    def decode(self, index: Mapping[str, int]) -> DecodedImage:
        """See `Planes`."""
        number = self._frames[self._position, index.get("T", 0), index.get("Z", 0)]
        # A copy, since the file may be closed before the values are used.
        return with_channels(np.array(self._file.read_frame(number)), self._frame_axes)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
