"""Find the images of a folder that have labels, in whichever format the labels are."""

from dataclasses import replace
from pathlib import Path

from samlet import images as image_files
from samlet.datasets import json_files, unsupported
from samlet.datasets.coco import find_in_coco
from samlet.datasets.label_maps import find_label_maps
from samlet.datasets.label_studio.export import find_in_export
from samlet.datasets.labelled_images import LabelledImages
from samlet.datasets.sa1b import find_sa1b_files
from samlet.errors import UserError
from samlet.utils.messages import bullet_list


def find_labelled_images(
    images: str | Path, labels: str | Path, results: Path | None = None
) -> LabelledImages:
    """Find the images of a folder that have labels.

    Nested folders are searched as well. Names are compared in one normal form of Unicode. Which
    format it is shows in what is found:

    - folder of label maps, PNG, TIFF, BMP or GIF: the relative path without suffix is the image's,
      or has "_masks" or the like behind it (`samlet.datasets.pairing`). Read by
      `samlet.outputs.read_label_map`; the numbers are kept, in one layer. It may be the folder of
      the images where the names differ.
    - folder of JSON files as in SA-1B, found likewise.
    - .json file, COCO instances: polygons, RLE or compressed RLE. The longest matching end of
      file_name decides (`samlet.datasets.label_studio.filenames`); iscrowd is left out; an image
      without annotations has no objects.
    - .json file, Label Studio's export "JSON": brush, bitmask, polygons, rectangles and ellipses,
      of the newest annotation of a task that was not cancelled. Images are found as those of COCO,
      with or without what Label Studio puts before their names on upload.

    In all but label maps, objects are numbered from 1 as listed, shapes without any pixel left out.

    Args:
        images: the folder of the images.
        labels: the folder or file of the labels.
        results: a folder for results, whose pictures are no images; see `samlet.images.find`.

    Returns:
        The labelled images, what has no labels or no image, and entries that are faulty. Sizes and
        shapes are checked by `read_layers`, not before; `samlet.datasets.checking` does so at once.

    Raises:
        UserError: nothing fits, or a file is damaged or of another format.
    """
    images, labels = Path(images), Path(labels)
    paths = image_files.find(images, results)
    if labels.is_dir():
        found = _in_folder(images, paths, labels)
    elif labels.suffix.lower() == ".json":
        found = _in_file(images, paths, labels)
    else:
        told = unsupported.describe_file([labels] if labels.exists() else [])
        raise UserError(
            f"{told}."
            if told
            else f"{labels} is neither a folder of labels nor a .json file: check the path."
        )
    labelled = {item.path for item in found}
    return replace(
        found,
        labelled=sorted(found, key=lambda item: item.path),
        unlabelled=[path for path in found.unlabelled or paths if path not in labelled],
    )


def _in_folder(images: Path, paths: list[Path], labels: Path) -> LabelledImages:
    if labels.resolve() != images.resolve():
        # Label maps below the folder of the images are no images.
        paths = [path for path in paths if not path.resolve().is_relative_to(labels.resolve())]
    maps, jsons = (find(images, paths, labels) for find in (find_label_maps, find_sa1b_files))
    if len(maps) and len(jsons):
        raise UserError(
            f"{labels} holds label maps and JSON files that are named like images: "
            "keep the one kind to train on."
        )
    if len(maps) or len(jsons):
        return maps if len(maps) else jsons
    if faults := [*maps.faults, *jsons.faults]:
        raise UserError(f"{labels} has no labels that can be used:{bullet_list(faults)}")
    if not paths:
        raise UserError(f"{images} holds no image beside those in {labels}: check the paths.")
    own = {path.resolve() for path in paths}
    told = unsupported.describe_file(p for p in sorted(labels.rglob("*")) if p.resolve() not in own)
    single = labels / jsons.unmatched[0] if len(jsons.unmatched) else "the .json file"
    raise UserError(
        f"{labels} holds no label map (PNG or TIFF) and no SA-1B JSON with the name of an "
        f"image below {images}, such as {paths[0].relative_to(images).with_suffix('')}: name "
        f"labels like their images, or give {single} itself if it is COCO or Label Studio."
        + (f" {told}." if told else "")
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
        "export (a list of tasks): export it as one of the two."
    )
