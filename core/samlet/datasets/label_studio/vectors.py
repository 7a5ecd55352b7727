"""The value of a VectorLabels region that is closed: an outline of lines and Bezier curves.

Vertices are in percent of the image's width and height, each with the id of the one before it; of a
closed outline the first follows the last. Between two vertices there is a cubic curve if one of
them has control points: web/libs/editor/src/components/KonvaVector in HumanSignal/label-studio.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio.geometry import RegionValue, to_percent
from samlet.errors import UserError

_STEPS = 16
"""Lines that a curve is drawn with."""
_MISSING_CONTROL_POINT = 0.3
"""Where the control point is of a vertex that has none: so far on the way to the other vertex."""

_Vertex = Mapping[str, Any]


def read_vector(value: RegionValue) -> np.ndarray:
    """Read the outline of a closed VectorLabels region, its curves as short lines.

    Returns:
        float64, N x 2 of (x, y) in pixels, N >= 3.

    Raises:
        UserError: not closed, branched, fewer than three points, or a field is missing or wrong.
    """
    vertices = json_files.get_field(value.fields, "vertices", list, value.where, value.remedy)
    if value.fields.get("closed") is not True:
        raise UserError(
            f"{value.where} is a line and no outline of an object: close it, in Label Studio with "
            'closable="true", or draw the object with another tool.'
        )
    points: list[np.ndarray] = []
    ordered = _in_order(vertices, value)
    for before, vertex in zip([ordered[-1], *ordered], ordered, strict=False):
        points += _segment(before, vertex, value)
    outline = json_files.parse_polygon([point.tolist() for point in points], value.where)
    return outline * (np.array([value.size[1], value.size[0]]) / 100)


def vector_value(outline: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Write the value of a closed VectorLabels region, without its label.

    Args:
        outline: N x 2 of (x, y) in pixels, N >= 3.
        size: (H, W) of the image.
    """
    vertices = [
        {
            "id": f"point-{i}",
            "x": x,
            "y": y,
            "prevPointId": f"point-{(i or len(outline)) - 1}",
            "isBezier": False,
        }
        for i, (x, y) in enumerate(to_percent(outline, size).tolist())
    ]
    return {"vertices": vertices, "closed": True}


def _in_order(vertices: list[Any], value: RegionValue) -> list[_Vertex]:
    """The vertices along the outline: those that annotators insert come last in the list."""
    for vertex in vertices:
        if not isinstance(vertex, Mapping):
            raise UserError(f'{value.where} has "vertices" that are no objects: {value.remedy}.')
    if len(vertices) < 3:
        # The sentence is that of polygons.
        json_files.parse_polygon(None, value.where)
    if not any(vertex.get("prevPointId") for vertex in vertices):
        return vertices
    following = {vertex.get("prevPointId"): vertex for vertex in vertices}
    known = {vertex.get("id") for vertex in vertices}
    heads = [vertex for vertex in vertices if vertex.get("prevPointId") not in known]
    ordered = [heads[0] if heads else vertices[0]]
    while len(ordered) < len(vertices):
        after = following.get(ordered[-1].get("id"))
        if after is None or after is ordered[0]:
            raise UserError(
                f"{value.where} is branched and no outline of an object: {value.remedy} without "
                "the branches."
            )
        ordered.append(after)
    return ordered


def _segment(before: _Vertex, vertex: _Vertex, value: RegionValue) -> list[np.ndarray]:
    """The points after one vertex, up to the next and with it, in percent."""
    start, end = _point(before, value), _point(vertex, value)
    leaving = _control(before, "controlPoint2", value)
    arriving = _control(vertex, "controlPoint1", value)
    if leaving is None and arriving is None:
        return [end]
    way = end - start
    first = start + _MISSING_CONTROL_POINT * way if leaving is None else leaving
    second = end - _MISSING_CONTROL_POINT * way if arriving is None else arriving
    return [
        (1 - t) ** 3 * start
        + 3 * (1 - t) ** 2 * t * first
        + 3 * (1 - t) * t**2 * second
        + t**3 * end
        for t in np.arange(1, _STEPS + 1) / _STEPS
    ]


def _control(vertex: _Vertex, name: str, value: RegionValue) -> np.ndarray | None:
    if not vertex.get("isBezier") or vertex.get(name) is None:
        return None
    return _point(vertex[name], value)


def _point(fields: Any, value: RegionValue) -> np.ndarray:
    found = fields if isinstance(fields, Mapping) else {}
    of_point = replace(value, fields=found)
    return np.array([of_point.number("x"), of_point.number("y")])
