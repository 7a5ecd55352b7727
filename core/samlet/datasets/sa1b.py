"""Labels as in SA-1B: for each image a JSON file of the same name, with COCO RLE.

The format: https://github.com/facebookresearch/segment-anything#dataset.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samlet.datasets import coco, json_files, unsupported
from samlet.datasets.labelled_images import LabelledImages, ObjectClass, find_by_name


def find_sa1b_files(images: Path, paths: Sequence[Path], labels: Path) -> LabelledImages:
    """Find the images of a folder that have a JSON file; see `find_labelled_images`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the JSON files, which may be that of the images.
    """
    return find_by_name(images, paths, labels, (".json",), _read)


def _read(
    image: Path,
    source: Path,
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    content = json_files.read_json(source)
    unsupported.refuse_json(content, source)
    entry = json_files.get_field(content, "image", dict, f"{source} is not an SA-1B JSON, as it")
    annotations = json_files.get_field(content, "annotations", list, str(source))
    numbered = [(f"annotations[{i}] of {source}", a) for i, a in enumerate(annotations)]
    return coco.read_layers(image, str(source), entry, numbered, {}, left_out, classes)
