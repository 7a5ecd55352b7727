"""Classes that are learned from examples: on drawn objects, samples, and at the limits."""

import subprocess
import sys

import numpy as np
import pytest

import samlet
from samlet import Predictor, images, samples
from samlet.masks import fill_ellipse, from_label_map
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map


def test_two_kinds_of_drawn_objects_are_told_apart(nuclei: Sam) -> None:
    """Half of them are elongated, which colours and size do not tell: three examples of each do."""
    rng = np.random.default_rng(0)
    image = rng.normal(60, 6, (300, 300)).clip(0, 255)
    masks, kinds = [], []
    for number in range(36):
        y, x = divmod(number, 6)
        ratio = (1.0, 2.2)[number % 2]
        radius = rng.uniform(12, 14)
        mask = fill_ellipse(
            50 * x + 25, 50 * y + 25, radius * ratio**0.5, radius / ratio**0.5,
            rng.uniform(0, 180), (300, 300),
        )  # fmt: skip
        image[mask] += 90
        masks.append(mask)
        kinds.append(("round", "long")[number % 2])
    predictor = Predictor(nuclei)
    features = samlet.object_features(predictor, image.astype(np.uint8), np.array(masks))
    classifier = samlet.ObjectClassifier().fit(features[:6], kinds[:6])
    assert classifier.classes == ["long", "round"]
    classes, probabilities = classifier.predict(features[6:])
    assert classes == kinds[6:]
    assert probabilities.shape == (30,) and ((probabilities > 0.5) & (probabilities <= 1)).all()
    # The same again, to the last digit.
    again = samlet.ObjectClassifier().fit(features[:6], kinds[:6]).predict(features[6:])
    assert again.classes == classes and (again.probabilities == probabilities).all()


def test_it_learns_from_corrections(nuclei: Sam) -> None:
    """Large nuclei of a sample against small ones: with more examples, fewer are wrong."""
    image = images.read(samples.IMAGES / "fluorescence_1.png")
    masks = [
        mask for _, mask in from_label_map(read_label_map(samples.LABELS / "fluorescence_1.png"))
    ]
    features = samlet.object_features(Predictor(nuclei), image, masks)
    areas = np.array([mask.sum() for mask in masks])
    kinds = np.where(areas > np.median(areas), "large", "small")

    def wrong(known: np.ndarray) -> np.ndarray:
        classifier = samlet.ObjectClassifier().fit(features[known], kinds[known].tolist())
        return np.flatnonzero(np.array(classifier.predict(features).classes) != kinds)

    by_area = np.argsort(areas)
    known = by_area[[0, -1]]
    first = rest = wrong(known)
    for _ in range(3):
        known = np.concatenate([known, rest[:4]])
        rest = wrong(known)
        # Whose class is given keeps it.
        assert not set(rest) & set(known)
    assert len(rest) < len(first) or not len(first)
    assert len(rest) <= 0.1 * len(kinds)


def test_the_smallest_of_objects_and_sets(nuclei: Sam) -> None:
    """Objects of one pixel, and one example of each class."""
    image = np.zeros((40, 50, 3), np.uint8)
    image[:, 25:] = 200
    masks = np.zeros((4, 40, 50), bool)
    for mask, place in zip(masks, [(0, 0), (39, 49), (20, 10), (20, 40)], strict=True):
        mask[place] = True
    features = samlet.object_features(Predictor(nuclei), image, masks)
    assert np.isfinite(features).all()
    classifier = samlet.ObjectClassifier().fit(features[:2], ["dark", "bright"])
    assert classifier.predict(features[2:]).classes == ["dark", "bright"]
    assert classifier.predict(features[:0]).classes == []


def test_mistakes_are_told_in_a_sentence(nuclei: Sam) -> None:
    features, classifier = np.eye(30, dtype=np.float32), samlet.ObjectClassifier()
    predictor, image = Predictor(nuclei), np.zeros((8, 9, 3), np.uint8)
    for act, told in (
        (lambda: classifier.predict(features), "call fit first"),
        (lambda: classifier.fit(features[:2], ["a", "a"]), "are of a: give another class"),
        (lambda: classifier.fit(features[:0], []), "No object has a class"),
        (lambda: classifier.fit(features[:2], ["a", ""]), "is empty"),
        (
            lambda: classifier.fit(features[:2], ["a"]),
            "1 name of classes for features of 2 objects",
        ),
        (
            lambda: classifier.fit(features[:2], ["a", "b"]).predict(features[:, 1:]),
            "29 features, and the examples had 30",
        ),
        (lambda: samlet.object_features(predictor, image, np.zeros((1, 8, 9))), "Mask 1 is empty"),
        (lambda: samlet.object_features(predictor, image, np.ones((1, 9, 9))), "9 x 9 pixels"),
    ):
        with pytest.raises(samlet.UserError, match=told):
            act()


def test_nothing_waits_for_scikit_learn() -> None:
    code = (
        "import sys, samlet; samlet.ObjectClassifier; samlet.object_features; "
        "print('sklearn' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
