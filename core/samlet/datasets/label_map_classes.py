"""The classes of the objects of a label map, where samlet has written them.

They are beside the label maps of results, in NAME.coco.json, and within files of napari, named
*.samlet.tif: the ImageDescription is JSON, in which "samlet", "classes" has "given", a class by
the number of the object, as text, and "predicted", a class and its probability.
"""

import json
from pathlib import Path
from typing import Any

import tifffile

from samlet.datasets.labelled_images import ObjectClass, class_named
from samlet.images import SlicePath
from samlet.outputs.records import CLASS_PROBABILITY
from samlet.outputs.results import Results, results_beside

NAPARI_SUFFIX = ".samlet.tif"


def read_classes(label_map: Path) -> dict[int, ObjectClass]:
    """Read the classes of a label map's objects; those without one, or with a wrong one, left out.

    Args:
        label_map: its file.
    """
    return classes_with(label_map, results_beside(label_map))


def classes_with(label_map: Path, results: Results | None) -> dict[int, ObjectClass]:
    """The same, where the results that the label map is part of have been read.

    Args:
        label_map: its file.
        results: of `samlet.outputs.results.results_beside`.
    """
    file = SlicePath.parse(label_map).file
    if file.name.lower().endswith(NAPARI_SUFFIX):
        return parse_classes(_description(file))
    found = {
        number: class_named(record["category"], record.get(CLASS_PROBABILITY))
        for number, record in enumerate(results.records if results else (), start=1)
    }
    return {number: one for number, one in found.items() if one is not None}


def parse_classes(content: Any) -> dict[int, ObjectClass]:
    """Parse the "classes" of a *.samlet.tif, in which anything may be found."""
    found: dict[str, ObjectClass | None] = {}
    for key, pair in _mapping(content, "predicted").items():
        if isinstance(pair, list) and len(pair) == 2:
            found[key] = class_named(*pair)
    for key, name in _mapping(content, "given").items():
        found[key] = class_named(name) or found.get(key)
    return {
        int(key): one
        for key, one in found.items()
        if one is not None and key.isdecimal() and len(key) < 20 and int(key)
    }


def _mapping(content: Any, name: str) -> dict[str, Any]:
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, dict) else {}


def _description(path: Path) -> Any:
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            description = json.loads(getattr(page, "description", ""))
        return description["samlet"].get("classes")
    # The pixels are read by others, who explain what is wrong with a file.
    except Exception:
        return None
