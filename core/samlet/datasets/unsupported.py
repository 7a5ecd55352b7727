"""Labels in formats that are not read, and how to get from there to one that is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samlet.errors import UserError

_BY_SUFFIX = {
    "_seg.npy": "Cellpose's own: save masks as PNG or TIFF there (File menu, or --save_png)",
    ".npy": "an array: save it as a TIFF of integers with tifffile.imwrite",
    ".geojson": "GeoJSON, as QuPath writes it: export labelled images there (LabeledImageServer); "
    "beside its own, samlet has a label map",
    ".xml": "of CVAT or Pascal VOC: export COCO there",
    ".csv": "a table: export COCO or label maps",
    ".txt": "of YOLO: export COCO there",
    ".yaml": "of YOLO: export COCO there",
    ".zip": "an archive: unpack it; regions of interest of ImageJ become a label map with "
    "ROI Manager > More > ROI map, or with LabelMap's plugins",
    ".roi": "a region of interest of ImageJ: make a label map of them in Fiji",
    ".h5": "HDF5, as ilastik writes it: export TIFF there",
    ".jpg": "JPEG, which changes numbers: save label maps as PNG or TIFF",
    ".jpeg": "JPEG, which changes numbers: save label maps as PNG or TIFF",
}


def describe_file(paths: Iterable[Path]) -> str | None:
    """What the first file of a format that is not read is, and what to do; None if there is none.

    Returns:
        no whole sentence: "a.txt is of YOLO: export COCO there".
    """
    for path in paths:
        for suffix, told in _BY_SUFFIX.items():
            if path.name.lower().endswith(suffix):
                return f"{path} is {told}"
    return None


def refuse_json(content: Any, source: Path) -> None:
    """Refuse JSON of another program that is known but not read.

    Raises:
        UserError: it is such.
    """
    told = _by_content(content)
    if told is not None:
        raise UserError(f"{source} is {told}.")


def _by_content(content: Any) -> str | None:
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Mapping):
        if "image_id" in first:
            return (
                "a list of COCO results, which lacks the images: give the file that has both "
                '"images" and "annotations"'
            )
        if first.get("type") == "Feature":
            return _BY_SUFFIX[".geojson"]
    if not isinstance(content, Mapping):
        return None
    if content.get("type") in ("FeatureCollection", "Feature"):
        return _BY_SUFFIX[".geojson"]
    if "shapes" in content and ("imagePath" in content or "imageData" in content):
        return "labelme's: convert it to COCO with labelme's own labelme2coco.py"
    entries = [*content.get("_via_img_metadata", content).values()][:1]
    if entries and isinstance(entries[0], Mapping) and "regions" in entries[0]:
        return "of the VGG Image Annotator: export the annotations as COCO there"
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, Mapping) and "segments_info" in first:
        return "COCO's panoptic format: give the instances"
    return None
