"""OME-Zarr folders: images, those that bioformats2raw has written, and plates.

Sources: OME-NGFF 0.1 to 0.5, https://ngff.openmicroscopy.org.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.images.formats.extras import import_reader
from samlet.images.formats.pixel_size import PixelSize, micrometres
from samlet.images.formats.planes import ArrayPlanes, check_series

_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_ORDER = "tczyx"
"""The axes before they were named, in version 0.3."""


def is_zarr(folder: Path) -> bool:
    """Whether a folder is one image: a Zarr, or meant to be one by its name."""
    return folder.suffix.lower() == ".zarr" or any((folder / name).exists() for name in _METADATA)


class ZarrPlanes(ArrayPlanes):
    """An image in an OME-Zarr folder at full resolution; see `samlet.images.formats.planes.Planes`.

    Args:
        folder: the folder.
        series: counted from 0; None for the first.

    Raises:
        UserError: zarr is not installed, or the folder is none that is read.
    """

    def __init__(self, folder: Path, series: int | None) -> None:
        zarr = import_reader("zarr", folder)
        if not any((folder / name).exists() for name in _METADATA):
            raise UserError(f"{folder} is no Zarr, as it has no metadata: copy it again.")
        try:
            root = zarr.open_group(str(folder), mode="r")
            groups = _images(root)
            number = check_series(folder, series, max(1, len(groups)))
            group = root[groups[number]] if groups else root
            found = _metadata(group).get("multiscales")
            if not found:
                raise UserError(
                    f"{folder} is a Zarr, but no image of OME-Zarr: write it with its axes in "
                    '"multiscales", as ome-zarr-py and Fiji do.'
                )
            image = found[0]
            level = image["datasets"][0]
            array = group[level["path"]]
        except (KeyError, LookupError, TypeError, ValueError, OSError) as error:
            raise UserError(
                f"{folder} cannot be read as OME-Zarr ({error!r}): it is incomplete or unusual; "
                "copy it again, or save it as OME-TIFF."
            ) from error
        axes = _axes(image, len(array.shape))
        super().__init__(axes, array, max(1, len(groups)), _pixel_size(image, level, axes))


def _metadata(group: Any) -> Mapping[str, Any]:
    attributes: dict[str, Any] = group.attrs.asdict()
    return attributes.get("ome", attributes)


def _images(root: Any) -> Sequence[str]:
    """The paths of several images in a folder; none if it is one itself."""
    metadata = _metadata(root)
    if "plate" in metadata:
        wells = [well["path"] for well in metadata["plate"]["wells"]]
        return [
            f"{well}/{field['path']}"
            for well in wells
            for field in _metadata(root[well])["well"]["images"]
        ]
    if "bioformats2raw.layout" not in metadata:
        return []
    listed = _metadata(root["OME"]).get("series") if "OME" in root else None
    return listed or sorted((key for key in root.group_keys() if key.isdecimal()), key=int)


def _axes(image: Mapping[str, Any], count: int) -> str:
    named = image.get("axes", list(_ORDER))
    names = [axis["name"] if isinstance(axis, Mapping) else axis for axis in named]
    # Axes of other names are refused with those of all formats.
    letters = [name.upper() if name in _ORDER else "?" for name in map(str, names)]
    return "".join(letters) if len(letters) == count else "?" * count


def _pixel_size(image: Mapping[str, Any], level: Mapping[str, Any], axes: str) -> PixelSize | None:
    transformations = [
        *level.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    scales = [one["scale"] for one in transformations if one.get("type") == "scale"]
    sides = []
    for axis in "YX":
        place = axes.find(axis)
        named = image["axes"][place] if place >= 0 and "axes" in image else None
        unit = micrometres(named.get("unit")) if isinstance(named, Mapping) else None
        if unit is None or not scales:
            return None
        sides.append(unit * prod(scale[place] for scale in scales))
    return PixelSize.checked(*sides)
