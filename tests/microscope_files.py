"""Small files of microscopes, as their own libraries or the descriptions of the formats have them.

Arrays are t, c, z, y, x, and pixels 0.25 x 0.5 micrometres.
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from pylibCZIrw import czi

TCZYX = np.random.default_rng(5).integers(0, 60000, (2, 3, 4, 20, 30), dtype=np.uint16)


def write_zarr(folder: Path, values: np.ndarray, axes: str = "tczyx", version: str = "0.5") -> None:
    """An image as the specification has it, with a smaller second level."""
    group = zarr.open_group(folder, mode="w", zarr_format=2 if version < "0.5" else 3)
    levels = []
    for level in range(2):
        data = values[..., :: 2**level, :: 2**level]
        array = group.create_array(
            str(level), shape=data.shape, dtype=data.dtype, chunks=data.shape
        )
        array[...] = data
        scale = [1.0] * (len(axes) - 2) + [250.0 * 2**level, 500.0 * 2**level]
        levels.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"t": "time", "c": "channel"}
    listed = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in listed[-2:]:
        axis["unit"] = "nanometer"
    image: dict[str, Any] = {"axes": listed, "datasets": levels}
    if version < "0.5":
        group.attrs["multiscales"] = [image | {"version": version}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}


def write_czi(path: Path, values: np.ndarray, axes: str = "tczyx") -> None:
    with czi.create_czi(str(path)) as file:
        for place in np.ndindex(values.shape[:3]):
            plane = dict(zip(axes[:3].upper(), place, strict=True))
            file.write(values[place][..., None], plane=plane)
        file.write_metadata(scale_x=0.5e-6, scale_y=0.25e-6)


def write_lif(path: Path, stored: Mapping[str, np.ndarray]) -> None:
    """Images of uint16, t, z, c, y, x, as in Leica's description of version 2 of the format."""
    elements, blocks = "", b""
    for number, (name, unordered) in enumerate(stored.items()):
        values = np.ascontiguousarray(unordered.swapaxes(1, 2))
        t, z, c, height, width = values.shape
        channel = height * width * 2
        steps = {
            1: (width, 2),
            2: (height, width * 2),
            3: (z, channel * c),
            4: (t, channel * c * z),
        }
        metres = {1: (width - 1) * 0.5e-6, 2: (height - 1) * 0.25e-6}
        dimensions = "".join(
            f'<DimensionDescription DimID="{axis}" NumberOfElements="{count}" Origin="0" '
            f'Length="{metres.get(axis, count)}" Unit="m" BitInc="0" BytesInc="{step}"/>'
            for axis, (count, step) in steps.items()
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" BytesInc="{i * channel}" '
            'Resolution="16" NameOfMeasuredQuantity="" Min="0" Max="65535" Unit="" LUTName="Gray" '
            'IsLUTInverted="0" BitInc="0"/>'
            for i in range(c)
        )
        elements += (
            f'<Element Name="{name}" UniqueID="u{number}"><Data><Image><ImageDescription><Channels>'
            f"{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image>"
            f'</Data><Memory Size="{values.nbytes}" MemoryBlockID="M{number}"/></Element>'
        )
        block = f"M{number}".encode("utf-16-le")
        head = b"*" + struct.pack("<Q", values.nbytes) + b"*" + struct.pack("<I", len(block) // 2)
        size = len(head) + len(block)
        blocks += struct.pack("<II", 0x70, size) + head + block + values.tobytes()
    text = (
        f'<LMSDataContainerHeader Version="2"><Element Name="a" UniqueID="r"><Children>{elements}'
        "</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    header = b"*" + struct.pack("<I", len(text) // 2) + text
    path.write_bytes(struct.pack("<II", 0x70, len(header)) + header + blocks)


def write_ome_tiff(path: Path, values: np.ndarray, axes: str = "tczyx") -> None:
    metadata: dict[str, Any] = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, values, ome=True, metadata=metadata, photometric="minisblack")


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "a.zarr": write_zarr,
    "old.ome.zarr": lambda path, values: write_zarr(path, values, version="0.4"),
    "a.czi": write_czi,
    "a.lif": lambda path, values: write_lif(path, {"one": values}),
    "a.ome.tif": write_ome_tiff,
}
