"""What a project's labeling config offers: https://labelstud.io/tags."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from samlet.errors import UserError

# Those in which masks can be returned, in the order of preference if all are smart.
_RESULT_TAGS = ("BrushLabels", "PolygonLabels", "EllipseLabels", "RectangleLabels")
_CONTROLS = ("KeyPointLabels", *_RESULT_TAGS)
_BARE = {tag.removesuffix("Labels"): tag for tag in _CONTROLS}
"""Tags that get their label from a <Labels> tag, and those that have their own."""


@dataclass(frozen=True)
class Control:
    """A tag with which annotators label regions of an image.

    Attributes:
        name: of the tag: "from_name" in results.
        tag: KeyPointLabels, RectangleLabels, BrushLabels, EllipseLabels or PolygonLabels.
        image: name of the Image tag: "to_name" in results.
        labels: as they appear in results, hence the alias of a label that has one. Labels that
            come with each task are not included.
        is_smart: whether what is drawn with it is sent to the backend.
    """

    name: str
    tag: str
    image: str
    labels: tuple[str, ...]
    is_smart: bool

    def has(self, label: str | None) -> bool:
        """Tell whether regions can get this label, or any if it is None."""
        return bool(self.labels) if label is None else label in self.labels

    def label_or_first(self, label: str | None) -> str:
        """The label if regions can get it, else the control's first."""
        return label if label in self.labels else self.labels[0]


@dataclass(frozen=True)
class LabelingConfig:
    """The controls and images of a labeling config.

    Attributes:
        controls: in the order of the config, those of images only.
        images: from the name of an Image tag to the key of a task's data that holds its address.
        unsupported: from the name of a control that cannot be used to a sentence that says why.
    """

    controls: tuple[Control, ...]
    images: dict[str, str]
    unsupported: dict[str, str] = field(default_factory=dict)

    def why_useless(self) -> str | None:
        """Why nothing can be done in this config, with the remedy; None if something can."""
        if any(self.result_control(image, None) is not None for image in self.images):
            return self._why_no_click()
        if self.unsupported:
            return next(iter(self.unsupported.values()))
        return (
            "The labeling config has nothing to draw masks with: add BrushLabels, PolygonLabels, "
            "RectangleLabels or EllipseLabels with the labels of the objects."
        )

    def _why_no_click(self) -> str | None:
        """Why no smart tool can be answered; None if one can, or there is none."""
        smart = [control for control in self.controls if control.is_smart]
        for control in smart:
            if any(self.result_control(control.image, label) for label in control.labels):
                return None
        if not smart:
            return None
        named = smart[0]
        if named.name in self.unsupported:
            return self.unsupported[named.name]
        return (
            f"The labels of the smart tool {named.name!r} ({', '.join(named.labels)}) are not "
            "those of any BrushLabels, PolygonLabels, RectangleLabels or EllipseLabels: give these "
            "the same labels."
        )

    def result_control(self, image: str, label: str | None) -> Control | None:
        """Choose the control in which masks of an image are returned.

        Of the BrushLabels, PolygonLabels, RectangleLabels and EllipseLabels that are for this image
        and have this label, it is the first in the config that is not smart, or if all are smart,
        the first of a BrushLabels, a PolygonLabels, an EllipseLabels and a RectangleLabels.

        Args:
            image: name of the Image tag.
            label: what the region will be labelled as; None if any label will do.

        Returns:
            The control, or None if none fits.
        """
        fitting = [
            control
            for control in self.controls
            if control.tag in _RESULT_TAGS and control.image == image and control.has(label)
        ]
        for control in fitting:
            if not control.is_smart:
                return control
        return min(fitting, key=lambda control: _RESULT_TAGS.index(control.tag), default=None)


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
    images = {
        element.get("name", ""): element.get("value", "").removeprefix("$")
        for element in root.iter("Image")
        if element.get("name") and element.get("value", "").startswith("$")
    }
    paged = [element for element in root.iter("Image") if element.get("valueList")]
    if not images and paged:
        raise UserError(
            f"The Image tag {paged[0].get('name')!r} shows several pages (valueList), which samlet "
            'cannot read: give each task one image, with value="$image".'
        )
    if not images:
        raise UserError(
            "The labeling config has no image: "
            'add a tag such as <Image name="image" value="$image"/>.'
        )
    controls = (control for element in root.iter() for control in _controls(element))
    unsupported = {
        element.get("name", ""): sentence
        for element in root.iter()
        if (sentence := _why_unsupported(element)) is not None
    }
    return LabelingConfig(tuple(c for c in controls if c.image in images), images, unsupported)


def _why_unsupported(element: ElementTree.Element) -> str | None:
    """Why samlet cannot use a control tag; None if it can, or if it is another tag."""
    name, tag = element.get("name"), element.tag
    if name and tag in _BARE:
        return (
            f"The tag {tag} ({name!r}) has its labels in a tag Labels, which samlet cannot read: "
            f"use {_BARE[tag]}, with a Label tag for each label in it."
        )
    if name and tag in _CONTROLS and element.get("value", "").startswith("$"):
        return (
            f"{tag} ({name!r}) takes its labels from each task ({element.get('value')}), which "
            "samlet cannot read: write a Label tag for each label."
        )
    return None


def _controls(element: ElementTree.Element) -> Iterator[Control]:
    name = element.get("name")
    if element.tag not in _CONTROLS or not name:
        return
    labels = (label.get("alias") or label.get("value") for label in element.iter("Label"))
    found = tuple(label for label in labels if label)
    is_smart = any(element.get(key, "").lower() == "true" for key in ("smart", "smartOnly"))
    for image in element.get("toName", "").split(","):
        yield Control(name, element.tag, image.strip(), found, is_smart)
