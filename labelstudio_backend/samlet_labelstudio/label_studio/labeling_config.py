"""What a project's labeling config offers: https://labelstud.io/tags."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from samlet.errors import UserError

# Those in which masks can be returned, in the order of preference if all are smart.
_RESULT_TAGS = ("BrushLabels", "PolygonLabels", "EllipseLabels", "RectangleLabels")
_CONTROLS = ("KeyPointLabels", *_RESULT_TAGS)


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
    """

    controls: tuple[Control, ...]
    images: dict[str, str]

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
    if not images:
        raise UserError(
            "The labeling config has no image: "
            'add a tag such as <Image name="image" value="$image"/>.'
        )
    controls = (control for element in root.iter() for control in _controls(element))
    return LabelingConfig(tuple(c for c in controls if c.image in images), images)


def _controls(element: ElementTree.Element) -> Iterator[Control]:
    name = element.get("name")
    if element.tag not in _CONTROLS or not name:
        return
    labels = (label.get("alias") or label.get("value") for label in element.iter("Label"))
    found = tuple(label for label in labels if label)
    is_smart = any(element.get(key, "").lower() == "true" for key in ("smart", "smartOnly"))
    for image in element.get("toName", "").split(","):
        yield Control(name, element.tag, image.strip(), found, is_smart)
