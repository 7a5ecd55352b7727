"""What the overlays and the status line say of a session."""

import numpy as np
from napari.utils.colormaps import label_colormap

from samlet.errors import UserError
from samlet_napari.inference.prompts import box_of
from samlet_napari.inference.roi import Extent
from samlet_napari.inference.worker import Answer
from samlet_napari.layers.layer_reader import Plane
from samlet_napari.session.session import Session
from samlet_napari.viewer.overlays import HOVER, MASK, Overlays, framed, outlined

LINE_SHARE = 300
"""Lines are so many times thinner than what the user sees is wide."""


def show(session: Session, overlays: Overlays) -> None:
    """Show the object that is being clicked, or else what lies under the cursor."""
    draft = session.draft
    overlays.set_colour(_colour(session))
    overlays.show_points(
        None if draft is None else draft.plane, () if draft is None else draft.steps
    )
    if draft is None:
        _show_answer(session, overlays, session.hover, HOVER, None)
    else:
        overlays.show_points(draft.plane, draft.steps)
        _show_answer(session, overlays, draft.answer, MASK, box_of(draft.steps))


def show_box(session: Session, overlays: Overlays, plane: Plane, box: Extent) -> None:
    """Show a box while it is dragged, given by two opposite corners."""
    height, width = session.size_of(plane)
    left, right = sorted(min(max(round(x), 0), width) for x in (box[0], box[2]))
    top, bottom = sorted(min(max(round(y), 0), height) for y in (box[1], box[3]))
    if right > left and bottom > top:
        empty = np.zeros((bottom - top, right - left), np.uint8)
        frame = (0, 0, right - left, bottom - top)
        values = framed(empty, frame, _thickness(session))
        overlays.show(plane, (left, top, right, bottom), values)


def sentence(session: Session, image: str) -> str:
    """Say how things stand with an image of that name, and what can be done."""
    if session.error:
        return session.error
    if session.waiting:
        return "The model looks at the image; your clicks are answered in turn."
    if session.draft is not None:
        return (
            "C commits the object, Tab shows another mask, a click refines it (Ctrl: not this), "
            "Z takes it back."
        )
    if session.last is not None and session.store is not None:
        return (
            f"Object {session.last[0]} is in {session.store.layer.name}. Click on the next one, "
            "or press E on an object to edit it."
        )
    return f"Click on an object of {image}."


def _show_answer(
    session: Session, overlays: Overlays, answer: Answer | None, value: int, frame: Extent | None
) -> None:
    mask = None if answer is None else answer.mask
    if answer is None or mask is None:
        overlays.clear()
        return
    window = answer.ask.window
    values = outlined(mask, value, _thickness(session))
    if frame is not None:
        left, top = window.box[:2]
        values = framed(values, np.array(frame) - (left, top, left, top), _thickness(session))
    overlays.show(window.plane, window.box, values)


def _thickness(session: Session) -> int:
    return max(1, round(session.visible / LINE_SHARE))


def _colour(session: Session) -> np.ndarray:
    """The colour that the object has, or will have, among the labels."""
    draft, store = session.draft, session.store
    if store is None:
        return np.asarray(label_colormap().map(1))
    try:
        label = store.next_label() if draft is None or draft.label is None else draft.label
    except UserError:
        # It will be told when the object is committed.
        label = 1
    return np.asarray(store.layer.get_color(label))
