"""Objects with the prompts that they come from, and how those are kept in a labels layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from samlet.masks import Box
from samlet_napari.inference.prompts import CANDIDATES, Step, Steps
from samlet_napari.inference.roi import FloatBox
from samlet_napari.layers.plane import Plane


@dataclass(frozen=True)
class ObjectInPlane:
    """A committed object in one plane, as a labels layer remembers it.

    Attributes:
        plane: its plane.
        steps: its prompts.
        box: around its pixels, half open; None if none of them was free.
    """

    plane: Plane
    steps: Steps
    box: Box | None

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
            "extent": None if self.box is None else list(self.box),
        }

    @classmethod
    def from_json(cls, value: Any) -> "ObjectInPlane | None":
        """Read what `to_json` has made; None if it is something else."""
        try:
            return cls(
                _plane(value["axes"], value["index"]),
                tuple(_step(step) for step in value["steps"]),
                None if value["extent"] is None else _box(value["extent"]),
            )
        except (KeyError, OverflowError, TypeError, ValueError):
            return None


class FoundObject(NamedTuple):
    """An object that was found otherwise than by clicks.

    Attributes:
        plane: its plane.
        steps: its prompts.
        box: of the mask, half open, in pixels of the plane.
        mask: bool, h x w; None stands for no object, where there was one.
        track: number that the object has in all slices of one search; None if it is in one slice.
    """

    plane: Plane
    steps: Steps
    box: Box
    mask: np.ndarray | None
    track: int | None = None


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
    box = None if value["box"] is None else _float_box(value["box"])
    if not points and box is None:
        raise ValueError("no prompt")
    choice = value["choice"]
    return Step(points, box, None if choice is None else min(max(int(choice), 0), CANDIDATES - 1))


def _float_box(values: Sequence[Any]) -> FloatBox:
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
