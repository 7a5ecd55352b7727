"""Classes of objects in files of labels, and files with the classes of all objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samlet.classification.classifier import ObjectClassifier
from samlet.classification.features import object_features
from samlet.datasets.label_map_classes import classes_with
from samlet.datasets.labelled_images import ObjectClass, ReadLayers
from samlet.datasets.layers import iter_objects
from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.masks import area, to_rle
from samlet.outputs import read_label_map
from samlet.outputs.records import CLASS_PROBABILITY
from samlet.outputs.results import Results, results_beside
from samlet.predict.predictor import Predictor


@dataclass(frozen=True)
class ObjectsOfImage:
    """The objects of an image.

    Attributes:
        image: its file.
        size: (height, width) of the labels, in pixels.
        numbers: of the objects, rising.
        records: of the objects, see `samlet.outputs`.
        classes: those that are known, by the number of the object.
        results: that the label map is part of; None if samlet did not write it.
    """

    image: Path
    size: tuple[int, int]
    numbers: Sequence[int]
    records: Sequence[Mapping[str, Any]]
    classes: Mapping[int, ObjectClass]
    results: Results | None

    @property
    def given(self) -> dict[int, str]:
        """The classes that a person has given, by the number of the object."""
        return {n: one.name for n, one in self.classes.items() if one.probability is None}


def read_objects(
    labels: Path | ReadLayers, image: Path, max_pixels: int = DEFAULT_MAX_PIXELS
) -> ObjectsOfImage:
    """Read the labels of an image.

    Args:
        labels: a label map, or what reads the labels, see `samlet.measurements.files.pair_files`.
            Of label maps that samlet has written with results, the records of these are taken.
        image: the image.
        max_pixels: see `samlet.images.read`.

    Raises:
        UserError: they cannot be read.
    """
    classes: dict[int, ObjectClass] = {}
    results = None
    if isinstance(labels, Path):
        layers = read_label_map(labels, max_pixels=max_pixels)[None]
        results = results_beside(labels)
        classes |= classes_with(labels, results)
    else:
        layers = labels(None, classes)
    if results is not None and layers.max() <= len(results.records):
        records = {n: record for n, record in enumerate(results.records, 1) if _has_pixels(record)}
    else:
        results = None
        records = {n: {"segmentation": to_rle(mask)} for n, mask in iter_objects(layers)}
    numbers = sorted(records)
    known = {number: classes[number] for number in numbers if number in classes}
    height, width = layers.shape[1:]
    return ObjectsOfImage(
        image, (height, width), numbers, [records[n] for n in numbers], known, results
    )


def classify_objects(
    predictor: Predictor,
    images: Sequence[ObjectsOfImage],
    given: Sequence[Mapping[int, str]],
    read: Callable[[Path], np.ndarray],
    progress: Callable[[ObjectsOfImage], object] = lambda _: None,
) -> list[dict[int, ObjectClass]]:
    """Learn from the objects whose class is given, and give the rest of the objects theirs.

    Args:
        predictor: whose embeddings.
        images: with their objects.
        given: for each image, classes by the number of the object.
        read: from a path to RGB uint8, H x W x 3.
        progress: called after each image.

    Returns:
        for each image, the class of each object by its number; those that were given are as given.

    Raises:
        UserError: there is no example of two classes, or an image cannot be read.
    """
    features, examples, names = [], [], []
    for one, classes in zip(images, given, strict=True):
        masks = [record["segmentation"] for record in one.records]
        features.append(_features(predictor, read, one.image, masks))
        for row, number in zip(features[-1], one.numbers, strict=True):
            if number in classes:
                examples.append(row)
                names.append(classes[number])
        progress(one)
    classifier = ObjectClassifier().fit(np.array(examples), names)
    found = []
    for one, classes, rows in zip(images, given, features, strict=True):
        predicted, probabilities = classifier.predict(rows)
        numbered = zip(one.numbers, predicted, probabilities.tolist(), strict=True)
        found.append(
            {
                number: ObjectClass(classes[number])
                if number in classes
                else ObjectClass(name, round(probability, 4))
                for number, name, probability in numbered
            }
        )
    return found


def with_classes(
    objects: ObjectsOfImage, classes: Mapping[int, ObjectClass]
) -> list[dict[str, Any]]:
    """The records of an image's objects with their classes.

    Args:
        objects: of the image.
        classes: of all of them, by number.

    Returns:
        all records of the results, if it has any; so that they are numbered as in its label map.
    """
    if objects.results is not None:
        numbered = list(enumerate(objects.results.records, start=1))
    else:
        numbered = list(zip(objects.numbers, objects.records, strict=True))
    return [_with_class(record, classes.get(number)) for number, record in numbered]


def _with_class(record: Mapping[str, Any], known: ObjectClass | None) -> dict[str, Any]:
    if known is None:
        return {**record}
    kept = {key: value for key, value in record.items() if key != CLASS_PROBABILITY}
    own = {} if known.probability is None else {CLASS_PROBABILITY: known.probability}
    return {**kept, "category": known.name, **own}


def _features(
    predictor: Predictor,
    read: Callable[[Path], np.ndarray],
    image: Path,
    masks: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    try:
        return object_features(predictor, read(image), masks)
    except UserError as error:
        text = str(error)
        raise UserError(text if str(image) in text else f"{image}: {text}") from error


def _has_pixels(record: Mapping[str, Any]) -> bool:
    return area(record["segmentation"]) > 0
