"""The classes of a labels layer's objects: in its metadata, its features and its colours.

They are kept as `layer.metadata["samlet"]["classes"]`, which *.samlet.tif files hold as well:
"list" has the "name" and "colour" (#rrggbb) of each class, "given" by label, as text, the name of
the class that a user has given, and "predicted" a name and its probability. Users and other
programs may have changed it, so anything may be found there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from samlet.datasets.label_map_classes import parse_classes
from samlet.datasets.labelled_images import ObjectClass
from samlet.outputs.drawing import colours
from samlet_napari.labels.object_metadata import KEY

CLASS, PROBABILITY = "class", "class probability"
"""Columns of a layer's features."""

UNCLASSIFIED = (0.6, 0.6, 0.6, 1.0)
_COLOUR = re.compile("#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class NamedClass:
    """A class that objects can have.

    Attributes:
        name: of the class.
        colour: #rrggbb.
    """

    name: str
    colour: str


def merge_lists(*lists: Iterable[NamedClass]) -> list[NamedClass]:
    """All classes of several lists, each name and each colour once; earlier ones keep theirs."""
    merged: list[NamedClass] = []
    for one in (one for each in lists for one in each):
        if one.colour in {other.colour for other in merged}:
            one = replace(one, colour=free_colour(merged))
        if one.name not in {other.name for other in merged}:
            merged.append(one)
    return merged


def free_colour(classes: Iterable[NamedClass]) -> str:
    """A colour that no class has yet."""
    taken = [one.colour.lower() for one in classes]
    palette = ["#" + bytes(rgb).hex() for rgb in colours(len(taken) + 1).tolist()]
    return next(colour for colour in palette if colour not in taken)


class ObjectClasses:
    """Reads and writes the classes of a layer's objects.

    Args:
        layer: whose metadata and features.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer

    @property
    def listed(self) -> list[NamedClass]:
        """The classes that there are, those that only objects have at the end."""
        content = self._content()
        values = content.get("list")
        listed = filter(None, map(_named_class, values if isinstance(values, list) else ()))
        merged = merge_lists(listed)
        for name in sorted({one.name for one in self.known().values()}):
            if name not in {one.name for one in merged}:
                merged.append(NamedClass(name, free_colour(merged)))
        return merged

    def set_list(self, classes: Iterable[NamedClass]) -> None:
        """Replace the list of classes; those of objects stay."""
        listed = [{"name": one.name, "colour": one.colour} for one in classes]
        self._set_content({**self._content(), "list": listed})

    def known(self) -> dict[int, ObjectClass]:
        """The class of each object that has one, by its label."""
        return parse_classes(self._content())

    def of(self, label: int) -> ObjectClass | None:
        """The class of an object; None without one. Faster than `known`."""
        key, content = str(label), self._content()
        parts = {
            name: {key: part[key]}
            for name in ("given", "predicted")
            if isinstance(part := content.get(name), dict) and key in part
        }
        return parse_classes(parts).get(label)

    def given(self) -> dict[int, str]:
        """The classes that users have given, by label."""
        return {label: one.name for label, one in self.known().items() if one.probability is None}

    def update(self, classes: Mapping[int, ObjectClass | None]) -> None:
        """Set the classes of some objects; None takes the class away."""
        known: dict[int, ObjectClass | None] = {**self.known(), **classes}
        given, predicted = {}, {}
        for label, one in sorted(known.items()):
            if one is not None and one.probability is None:
                given[str(label)] = one.name
            elif one is not None:
                predicted[str(label)] = [one.name, round(float(one.probability or 0), 4)]
        if classes:
            self._set_content({**self._content(), "given": given, "predicted": predicted})
            self.update_features()

    def forget(self, label: int) -> None:
        """Drop the class of an object that is gone, and its row of the features."""
        if self.of(label) is not None:
            self.update({label: None})
        table = self._layer.features
        if "index" in table and (table["index"] == label).any():
            self._layer.features = table[table["index"] != label].reset_index(drop=True)

    def rename(self, old: str, new: str) -> None:
        """Give a class another name, in the list and of all objects."""
        self.set_list(
            NamedClass(new, one.colour) if one.name == old else one for one in self.listed
        )
        known = self.known().items()
        self.update({label: one._replace(name=new) for label, one in known if one.name == old})

    def remove(self, name: str) -> None:
        """Take a class off the list, and from all objects."""
        self.set_list(one for one in self.listed if one.name != name)
        self.update({label: None for label, one in self.known().items() if one.name == name})

    def update_features(self) -> None:
        """Bring the columns of the layer's features to the classes; others stay as they are."""
        known, table = self.known(), self._layer.features
        if not known and CLASS not in table:
            return
        others = table.drop(columns=[name for name in class_columns({}) if name in table])
        if not len(table) or not len(others.columns):
            self._layer.features = class_columns(known)
            return
        # As napari understands rows without this column.
        labels = [int(label) for label in table.get("index", table.index)]
        if len(set(labels)) < len(labels):
            return
        added = [label for label in sorted(known) if label not in set(labels)]
        columns = class_columns(known, [*labels, *added])
        others = others.set_axis(labels).reindex(columns["index"])
        self._layer.features = {**columns, **{name: others[name].to_numpy() for name in others}}

    def colormap(self, classes: Iterable[NamedClass]) -> DirectLabelColormap:
        """A colormap in which each object has the colour of its class, if that is listed."""
        of_class = {one.name: one.colour for one in classes}
        of_label: dict[int | None, Any] = {None: UNCLASSIFIED, 0: "transparent"}
        for label, one in self.known().items():
            of_label[label] = of_class.get(one.name, UNCLASSIFIED)
        return DirectLabelColormap(color_dict=of_label)

    def _content(self) -> dict[str, Any]:
        metadata = self._layer.metadata.get(KEY)
        content = metadata.get("classes") if isinstance(metadata, dict) else None
        return content if isinstance(content, dict) else {}

    def _set_content(self, content: dict[str, Any]) -> None:
        metadata = self._layer.metadata.get(KEY)
        others = metadata if isinstance(metadata, dict) else {}
        self._layer.metadata[KEY] = {**others, "classes": content}


def class_columns(
    known: Mapping[int, ObjectClass], labels: Sequence[int] | None = None
) -> dict[str, list[Any]]:
    """Columns of features with classes: a row for each object; given ones have no probability.

    Args:
        known: classes of objects.
        labels: of the rows; None for all objects that have a class.
    """
    rows = sorted(known) if labels is None else list(labels)
    without = ObjectClass("")
    probabilities = [known.get(label, without).probability for label in rows]
    return {
        "index": rows,
        CLASS: [known.get(label, without).name for label in rows],
        PROBABILITY: [np.nan if each is None else each for each in probabilities],
    }


def _named_class(value: Any) -> NamedClass | None:
    """A class of the list; None if it is something else."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    name, colour = value["name"].strip(), value.get("colour")
    if not name:
        return None
    if not isinstance(colour, str) or not _COLOUR.fullmatch(colour):
        colour = free_colour([])
    return NamedClass(name, colour)
