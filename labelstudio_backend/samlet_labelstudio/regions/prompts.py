"""Prompts that annotators give by drawing with Label Studio's smart tools.

Positions and lengths arrive in percent of the image's width and height, rotations in degrees,
clockwise: a rectangle turns about the corner (x, y), an ellipse about its centre (x, y). Where the
annotator has turned the image ("image_rotation"), they are still those of the unturned one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from samlet.datasets.label_studio import brush_rle
from samlet.errors import UserError
from samlet.masks import crop_mask
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.regions import is_own

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, along pixel edges."""

_Size = tuple[int, int]
_KINDS: dict[type, str] = {list: "list", dict: "object", str: "text"}
_STROKE_POINTS = 5
# In percent or degrees: beyond any drawing, and far from overflowing.
_LARGEST = 1e6


@dataclass(frozen=True)
class Prompt:
    """What to segment in one image.

    Attributes:
        control: name of the control that the last region was drawn with.
        image: name of the Image tag.
        label: that the annotator chose, or None.
        points: float64, N x 2 of (x, y) in pixels of the original image; pixel centres are at
            integers, as `samlet.predict.predictor.Predictor.segment` wants.
        point_labels: int64, N: 1 on the object, 0 beside it.
        box: around the object, cut off at the image's border; or None.
    """

    control: str
    image: str
    label: str | None
    points: np.ndarray
    point_labels: np.ndarray
    box: Box | None


def read_prompt(results: Any, config: LabelingConfig, size: tuple[int, int]) -> Prompt:
    """Read the regions that Label Studio sends when a smart tool was used.

    All points of all regions count together: a keypoint gives one, a brush stroke up to five that
    are spread inside it. Rectangles and ellipses give boxes, of which the last counts. The label
    is that of the last region that has one. Regions of other types are passed over.

    Args:
        results: "result" of the request's "context".
        config: the project's.
        size: (H, W) of the image.

    Returns:
        A prompt with a point or a box, or both.

    Raises:
        UserError: no region is left, they are on several images, or a field is missing or wrong.
    """
    image = image_of(results, config)
    control, label, box = "", None, None
    points, point_labels = [np.empty((0, 2))], [np.empty(0, np.int64)]
    for where, result in _regions(results):
        control = _control(result, config, image, where)
        kind, value = _drawing(result, where)
        label = _label(value, kind, where) or label
        if kind in _BOXES:
            box = _clipped(_BOXES[kind](value, size, where), size, where)
        else:
            points.append(_POINTS[kind](value, size, where))
            positive = _is_positive(result, where)
            point_labels.append(np.full(len(points[-1]), positive, np.int64))
    together = np.concatenate(points), np.concatenate(point_labels)
    return Prompt(control, image, label, *together, box)


def read_box(result: Any, size: tuple[int, int]) -> tuple[Box, str | None]:
    """Read one rectangle or ellipse, such as a detector's.

    Args:
        result: the region.
        size: (H, W) of the image.

    Returns:
        The box, cut off at the image's border, and the label if there is one.

    Raises:
        UserError: of another type, or a field is missing or wrong.
    """
    where = "The region"
    kind, value = _drawing(result, where)
    if kind not in _BOXES:
        raise UserError(f'{where} has the "type" {kind}: give rectanglelabels or ellipselabels.')
    return _clipped(_BOXES[kind](value, size, where), size, where), _label(value, kind, where)


def image_of(results: Any, config: LabelingConfig) -> str:
    """Name the Image tag that regions were drawn on, before anything is known of the image.

    Args:
        results: see `read_prompt`.
        config: the project's.

    Raises:
        UserError: no region is a prompt, they are on several images, or on none of the config.
    """
    image = None
    for where, result in _regions(results):
        drawn_on = _field(result, "to_name", str, where)
        if drawn_on not in config.images:
            raise _unknown("to_name", where)
        if image not in (None, drawn_on):
            raise UserError(
                f'{where} has another "to_name" than those before it: prompt one image at a time.'
            )
        image = drawn_on
    if image is None:
        raise UserError(
            '"result" has no keypoint, rectangle, ellipse or brush stroke: '
            "choose a smart tool and a label, and draw with it."
        )
    return image


def _regions(results: Any) -> Iterator[tuple[str, Any]]:
    """The regions of the types that are read, each with where it is, to start a sentence."""
    if not isinstance(results, list):
        raise UserError('"result" is not a list of regions: send the context of Label Studio.')
    for i, result in enumerate(results):
        where = f"result[{i}]"
        kind = _field(result, "type", str, where)
        # Label Studio also sends earlier answers that have the type and label of the prompt.
        if kind in _POINTS.keys() | _BOXES.keys() and not is_own(result):
            yield where, result


def _field(entry: Any, name: str, kind: type, where: str) -> Any:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(value, kind):
        raise UserError(f'{where} has no {_KINDS[kind]} "{name}": draw the region again.')
    return value


def _number(
    value: Mapping[str, Any],
    name: str,
    where: str,
    low: float = -_LARGEST,
    high: float = _LARGEST,
    default: float | None = None,
) -> float:
    number = value.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        raise UserError(
            f'{where} has no number "{name}" from {low:g} to {high:g}: draw the region again.'
        )
    return float(number)


def _control(result: Any, config: LabelingConfig, image: str, where: str) -> str:
    name = _field(result, "from_name", str, where)
    if not any(control.name == name and control.image == image for control in config.controls):
        raise _unknown("from_name", where)
    return name


def _unknown(name: str, where: str) -> UserError:
    return UserError(
        f'{where} has a "{name}" that is not in the labeling config: '
        "reload the page in Label Studio and draw the region again."
    )


def _drawing(result: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """Type and value of a region."""
    return _field(result, "type", str, where), _field(result, "value", dict, where)


def _label(value: Mapping[str, Any], kind: str, where: str) -> str | None:
    labels = value.get(kind)
    if labels is not None and not (
        isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    ):
        raise UserError(f'{where} has something else in its "{kind}" than labels: choose a label.')
    return labels[0] if labels else None


def _is_positive(result: Mapping[str, Any], where: str) -> bool:
    positive = result.get("is_positive", True)
    if not isinstance(positive, int) or positive not in (0, 1):
        raise UserError(f'{where} has an "is_positive" that is not true or false: draw it again.')
    return bool(positive)


def _keypoint(value: Mapping[str, Any], size: _Size, where: str) -> np.ndarray:
    percent = np.array([[_number(value, name, where, -1, 101) for name in ("x", "y")]])
    # From pixel edges, on which percents are, to pixel centres.
    return np.clip(percent * _percent(size) - 0.5, 0, np.array(size[::-1]) - 1)


def _stroke(value: Mapping[str, Any], size: _Size, where: str) -> np.ndarray:
    numbers = _field(value, "rle", list, where)
    try:
        mask = brush_rle.decode(bytes(numbers), size)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{where} has an "rle" that is no brush mask of {size[1]} x {size[0]} pixels, the size '
            "of the image: draw the stroke again."
        ) from error
    if not mask.any():
        raise UserError(f'{where} has an "rle" without a pixel: draw the stroke again.')
    return _spread(mask)


def _spread(mask: np.ndarray) -> np.ndarray:
    """Points far from each other and from the border of a stroke, the deepest first."""
    stroke = crop_mask(mask)
    depth = ndimage.distance_transform_edt(np.pad(stroke.mask, 1))[1:-1, 1:-1]
    deepest = depth.max()
    ys, xs = np.nonzero(depth >= deepest / 2)
    candidates = np.stack([xs, ys], axis=1).astype(float)
    # Of the deepest the middle one, so that a line is taken near its middle.
    first = np.flatnonzero(depth[ys, xs] == deepest)
    chosen = [candidates[first[len(first) // 2]]]
    distance = np.hypot(*(candidates - chosen[0]).T)
    # What is nearer than the stroke is deep says nothing new: a dot is one click.
    while len(chosen) < _STROKE_POINTS and distance.max() > deepest:
        chosen.append(candidates[distance.argmax()])
        distance = np.minimum(distance, np.hypot(*(candidates - chosen[-1]).T))
    return np.stack(chosen) + np.array([stroke.x, stroke.y])


def _rectangle(value: Mapping[str, Any], size: _Size, where: str) -> np.ndarray:
    corner, sides = _pairs(value, (("x", "y"), ("width", "height")), size, where)
    along, down = np.diag(sides) @ _turn(value, where)
    corners = corner + np.stack([0 * along, along, down, along + down])
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _ellipse(value: Mapping[str, Any], size: _Size, where: str) -> np.ndarray:
    centre, radii = _pairs(value, (("x", "y"), ("radiusX", "radiusY")), size, where)
    reach = np.linalg.norm(np.diag(radii) @ _turn(value, where), axis=0)
    return np.stack([centre - reach, centre + reach])


def _pairs(
    value: Mapping[str, Any], names: tuple[tuple[str, str], ...], size: _Size, where: str
) -> np.ndarray:
    """Pairs of a percentage of the width and one of the height, as pixels."""
    percent = [[_number(value, name, where) for name in pair] for pair in names]
    pixels = np.array(percent) * _percent(size)
    for name, length in zip(names[1], pixels[1], strict=True):
        if length == 0:
            raise UserError(f'{where} has a "{name}" of 0 and hence no area: draw it again.')
    return pixels


def _turn(value: Mapping[str, Any], where: str) -> np.ndarray:
    """Where the directions of x and y, one a row, point after turning."""
    turn = np.deg2rad(_number(value, "rotation", where, default=0))
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def _clipped(corners: np.ndarray, size: _Size, where: str) -> Box:
    (x0, y0), (x1, y1) = np.clip(corners, 0, size[::-1]).tolist()
    if x0 >= x1 or y0 >= y1:
        raise UserError(f'{where} has a "value" without any area in the image: draw it again.')
    return x0, y0, x1, y1


def _percent(size: _Size) -> np.ndarray:
    return np.array(size[::-1]) / 100


_Read = Callable[[Mapping[str, Any], _Size, str], np.ndarray]
_POINTS: dict[str, _Read] = {"keypointlabels": _keypoint, "brushlabels": _stroke}
_BOXES: dict[str, _Read] = {"rectanglelabels": _rectangle, "ellipselabels": _ellipse}
