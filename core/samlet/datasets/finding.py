"""Find the images of a folder that have labels, in any format that is supported."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from samlet import images as image_files
from samlet.datasets import imagej_rois, json_files, label_maps, unsupported, yolo
from samlet.datasets.coco import find_in_coco
from samlet.datasets.imagej_rois import find_imagej_rois
from samlet.datasets.label_maps import find_label_maps
from samlet.datasets.label_stacks import pair_slices
from samlet.datasets.label_studio.export import find_in_export
from samlet.datasets.labelled_images import LabelledImages, ReadLayers
from samlet.datasets.sa1b import find_sa1b_files
from samlet.datasets.yolo import find_yolo
from samlet.errors import UserError
from samlet.images import SliceChoice, SlicePath
from samlet.utils.messages import bullet_list
from samlet.utils.progress import print_status


def find_labelled_images(
    images: str | Path,
    labels: str | Path,
    results: Path | None = None,
    *,
    slices: SliceChoice | None = None,
    channels: Sequence[int] | None = None,
) -> LabelledImages:
    """Find the images of a folder that have labels.

    Nested folders are searched as well. Names are compared in one Unicode normal form. The format
    is recognised by the content:

    - A folder of label maps (PNG, TIFF, BMP or GIF). Each has the relative path of its image,
      without the suffix, optionally followed by "_masks" or the like (`samlet.datasets.pairing`).
      They are read by `samlet.outputs.read_label_map` into one layer, and keep their numbers. It
      may be the same folder as that of the images if the names differ. Label stacks are for all
      slices of a stack, and "stack.tif.z3.png" is for one of them.
    - A folder of JSON files as in SA-1B, with names as for label maps.
    - A folder of zips of ImageJ's ROIs, or of YOLO's segmentation text, with names as for label
      maps. They are read where there are neither label maps nor JSON files, zips first.
    - A .json file of COCO instances: polygons, RLE or compressed RLE. An image belongs to the
      file_name with which the end of its path has most in common
      (`samlet.datasets.label_studio.filenames`). Annotations with iscrowd are left out. An image
      without annotations has no objects.
    - A .json file in Label Studio's export format "JSON": brush, bitmask, polygon, rectangle and
      ellipse of the newest annotation of each task that was not cancelled. Images are found as for
      COCO, with or without the prefix that Label Studio adds to the names of uploaded files.

    In all formats but label maps, objects are numbered from 1 in the order of the file; shapes that
    cover no pixel are left out.

    Args:
        images: the folder of the images.
        labels: the folder or file of the labels.
        results: a folder of results, whose files do not count as images; see `samlet.images.find`.
        slices: of stacks; None for all of the first series of a file.
        channels: to show of all images, see `samlet.images.read`.

    Returns:
        the labelled images, images without labels, labels without an image, and faulty entries.
        Sizes and shapes are checked only when labels are read; `check_labels` (in
        `samlet.datasets.checking`) reads all of them.

    Raises:
        UserError: no image has labels, or a file is damaged or in a format that is not supported.
    """
    images, labels = Path(images), Path(labels)
    paths = image_files.list_slices(
        image_files.find(images, results), slices, channels=channels, note=print_status
    )
    if labels.is_dir():
        found = _in_folder(images, paths, labels)
    elif labels.suffix.lower() == ".json":
        found = _in_file(images, paths, labels)
    else:
        described = unsupported.describe_file([labels] if labels.exists() else [])
        raise UserError(
            f"{described}."
            if described
            else f"{labels} is neither a folder of labels nor a .json file: check the path."
        )
    labelled = {item.path for item in found}
    return replace(
        found,
        labelled=[
            replace(item, channels=channels) for item in sorted(found, key=lambda item: item.path)
        ],
        unlabelled=[path for path in found.unlabelled or paths if path not in labelled],
    )


def labels_of(image: Path, labels: Path) -> ReadLayers | None:
    """What reads the labels of one image.

    Args:
        image: the image.
        labels: its label map, its ROIs (.zip, .roi), its YOLO text; or a folder or file in which
            `find_labelled_images` finds it.

    Returns:
        None if there are labels, but none of this image.

    Raises:
        UserError: no image has labels, or the format is not supported.
    """
    own_files: dict[tuple[str, ...], Callable[..., np.ndarray]] = {
        label_maps.SUFFIXES: label_maps.read_layers,
        imagej_rois.SUFFIXES: imagej_rois.read_layers,
        (yolo.SUFFIX,): yolo.read_layers,
    }
    if SlicePath.parse(image).numbers and labels.suffix.lower() in label_maps.SUFFIXES:
        pairs = pair_slices(labels, [image])
        return partial(label_maps.read_layers, *pairs[0]) if pairs else None
    for suffixes, read_layers in own_files.items():
        if labels.is_file() and labels.suffix.lower() in suffixes:
            return partial(read_layers, image, labels)
    found = find_labelled_images(image.parent, labels)
    return next((item.read_layers for item in found if item.path == image), None)


def _in_folder(images: Path, paths: list[Path], labels: Path) -> LabelledImages:
    if labels.resolve() != images.resolve():
        # Label maps may be in a folder below that of the images.
        paths = [path for path in paths if not path.resolve().is_relative_to(labels.resolve())]
    maps, jsons = (find(images, paths, labels) for find in (find_label_maps, find_sa1b_files))
    if len(maps) and len(jsons):
        raise UserError(
            f"{labels} has both label maps and JSON files that are named like images: "
            "keep only the kind to train on."
        )
    if len(maps) or len(jsons):
        return maps if len(maps) else jsons
    rois, texts = (find(images, paths, labels) for find in (find_imagej_rois, find_yolo))
    if len(rois) or len(texts):
        return rois if len(rois) else texts
    if faults := [*maps.faults, *jsons.faults, *rois.faults, *texts.faults]:
        raise UserError(f"{labels} has no usable labels:{bullet_list(faults)}")
    if not paths:
        raise UserError(f"{images} has no images other than those in {labels}: check the paths.")
    own = {path.resolve() for path in paths}
    described = unsupported.describe_file(
        p for p in sorted(labels.rglob("*")) if p.resolve() not in own
    )
    single = labels / jsons.unmatched[0] if len(jsons.unmatched) else "the .json file"
    raise UserError(
        f"{labels} has no label map (PNG or TIFF), zip of ROIs, YOLO text or SA-1B JSON with the "
        f"name of an image in {images}, such as "
        f"{paths[0].relative_to(images).with_suffix('')}: name labels like their "
        f"images, or give the path of {single} itself if it is COCO or Label Studio."
        + (f" {described}." if described else "")
    )


def _in_file(images: Path, paths: list[Path], labels: Path) -> LabelledImages:
    content = json_files.read_json(labels)
    unsupported.refuse_json(content, labels)
    if isinstance(content, list):
        return find_in_export(images, paths, labels, content)
    if isinstance(content, dict) and "images" in content:
        return find_in_coco(images, paths, labels, content)
    if isinstance(content, dict) and "image" in content:
        raise UserError(f"{labels} is the SA-1B JSON of one image: give its folder instead.")
    raise UserError(
        f'{labels} is neither COCO (an object with "images" and "annotations") nor a Label Studio '
        "export (a list of tasks): export the labels as one of the two."
    )
