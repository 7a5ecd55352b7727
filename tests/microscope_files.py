"""Small files of microscopes, as their own libraries or the descriptions of the formats have them.

Arrays are t, c, z, y, x, and pixels 0.25 x 0.5 micrometres, in ND2 0.5 x 0.5.
"""

import struct
import zlib
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


def write_nd2(path: Path, *positions: np.ndarray, compressed: bool = False) -> None:
    """Positions of uint16, t, c, z, y, x, or of uint8 with red, green and blue as one channel.

    The chunks, and the places of the values in them, are those that the library `nd2` reads.
    """
    t, c, z, height, width = positions[0].shape[:5]
    is_rgb = positions[0].ndim == 6
    # Time, position, depth: each frame has its channels side by side.
    frames = np.stack(positions, axis=1)
    frames = frames.swapaxes(2, 3) if is_rgb else frames.transpose(0, 1, 3, 4, 5, 2)
    frames = frames.reshape(-1, height, width, 3 if is_rgb else c)
    bits = frames.itemsize * 8
    row = frames[0, 0].nbytes
    padding = -row % 4
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": row + padding,
        "uiHeight": height,
        "uiComp": frames.shape[-1],
        "uiBpcInMemory": bits,
        "uiBpcSignificant": bits,
        "uiSequenceCount": len(frames),
        "eCompression": 0 if compressed else 2,
    }
    plane = {"uiCompCount": 3 if is_rgb else 1, "pFluorescentProbe": {"m_uiColor": 0}}
    metadata = {
        "bCalibrated": True,
        "dCalibration": 0.5,
        "sPicturePlanes": {"uiCount": c, "sPlaneNew": {f"a{i}": plane for i in range(c)}},
    }
    points = [{"dPosX": 0.0, "dPosY": 0.0} for _ in positions]
    loops = {
        1: {"uiCount": t, "dStart": 0.0, "dPeriod": 1000.0, "dDuration": 0.0},
        2: {"uiCount": len(points), "Points": points},
        4: {"uiCount": z, "dZLow": 0.0, "dZHigh": float(z), "dZStep": 1.0},
    }
    experiment: dict[str, Any] = {}
    for kind, parameters in reversed(loops.items()):
        inner = {"ppNextLevelEx": [experiment]} if experiment else {}
        experiment = {"eType": kind, "uLoopPars": parameters, **inner}
    chunks = {
        "ImageAttributesLV!": _nd2_variant("SLxImageAttributes", attributes),
        "ImageMetadataSeqLV|0!": _nd2_variant("SLxPictureMetadata", metadata),
        "ImageMetadataLV!": _nd2_variant("SLxExperiment", experiment),
    }
    for number, frame in enumerate(frames):
        rows = np.pad(frame.reshape(height, -1).view(np.uint8), ((0, 0), (0, padding))).tobytes()
        seconds = struct.pack("<d", number)
        chunks[f"ImageDataSeq|{number}!"] = seconds + (zlib.compress(rows) if compressed else rows)
    content = _nd2_chunk("ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
    listed = b""
    for name, data in chunks.items():
        listed += name.encode() + struct.pack("<QQ", len(content), len(data))
        content += _nd2_chunk(name, data)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(content))
    path.write_bytes(content + _nd2_chunk("ND2 FILEMAP SIGNATURE NAME 0001!", listed + end))


def _nd2_chunk(name: str, data: bytes, name_length: int = 4072) -> bytes:
    """A chunk, of which the values of frames are looked for after 4072 bytes."""
    head = struct.pack("<IIQ", 0x0ABECEDA, name_length, len(data))
    return head + name.encode().ljust(name_length, b"\0") + data


def _nd2_variant(name: str, value: Any) -> bytes:
    """Nikon's binary form of JSON; in a list names are empty."""
    text = f"{name}\0".encode("utf-16-le")
    if not isinstance(value, (dict, list)):
        code, form = {bool: (1, "<B"), int: (3, "<I"), float: (6, "<d")}[type(value)]
        return bytes([code, len(text) // 2]) + text + struct.pack(form, value)
    named = value.items() if isinstance(value, dict) else [("", each) for each in value]
    items = [_nd2_variant(*item) for item in named]
    start = 2 + len(text) + 12
    places = [start + sum(map(len, items[:i])) for i in range(len(items))]
    head = struct.pack("<IQ", len(items), start + sum(map(len, items)))
    return (
        bytes([11, len(text) // 2]) + text + head + b"".join(items)
        + struct.pack(f"<{len(items)}Q", *places)
    )  # fmt: skip


def write_ome_tiff(path: Path, values: np.ndarray, axes: str = "tczyx") -> None:
    metadata: dict[str, Any] = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, values, ome=True, metadata=metadata, photometric="minisblack")


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "a.zarr": write_zarr,
    "old.ome.zarr": lambda path, values: write_zarr(path, values, version="0.4"),
    "a.czi": write_czi,
    "a.lif": lambda path, values: write_lif(path, {"one": values}),
    "a.nd2": write_nd2,
    "a.ome.tif": write_ome_tiff,
}
