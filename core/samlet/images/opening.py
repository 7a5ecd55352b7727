"""Which reader a file needs, by its content."""

from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import IO

from samlet.errors import UserError
from samlet.images.formats.microscope_planes import CziPlanes, LifPlanes, Nd2Planes
from samlet.images.formats.pillow_files import PillowPlanes
from samlet.images.formats.planes import Planes, check_series
from samlet.images.formats.tiff_planes import TiffPlanes
from samlet.images.formats.zarr_planes import ZarrPlanes, is_zarr
from samlet.images.slice_paths import SlicePath

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CZI = b"ZISRAWFILE"
_LIF = b"\x70\0\0\0"
_ND2 = b"\xda\xce\xbe\x0a"
_JPEG2000 = b"\0\0\0\x0cjP  "


def open_planes(path: SlicePath, content: bytes | None, palette_indices: bool) -> Planes:
    """Open an image or a stack; see `samlet.images.decoding.decode` for arguments and errors."""
    file = path.file
    if content is None and file.is_dir():
        if not is_zarr(file):
            raise UserError(f"{file} is a folder: give one image file.")
        return ZarrPlanes(file, path.series)
    with ExitStack() as on_error:
        stream: IO[bytes] = on_error.enter_context(
            file.open("rb") if content is None else BytesIO(content)
        )
        start = stream.read(16)
        if start.startswith(_TIFF):
            planes: Planes = TiffPlanes(file, stream, path.series, palette_indices)
        elif content is None and (reader := _microscope_reader(file, start)) is not None:
            return reader(file, path.series)
        else:
            check_series(file, path.series, 1)
            planes = PillowPlanes(file, stream, palette_indices)
        on_error.pop_all()
        return planes


def _microscope_reader(
    file: Path, start: bytes
) -> type[CziPlanes] | type[LifPlanes] | type[Nd2Planes] | None:
    if start.startswith(_CZI):
        return CziPlanes
    # Before 2010, ND2 was JPEG 2000.
    if start.startswith(_ND2) or (start[:8] == _JPEG2000 and file.suffix.lower() == ".nd2"):
        return Nd2Planes
    return LifPlanes if start.startswith(_LIF) and start[8:9] == b"*" else None
