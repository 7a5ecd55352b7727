"""What a project's labeling config offers: https://labelstud.io/tags."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree

from samlet.errors import UserError

# Those in which masks can be returned, in the order of preference if all are smart.
_RESULT_SHAPES = ("Brush", "Bitmask", "Polygon", "Vector", "Ellipse", "Rectangle")
_SHAPES = ("KeyPoint", *_RESULT_SHAPES)
_LABELS = "Labels"
ALL_LIKE = "all like "
"""Begins labels of smart tools that mean all objects like the one that is pointed at."""
_RESULT_NAMES = "BrushLabels, BitmaskLabels, PolygonLabels, RectangleLabels or EllipseLabels"


@dataclass(frozen=True)
class Control:
    """A tag with which annotators label regions of an image.

    A tag without labels of its own, such as Brush, gets them from the Labels tags of its image; it
    is one control for each of these.

    Attributes:
        name: of the tag: "from_name" in results.
        tag: such as KeyPointLabels or Brush.
        image: name of the Image tag: "to_name" in results.
        labels: as they appear in results, hence the alias of a label that has one.
        is_smart: whether what is drawn with it is sent to the backend.
        labels_tag: name of the Labels tag that has the labels; None if the tag has them itself.
        task_labels: key of the tasks' data that holds further labels; None if there are none, or
            `labels` has them (see `LabelingConfig.for_task`).
    """

    name: str
    tag: str
    image: str
    labels: tuple[str, ...]
    is_smart: bool
    labels_tag: str | None = None
    task_labels: str | None = None

    @property
    def shape(self) -> str:
        """The tag's name without "Labels": Brush and BrushLabels draw the same."""
        return self.tag.removesuffix(_LABELS)

    def has(self, label: str | None) -> bool:
        """Tell whether regions can get this label, or any if it is None."""
        if self.task_labels is not None:
            return True
        return bool(self.labels) if label is None else label in self.labels

    def label_or_first(self, label: str | None) -> str:
        """The label if regions can get it, else the control's first."""
        return label if label in self.labels else self.labels[0]


@dataclass(frozen=True)
class LabelingConfig:
    """The controls and images of a labeling config.

    Attributes:
        controls: in the order of the config, those of images only.
        images: from the name of an Image tag to the key of a task's data that holds its address,
            or a list of addresses.
        paged: the names of the Image tags that have a list of addresses (valueList).
        unsupported: from the name of a control that cannot be used to a sentence that says why.
    """

    controls: tuple[Control, ...]
    images: dict[str, str]
    paged: frozenset[str] = frozenset()
    unsupported: dict[str, str] = field(default_factory=dict)

    def for_task(self, task: Mapping[str, Any]) -> "LabelingConfig":
        """Add the labels that come with a task; controls for which it has none get no labels.

        Args:
            task: with "data".
        """
        if all(control.task_labels is None for control in self.controls):
            return self
        controls, unsupported = [], dict(self.unsupported)
        for control in self.controls:
            labels = (*control.labels, *_labels_of_task(task, control.task_labels))
            if control.task_labels is not None and not labels:
                unsupported[control.name] = (
                    f'The task has no labels in its data under "{control.task_labels}", where '
                    f"{control.tag} ({control.name!r}) takes them from: import it again with "
                    f'"{control.task_labels}": [{{"value": "cell"}}].'
                )
            controls.append(replace(control, labels=labels, task_labels=None))
        return replace(self, controls=tuple(controls), unsupported=unsupported)

    def label_to_find(self, label: str | None) -> str | None:
        """The label of the objects that a smart tool's label finds: "cell" for "all like cell".

        Args:
            label: of a prompt.

        Returns:
            The label, or None if it is an ordinary one: without "cell" in the config,
            "all like cell" is as well.
        """
        if label is None or not label.startswith(ALL_LIKE):
            return None
        wanted = label.removeprefix(ALL_LIKE)
        return wanted if any(control.has(wanted) for control in self.controls) else None

    def labels_to_find(self, image: str) -> list[str]:
        """The labels of all objects that the smart tools of an image can find.

        Args:
            image: name of the Image tag.
        """
        found = [
            self.label_to_find(label)
            for control in self.controls
            if control.is_smart and control.image == image
            for label in control.labels
        ]
        return list(dict.fromkeys(label for label in found if label is not None))

    def why_useless(self) -> str | None:
        """Why nothing can be done in this config, with the remedy; None if something can."""
        if any(self.result_control(image, None) is not None for image in self.images):
            return self._why_no_click()
        if self.unsupported:
            return next(iter(self.unsupported.values()))
        return (
            f"The labeling config has nothing to draw masks with: add {_RESULT_NAMES} with the "
            "labels of the objects."
        )

    def _why_no_click(self) -> str | None:
        """Why no smart tool can be answered; None if one can, or there is none."""
        smart = [control for control in self.controls if control.is_smart]
        for control in smart:
            labels = control.labels if control.task_labels is None else (None, *control.labels)
            results = (self.label_to_find(label) or label for label in labels)
            if any(self.result_control(control.image, label) for label in results):
                return None
        if not smart:
            return None
        named = smart[0]
        if named.name in self.unsupported:
            return self.unsupported[named.name]
        return (
            f"The labels of the smart tool {named.name!r} ({', '.join(named.labels)}) are not "
            f"those of any {_RESULT_NAMES}: give these the same labels."
        )

    def result_control(self, image: str, label: str | None) -> Control | None:
        """Choose the control in which masks of an image are returned.

        Of the brushes, bitmasks, polygons, closable vectors, ellipses and rectangles that are for
        this image and have this label, it is the first in the config that is not smart, or if all
        are smart, the first in the order of this sentence.

        Args:
            image: name of the Image tag.
            label: what the region will be labelled as; None if any label will do.

        Returns:
            The control, or None if none fits.
        """
        fitting = [
            control
            for control in self.controls
            if control.shape in _RESULT_SHAPES and control.image == image and control.has(label)
        ]
        for control in fitting:
            if not control.is_smart:
                return control
        return min(fitting, key=lambda control: _RESULT_SHAPES.index(control.shape), default=None)


def parse(text: str) -> LabelingConfig:
    """Read a labeling config.

    Args:
        text: XML.

    Raises:
        UserError: not valid XML, with a document type, or without an image.
    """
    # Entities, which can grow without bounds or name files, can only be declared there.
    if not isinstance(text, str) or "<!DOCTYPE" in text:
        raise UserError(
            "The labeling config must be XML without a document type: "
            "copy it from Label Studio's settings, Labeling Interface, Code."
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(
            f"The labeling config is not valid XML ({error}): "
            "correct it in Label Studio's settings, Labeling Interface, Code."
        ) from error
    images, paged = {}, set()
    for element in root.iter("Image"):
        name, pages = element.get("name"), element.get("valueList", "")
        value = pages or element.get("value", "")
        if name and value.startswith("$"):
            images[name] = value.removeprefix("$")
            paged |= {name} if pages else set()
    if not images:
        raise UserError(
            "The labeling config has no image: "
            'add a tag such as <Image name="image" value="$image"/>.'
        )
    label_tags = [element for element in root.iter(_LABELS) if element.get("name")]
    controls = (control for element in root.iter() for control in _controls(element, label_tags))
    unsupported = {
        element.get("name", ""): sentence
        for element in root.iter()
        if (sentence := _why_unsupported(element, label_tags)) is not None
    }
    on_images = tuple(control for control in controls if control.image in images)
    return LabelingConfig(on_images, images, frozenset(paged), unsupported)


def _why_unsupported(
    element: ElementTree.Element, label_tags: list[ElementTree.Element]
) -> str | None:
    """Why samlet cannot use a control tag; None if it can, or if it is another tag."""
    name, tag = element.get("name"), element.tag
    if not name or tag.removesuffix(_LABELS) not in _SHAPES:
        return None
    images = _images_of(element)
    if tag in _SHAPES and not any(set(_images_of(each)) & set(images) for each in label_tags):
        return (
            f"The tag {tag} ({name!r}) has no labels: use {tag}Labels, with a Label tag for each "
            f'label in it, or add <Labels name="labels" toName="{images[0]}">.'
        )
    if not _draws_areas(element):
        return (
            f'{tag} ({name!r}) draws lines, not outlines: add closable="true", and leave out '
            "skeleton, so that masks can be returned in it."
        )
    return None


def _controls(
    element: ElementTree.Element, label_tags: list[ElementTree.Element]
) -> Iterator[Control]:
    name, tag = element.get("name"), element.tag
    if not name or tag.removesuffix(_LABELS) not in _SHAPES or not _draws_areas(element):
        return
    is_smart = _is_true(element, "smart") or _is_true(element, "smartOnly")
    for image in _images_of(element):
        own = tag.endswith(_LABELS)
        for source in [element] if own else label_tags:
            if image in _images_of(source):
                labels_tag = None if own else source.get("name")
                value = source.get("value", "")
                key = value.removeprefix("$") if value.startswith("$") else None
                yield Control(name, tag, image, _labels_in(source), is_smart, labels_tag, key)


def _images_of(element: ElementTree.Element) -> list[str]:
    return [image.strip() for image in element.get("toName", "").split(",")]


def _labels_in(element: ElementTree.Element) -> tuple[str, ...]:
    labels = (label.get("alias") or label.get("value") for label in element.iter("Label"))
    return tuple(label for label in labels if label)


def _labels_of_task(task: Mapping[str, Any], key: str | None) -> list[str]:
    """The labels in a task's data, in the form in which Label Studio reads them."""
    data = task.get("data")
    entries = data.get(key) if isinstance(data, Mapping) and key is not None else None
    found = [
        entry.get("alias") or entry.get("value")
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, Mapping)
    ]
    return [label for label in found if isinstance(label, str) and label]


def _is_true(element: ElementTree.Element, name: str) -> bool:
    return element.get(name, "").strip("{}").lower() == "true"


def _draws_areas(element: ElementTree.Element) -> bool:
    """False of a vector that cannot be closed, or may be branched."""
    is_vector = element.tag.removesuffix(_LABELS) == "Vector"
    return not is_vector or (_is_true(element, "closable") and not _is_true(element, "skeleton"))
