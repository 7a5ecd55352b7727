"""Label formats that are not supported, and how to convert each to one that is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samlet.errors import UserError

_BY_SUFFIX = {
    "_seg.npy": "in Cellpose's own format: save masks as PNG or TIFF there (File menu, or "
    "--save_png)",
    ".npy": "an array: save it as a TIFF of integers with tifffile.imwrite",
    ".geojson": "GeoJSON, as QuPath writes it: export labelled images there (LabeledImageServer); "
    "samlet writes a label map beside its own GeoJSON",
    ".xml": "in the format of CVAT or Pascal VOC: export COCO there",
    ".csv": "a table: export COCO or label maps instead",
    ".txt": "a text: of YOLO's labels give the folder, where each is named like its image",
    ".yaml": "YOLO's description of a dataset: give the folder of the labels",
    ".zip": "an archive: unpack it; of zips of ImageJ's ROIs give the folder, where each is named "
    "like its image",
    ".roi": "a region of interest of ImageJ: give the folder, where each is named like its image",
    ".h5": "HDF5, as ilastik writes it: export TIFF there",
    ".jpg": "JPEG, which changes the numbers of objects: save label maps as PNG or TIFF",
    ".jpeg": "JPEG, which changes the numbers of objects: save label maps as PNG or TIFF",
}


def describe_file(paths: Iterable[Path]) -> str | None:
    """Describe the first file whose format is not supported, and how to convert it.

    Returns:
        a sentence without full stop, such as "a.txt is in the format of YOLO: export COCO there";
        None if there is no such file.
    """
    for path in paths:
        for suffix, description in _BY_SUFFIX.items():
            if path.name.lower().endswith(suffix):
                return f"{path} is {description}"
    return None


def refuse_json(content: Any, source: Path) -> None:
    """Refuse JSON of formats that are known but not supported.

    Raises:
        UserError: the content is in such a format.
    """
    description = _by_content(content)
    if description is not None:
        raise UserError(f"{source} is {description}.")


def _by_content(content: Any) -> str | None:
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Mapping):
        if "image_id" in first:
            return (
                "a list of COCO results, which has no images: give the path of the file that has "
                'both "images" and "annotations"'
            )
        if first.get("type") == "Feature":
            return _BY_SUFFIX[".geojson"]
    if not isinstance(content, Mapping):
        return None
    if content.get("type") in ("FeatureCollection", "Feature"):
        return _BY_SUFFIX[".geojson"]
    if "shapes" in content and ("imagePath" in content or "imageData" in content):
        return "in labelme's format: convert it to COCO with labelme's own labelme2coco.py"
    entries = [*content.get("_via_img_metadata", content).values()][:1]
    if entries and isinstance(entries[0], Mapping) and "regions" in entries[0]:
        return "in the format of the VGG Image Annotator: export the annotations as COCO there"
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, Mapping) and "segments_info" in first:
        return "in COCO's panoptic format: give the path of COCO instances instead"
    return None
