"""Clicks and boxes of one object, step by step."""

from dataclasses import dataclass

from samlet_napari.inference.roi import FloatBox

Point = tuple[float, float, bool]
"""x, y in pixels of the plane, and whether it is on the object."""

CANDIDATES = 3
"""Masks that the model proposes for one ambiguous prompt."""


@dataclass(frozen=True)
class Step:
    """What a user adds at once: a click, a scribble or a box.

    Attributes:
        points: of the click or scribble.
        box: x0, y0, x1, y1 in pixels of the plane.
        choice: index of the candidate mask that the user has chosen after it; None for the one of
            the highest predicted IoU.
    """

    points: tuple[Point, ...] = ()
    box: FloatBox | None = None
    choice: int | None = None


Steps = tuple[Step, ...]


def all_points(steps: Steps) -> list[Point]:
    """The points of all steps, in their order."""
    return [point for step in steps for point in step.points]


def last_box(steps: Steps) -> FloatBox | None:
    """The box that counts, which is the last; None if there is none."""
    return next((step.box for step in reversed(steps) if step.box is not None), None)


def prompt_box(steps: Steps) -> FloatBox:
    """The smallest box around all points and boxes."""
    xs = [x for x, _, _ in all_points(steps)]
    ys = [y for _, y, _ in all_points(steps)]
    for step in steps:
        if step.box is not None:
            xs += [step.box[0], step.box[2]]
            ys += [step.box[1], step.box[3]]
    return min(xs), min(ys), max(xs), max(ys)
