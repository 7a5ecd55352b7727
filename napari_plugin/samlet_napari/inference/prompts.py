"""Clicks and boxes of one object, step by step, and how they are kept in a labels layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from samlet.masks import Box
from samlet_napari.inference.roi import Extent
from samlet_napari.layers.layer_reader import Plane

Point = tuple[float, float, bool]
"""x, y in pixels of the plane, and whether it is on the object."""

CANDIDATES = 3


@dataclass(frozen=True)
class Step:
    """What a user adds at once: a click, a scribble or a box.

    Attributes:
        points: of the click or scribble.
        box: x0, y0, x1, y1 in pixels of the plane.
        choice: which of three candidate masks the user has chosen after it; None for the one that
            the model trusts most.
    """

    points: tuple[Point, ...] = ()
    box: Extent | None = None
    choice: int | None = None


Steps = tuple[Step, ...]


def points_of(steps: Steps) -> list[Point]:
    """All points, the first first."""
    return [point for step in steps for point in step.points]


def box_of(steps: Steps) -> Extent | None:
    """The box that counts, which is the last."""
    return next((step.box for step in reversed(steps) if step.box is not None), None)


def extent_of(steps: Steps) -> Extent:
    """Around all points and boxes."""
    xs = [x for x, _, _ in points_of(steps)]
    ys = [y for _, y, _ in points_of(steps)]
    for step in steps:
        if step.box is not None:
            xs += [step.box[0], step.box[2]]
            ys += [step.box[1], step.box[3]]
    return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True)
class Placed:
    """An object in one plane, as it was committed.

    Attributes:
        plane: where.
        steps: what it was prompted with.
        extent: its box, half open; None if none of its pixels was free.
    """

    plane: Plane
    steps: Steps
    extent: Box | None

    def to_json(self) -> dict[str, Any]:
        """As lists and numbers, for a layer's metadata."""
        return {
            "axes": list(self.plane.axes),
            "index": list(self.plane.index),
            "steps": [
                {
                    "points": [[x, y, int(positive)] for x, y, positive in step.points],
                    "box": None if step.box is None else list(step.box),
                    "choice": step.choice,
                }
                for step in self.steps
            ],
            "extent": None if self.extent is None else list(self.extent),
        }

    @classmethod
    def from_json(cls, value: Any) -> "Placed | None":
        """What `to_json` has made; None if it is something else."""
        try:
            return cls(
                _plane(value["axes"], value["index"]),
                tuple(_step(step) for step in value["steps"]),
                None if value["extent"] is None else _box(value["extent"]),
            )
        except (KeyError, OverflowError, TypeError, ValueError):
            return None


def _plane(axes: Sequence[Any], index: Sequence[Any]) -> Plane:
    rows, columns = map(int, axes)
    where = tuple(map(int, index))
    if rows == columns or not {rows, columns} <= set(range(len(where))):
        raise ValueError("no two axes")
    if min(where) < 0:
        raise ValueError("outside")
    return Plane((rows, columns), where)


def _step(value: Mapping[str, Any]) -> Step:
    points = tuple((_finite(x), _finite(y), bool(positive)) for x, y, positive in value["points"])
    box = None if value["box"] is None else _extent(value["box"])
    if not points and box is None:
        raise ValueError("nothing")
    choice = value["choice"]
    return Step(points, box, None if choice is None else min(max(int(choice), 0), CANDIDATES - 1))


def _extent(values: Sequence[Any]) -> Extent:
    x0, y0, x1, y1 = map(_finite, values)
    return x0, y0, x1, y1


def _box(values: Sequence[Any]) -> Box:
    x0, y0, x1, y1 = map(int, values)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise ValueError("no box")
    return x0, y0, x1, y1


def _finite(value: Any) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError("no number")
    return number
