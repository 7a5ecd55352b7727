"""Training labels of several formats, in one form.

Objects may overlap (those of SA-1B nest), so labels are layers of label maps: int32, L x H x W,
L >= 1, 0 being background. Objects of one layer do not overlap, and every object has a number of
its own.
"""

from pathlib import Path

from samlet import images as image_reading
from samlet.errors import UserError
from samlet.labels import coco, json_files, label_maps, label_studio, sa1b
from samlet.labels.labelled import Labelled
from samlet.labels.layers import objects, pack

__all__ = ["Labelled", "find", "objects", "pack"]


def find(images: str | Path, labels: str | Path) -> list[Labelled]:
    """Find the images of a folder that have labels.

    Nested folders are searched as well. Which format it is shows in what is found:

    - folder of label maps, PNG or TIFF: the relative path without suffix is the image's. Read by
      `samlet.outputs.read_label_map`; the numbers are kept, in one layer.
    - folder of JSON files as in SA-1B, found likewise; it may be the folder of the images.
    - .json file, COCO instances: polygons, RLE or compressed RLE. file_name is relative to the
      folder of the images; iscrowd is left out; an image without annotations has no objects.
    - .json file, Label Studio's export "JSON": brush, polygons, rectangles and ellipses, of the
      newest annotation of a task that was not cancelled. Images are found by base name, with or
      without what Label Studio puts before it on upload.

    In all but label maps, objects are numbered from 1 as listed, shapes without any pixel left out.

    Args:
        images: the folder of the images.
        labels: the folder or file of the labels.

    Returns:
        The labelled images, sorted by path. Images without labels are left out, and so are labels
        without an image. `read_layers` checks sizes and shapes when called, not before.

    Raises:
        UserError: nothing fits, something fits twice, or a file is damaged or of another format.
    """
    images, labels = Path(images), Path(labels)
    paths = image_reading.find(images)
    if labels.is_dir():
        found = _in_folder(images, paths, labels)
    elif labels.suffix.lower() == ".json":
        found = _in_file(images, paths, labels)
    else:
        raise UserError(f"{labels} is neither a folder of labels nor a .json file: check the path.")
    return sorted(found, key=lambda labelled: labelled.path)


def _in_folder(images: Path, paths: list[Path], labels: Path) -> list[Labelled]:
    maps, jsons = (module.find(images, paths, labels) for module in (label_maps, sa1b))
    if maps and jsons:
        raise UserError(
            f"{labels} holds label maps and JSON files that are named like images: "
            "keep the one kind to train on."
        )
    if not maps and not jsons:
        raise UserError(
            f"{labels} holds no label map (PNG or TIFF) and no SA-1B JSON with the name of an "
            f"image below {images}, such as {paths[0].relative_to(images).with_suffix('')}: name "
            "labels like their images, or give the .json file itself if it is COCO or Label Studio."
        )
    return maps or jsons


def _in_file(images: Path, paths: list[Path], labels: Path) -> list[Labelled]:
    content = json_files.read(labels)
    if isinstance(content, list):
        return label_studio.find(images, paths, labels, content)
    if isinstance(content, dict) and "images" in content:
        return coco.find(images, paths, labels, content)
    if isinstance(content, dict) and "image" in content:
        raise UserError(f"{labels} is the SA-1B JSON of one image: give its folder instead.")
    raise UserError(
        f'{labels} is neither COCO (an object with "images" and "annotations") nor a Label Studio '
        "export (a list of tasks): export it as one of the two."
    )
