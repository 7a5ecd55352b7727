"""Files named *.samlet.tif: a labels layer with the prompts that made its objects, and classes.

The file is an ordinary TIFF of labels. Its ImageDescription is JSON:
`{"samlet": {"version": 1, "name": "cells", "scale": [2.0, 1.0, 1.0], ..., "objects": {...}}}` with
the layer's name and placement, and the keys of the layer's `metadata["samlet"]` beside them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from napari.layers import Labels

from samlet.datasets.label_map_classes import parse_classes
from samlet.errors import UserError
from samlet.utils.files import atomic_path
from samlet_napari.labels.object_classes import class_columns

SUFFIX = ".samlet.tif"

LayerData = tuple[Any, dict[str, Any], str]

_VERSION = 1
_NUMBERS = ("scale", "translate", "rotate", "shear", "affine")
_TEXTS = ("axis_labels", "units")


def write_labels(path: str | Path, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer, which `get_reader` reads back.

    Args:
        path: the file; it gets the suffix .samlet.tif where it has another or none.
        data: labels from 0, of 2 or more dimensions; of a multiscale layer the levels, of which the
            first is written.
        meta: as napari gives it; "metadata" may have "samlet", the prompts, a dict for JSON.

    Returns:
        The one path written.

    Raises:
        UserError: the labels do not fit 32 bits or are none, or no place to write.
    """
    path = _with_suffix(Path(path))
    labels = np.asarray(data[0] if isinstance(data, Sequence) else data)
    if labels.ndim < 2 or labels.size == 0 or labels.dtype.kind not in "bui":
        raise UserError(
            f"{path} cannot hold {labels.dtype} of shape {labels.shape}: "
            "save integers of two or more dimensions."
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > np.iinfo(np.uint32).max:
        raise UserError(
            f"{path} cannot hold labels from {lowest} to {highest}: number the objects from 1."
        )
    short = highest <= np.iinfo(np.uint16).max
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.astype(np.uint16 if short else np.uint32, copy=False),
            compression="zlib",
            photometric="minisblack",
            description=json.dumps({"samlet": _entry(meta)}),
            metadata=_axes(meta, labels.ndim),
        )
    return [str(path)]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of one *.samlet.tif; None for other names and for several paths."""
    if isinstance(path, list) or not str(path).lower().endswith(SUFFIX):
        return None
    return read_labels


def read_labels(path: str | Path) -> list[LayerData]:
    """Read a labels layer as `write_labels` wrote it.

    A TIFF of labels from elsewhere, or with a description that makes no sense, is a layer without
    prompts that lies where napari puts it.

    Raises:
        UserError: missing, damaged, or no labels.
    """
    path = Path(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            noted = json.loads(page.shaped_description or "{}").get("shape")
            if noted is None:
                labels = tiff.series[0].asarray()
            else:
                # Pages missing at the end are no error to tifffile's series, which would hold
                # only the first page.
                labels = tiff.asarray(key=range(len(tiff.pages))).reshape(noted)
            samples = page.samplesperpixel
            description = page.description
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: check its permissions.") from error
    # Decoders of damaged files raise nearly anything: OSError, zlib.error, struct.error, KeyError.
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}): it is damaged, cut short or unusual; "
            "copy it again, or save it again as uncompressed TIFF."
        ) from error
    if labels.ndim < 2 or labels.dtype.kind not in "bui" or samples != 1:
        raise UserError(
            f"{path} holds an image ({labels.dtype}, {samples} channels) and no labels: "
            "give it another name to open it as an image."
        )
    entry = _parse(description)
    meta = {"name": path.name[: -len(SUFFIX)], **_placement(entry, labels.ndim)}
    if isinstance(entry.get("name"), str):
        meta["name"] = entry["name"]
    objects = _objects(entry)
    known = parse_classes(objects.get("classes"))
    if known:
        meta["features"] = class_columns(known)
    return [(labels, {**meta, "metadata": {"samlet": objects} if objects else {}}, "labels")]


def _with_suffix(path: Path) -> Path:
    if path.name.lower().endswith(SUFFIX):
        return path
    if path.suffix.lower() in (".tif", ".tiff"):
        return path.with_suffix(SUFFIX)
    return path.with_name(path.name + SUFFIX)


def _axes(meta: dict[str, Any], dimensions: int) -> dict[str, str]:
    """What tells other programs which axes are time and depth, where the layer does."""
    axes = "".join(meta.get("axis_labels") or ()).upper()
    is_known = len(axes) == dimensions and axes.endswith("YX") and axes[:-2] in ("T", "Z", "TZ")
    return {"axes": axes} if is_known else {}


def _entry(meta: dict[str, Any]) -> dict[str, Any]:
    prompts = meta.get("metadata", {}).get("samlet", {})
    given = {key: meta[key] for key in (*_NUMBERS, *_TEXTS) if meta.get(key) is not None}
    placement: dict[str, Any] = {
        # The units are objects of pint, whose text napari understands.
        key: [str(text) for text in value] if key in _TEXTS else np.asarray(value).tolist()
        for key, value in given.items()
    }
    name = {"name": meta["name"]} if "name" in meta else {}
    return {**prompts, **placement, **name, "version": _VERSION}


def _parse(description: Any) -> dict[str, Any]:
    try:
        entry = json.loads(description)["samlet"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) and entry.get("version") == _VERSION else {}


def _placement(entry: dict[str, Any], dimensions: int) -> dict[str, Any]:
    """The transform of the layer in an entry; empty if napari would refuse it."""
    placement = {key: entry[key] for key in (*_NUMBERS, *_TEXTS) if key in entry}
    try:
        # A viewer fails over labels of axes that are no text, long after the layer is made.
        texts = all(isinstance(text, str) for text in entry.get("axis_labels", []))
        # Other than plain names, pint would calculate: 9**9**9 without end.
        if not texts or not all(unit.isidentifier() for unit in entry.get("units", [])):
            return {}
        if "affine" in placement:
            placement["affine"] = np.asarray(placement["affine"], dtype=float)
        layer = Labels(np.zeros((1,) * dimensions, dtype=np.uint8), **placement)
        # Mouse positions go this way; a placement without inverse fails.
        sound = np.isfinite(layer.world_to_data(np.ones(dimensions))).all()
    # napari and pint do not document what they raise for invalid values.
    except Exception:
        return {}
    return placement if sound else {}


def _objects(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry tells of the objects; empty without valid prompts or classes."""
    objects, classes = entry.get("objects"), entry.get("classes")
    has_prompts = isinstance(objects, dict) and all(isinstance(o, list) for o in objects.values())
    if not has_prompts and not isinstance(classes, dict):
        return {}
    left_out = {"version", "name", *_NUMBERS, *_TEXTS, *(() if has_prompts else ("objects",))}
    return {key: value for key, value in entry.items() if key not in left_out}
