"""JSON files of other programs, checked field by field, so that errors say where a fault is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from samlet.errors import UserError

# Larger than any image, and still exact in the integers that shapes are drawn with.
_LARGEST = 1e9
_EXPORT_AGAIN = "export the labels again"
_KINDS: dict[type, str] = {list: "list", dict: "object", str: "text"}


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    The encoding may be UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        UserError: missing, unreadable or damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): it is damaged or incomplete, so export it again."
        ) from error


def get_field(entry: Any, name: str, kind: type, where: str, remedy: str = _EXPORT_AGAIN) -> Any:
    """Get `entry[name]`, which must be of a type.

    Args:
        entry: a parsed JSON value, which should be an object.
        name: the key.
        kind: list, dict or str.
        where: name of the entry, to start a sentence with.
        remedy: what the user can do about it, to end the sentence with.

    Raises:
        UserError: the entry is not an object, or has no such field.
    """
    value = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(value, kind):
        raise UserError(f'{where} has no {_KINDS[kind]} "{name}": {remedy}.')
    return value


def get_number(entry: Any, name: str, where: str, default: float | None = None) -> float:
    """Get `entry[name]`, which must be a finite number; a default makes it optional.

    Raises:
        UserError: the entry is not an object, or has no such number.
    """
    value = entry.get(name, default) if isinstance(entry, Mapping) else None
    if not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise UserError(f'{where} has no number "{name}": export the labels again.')
    return float(value)


def parse_polygons(value: Any, where: str) -> list[np.ndarray]:
    """Parse the polygons of one object: [[x, y, x, y, ...], ...] or [[[x, y], ...], ...].

    A single polygon may come without the outer list, as VIA writes it. Of several, those with fewer
    than three points, which cover nothing, are left out.

    Returns:
        float64, N x 2 of (x, y), N >= 3, each.

    Raises:
        UserError: not lists of pairs of finite numbers, or none with three points.
    """
    if isinstance(value, list) and value and not _is_nested(value):
        value = [value]
    polygons = [_points(polygon, where) for polygon in value] if isinstance(value, list) else []
    return [polygon for polygon in polygons if len(polygon) >= 3] or [parse_polygon(None, where)]


def _is_nested(value: list[Any]) -> bool:
    """Whether a list has polygons, rather than the numbers or points of one polygon."""
    return not all(
        isinstance(part, int | float)
        or (isinstance(part, list) and len(part) == 2 and not isinstance(part[0], list))
        for part in value
    )


def parse_polygon(value: Any, where: str) -> np.ndarray:
    """Parse one polygon: [x, y, x, y, ...] or [[x, y], ...].

    Returns:
        float64, N x 2 of (x, y), N >= 3.

    Raises:
        UserError: not pairs of finite numbers, or fewer than three.
    """
    points = _points(value, where)
    if len(points) < 3:
        raise _no_polygon(where)
    return points


def _points(value: Any, where: str) -> np.ndarray:
    try:
        points = np.asarray(value, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_polygon(where) from error
    if not np.all(np.abs(points) <= _LARGEST):
        raise _no_polygon(where)
    return points


def _no_polygon(where: str) -> UserError:
    return UserError(
        f"{where} has a polygon that is not three or more points (x, y): "
        "finish or delete it and export the labels again."
    )


def stated_size(entry: Any, width: str, height: str, where: str) -> tuple[float, float] | None:
    """Get (height, width) from an entry's fields of these two names; None if it has neither.

    Zeros count as missing: some programs write them if they do not know the size.

    Raises:
        UserError: only one of the two is there, or one is not a number.
    """
    if isinstance(entry, Mapping) and not entry.get(width) and not entry.get(height):
        return None
    return get_number(entry, height, where), get_number(entry, width, where)
