"""Giving a class to the objects of a plane, learned from those whose class a user has given."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from samlet.classification import ObjectClassifier
from samlet.classification.classifier import check_classes
from samlet.datasets.labelled_images import ObjectClass
from samlet.errors import UserError
from samlet.utils.messages import pluralize
from samlet_napari.inference.description import LabelledObject, describe_objects, objects_in
from samlet_napari.inference.objects import FoundObject
from samlet_napari.labels.object_classes import ObjectClasses
from samlet_napari.viewer.workspace import Workspace

Examples = tuple[np.ndarray, list[str]]
"""Features of objects, N x F, and their classes."""


class ClassifyTask:
    """Learns from the objects whose class is given, and gives the others of the plane theirs.

    Examples are in the plane that is shown, in other slices as far as samlet has written them
    there, and in other images.

    Args:
        workspace: whose image and labels.
        elsewhere: examples of other images.
        remember: called with those of this image, if there are any, when the classes are set.

    Raises:
        UserError: there is no image, or it is not opened, or there are too few examples.
    """

    def __init__(
        self,
        workspace: Workspace,
        elsewhere: Mapping[str, Examples],
        remember: Callable[[Examples], None],
    ) -> None:
        self._workspace = workspace
        self._embeddings = workspace.require_embeddings()
        self._plane = workspace.view().plane()
        self._store = workspace.label_store()
        self._given = self._store.classes.given()
        self._elsewhere, self._remember = dict(elsewhere), remember
        check_classes(
            [*self._given.values(), *(name for _, names in elsewhere.values() for name in names)]
        )
        height, width = self._plane.size(self._store.data.shape)
        # A copy, as users may go on painting.
        self._labels = np.array(self._plane.read(self._store.data, (0, 0, width, height)))
        self._examples_elsewhere = self._in_other_planes()
        self._found: dict[int, ObjectClass] = {}
        self._examples: Examples | None = None

    def run(self, progress: Callable[[float], None]) -> Iterator[list[FoundObject]]:
        """Describe the objects, and learn; see `Task`."""
        objects = [*objects_in(self._plane, self._labels), *self._examples_elsewhere]
        if not objects:
            raise UserError("There is no object here to classify: commit one first.")
        features: dict[int, np.ndarray] = {}
        for i, described in describe_objects(self._embeddings, objects):
            features[i] = described
            progress(len(features) / len(objects))
        labels = [one.label for one in objects]
        own = [i for i, label in enumerate(labels) if label in self._given]
        names = [self._given[labels[i]] for i in own]
        rows = [features[i] for i in own]
        if own:
            self._examples = np.stack(rows), names
        for others, their_names in self._elsewhere.values():
            # Another model describes objects otherwise.
            if others.shape[1] == len(features[0]):
                rows, names = [*rows, *others], [*names, *their_names]
        classifier = ObjectClassifier().fit(np.array(rows), names)
        rest = [i for i, label in enumerate(labels) if label not in self._given]
        if rest:
            classes, probabilities = classifier.predict(np.stack([features[i] for i in rest]))
            for i, name, probability in zip(rest, classes, probabilities.tolist(), strict=True):
                self._found[labels[i]] = ObjectClass(name, probability)
        yield []

    def write(self, found: list[FoundObject]) -> None:
        """Set the classes, but none that a user has given meanwhile; see `Task`."""
        if self._workspace.labels is self._store.layer:
            classes = ObjectClasses(self._store.layer)
            given = classes.given()
            classes.update({n: one for n, one in self._found.items() if n not in given})
        if self._examples is not None:
            self._remember(self._examples)

    def finish(self) -> str:
        """Say how many objects got which class; see `Task`."""
        counts = Counter(one.name for one in self._found.values())
        told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        if not counts:
            return "All objects here have a class that you have given."
        return (
            f"Gave {pluralize(len(self._found), 'object')} a class: {told}. Correct what is wrong, "
            "and classify again."
        )

    def _in_other_planes(self) -> list[LabelledObject]:
        """Objects whose class is given, that are in other slices only."""
        found = []
        for label in self._given:
            places = self._store.metadata.objects(label)
            if not places or any(place.plane == self._plane for place in places):
                continue
            middle = places[len(places) // 2]
            if middle.box is not None:
                mask = self._store.mask_of(middle.plane, label, middle.box)
                if mask.any():
                    found.append(LabelledObject(label, middle.plane, middle.box, mask))
        return found
