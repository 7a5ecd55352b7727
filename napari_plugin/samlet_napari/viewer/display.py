"""What the overlays and the status line show of a session."""

import numpy as np
from napari.utils.colormaps import label_colormap

from samlet.errors import UserError
from samlet.utils.messages import pluralize
from samlet_napari.inference.prompts import last_box
from samlet_napari.inference.requests import Response
from samlet_napari.inference.roi import FloatBox
from samlet_napari.layers.plane import Plane
from samlet_napari.session.session import Session
from samlet_napari.session.similar_objects import SimilarObjects
from samlet_napari.viewer.overlays import HOVER, LINE, MASK, Overlays, draw_frame, draw_outline

LINES_PER_VIEW = 300
"""How many lines side by side would fill what the user sees: it decides their thickness."""


def show(session: Session, overlays: Overlays) -> None:
    """Show the object that is being clicked, or else similar ones, or what is under the cursor."""
    draft = session.draft
    overlays.set_colour(_colour(session))
    overlays.show_points(
        None if draft is None else draft.plane, () if draft is None else draft.steps
    )
    if draft is None and session.similar is not None:
        similar = session.similar
        overlays.show(similar.plane, similar.box, similar.values(MASK, LINE))
    elif draft is None:
        _show_response(session, overlays, session.hover_response, HOVER, None)
    else:
        overlays.show_points(draft.plane, draft.steps)
        _show_response(session, overlays, draft.response, MASK, last_box(draft.steps))


def show_box(session: Session, overlays: Overlays, plane: Plane, box: FloatBox) -> None:
    """Show a box while it is dragged, given by two opposite corners."""
    height, width = session.plane_size(plane)
    left, right = sorted(min(max(round(x), 0), width) for x in (box[0], box[2]))
    top, bottom = sorted(min(max(round(y), 0), height) for y in (box[1], box[3]))
    if right > left and bottom > top:
        empty = np.zeros((bottom - top, right - left), np.uint8)
        frame = (0, 0, right - left, bottom - top)
        values = draw_frame(empty, frame, line_thickness(session))
        overlays.show(plane, (left, top, right, bottom), values)


def describe(session: Session, image: str) -> str:
    """One sentence on the state of a session on an image of that name, and what can be done."""
    if session.error:
        return session.error
    if session.waiting:
        return "The model is encoding the image; your clicks are processed in order."
    if session.draft is not None:
        return (
            "C commits the object, Tab shows another mask, a click refines it (Ctrl: not this), "
            "Z undoes it."
        )
    if session.similar is not None:
        return describe_similar(session.similar)
    labels = session.labels
    if labels.last is not None and labels.store is not None:
        return (
            f"Object {labels.last[0]} is in {labels.store.layer.name}. Click on the next one, "
            "or press E on an object to edit it."
        )
    return f"Click on an object of {image}."


def describe_similar(similar: SimilarObjects) -> str:
    """How many similar objects are shown, and what can be done."""
    return (
        f"{pluralize(len(similar.kept), 'object')} with a likeness of {similar.threshold:.2f} or "
        "more. The slider shows more or fewer, C commits them, Esc drops them."
    )


def _show_response(
    session: Session,
    overlays: Overlays,
    response: Response | None,
    value: int,
    frame: FloatBox | None,
) -> None:
    mask = None if response is None else response.mask
    if response is None or mask is None:
        overlays.clear()
        return
    roi = response.request.roi
    values = draw_outline(mask, value, line_thickness(session))
    if frame is not None:
        left, top = roi.box[:2]
        values = draw_frame(
            values, np.array(frame) - (left, top, left, top), line_thickness(session)
        )
    overlays.show(roi.plane, roi.box, values)


def line_thickness(session: Session) -> int:
    """Of outlines, in pixels of the image."""
    return max(1, round(session.visible_size / LINES_PER_VIEW))


def _colour(session: Session) -> np.ndarray:
    """The colour that the object has, or will have, among the labels."""
    draft, store = session.draft, session.labels.store
    if store is None:
        return np.asarray(label_colormap().map(1))
    try:
        label = store.next_label() if draft is None or draft.label is None else draft.label
    except UserError:
        # The error is shown when the object is committed.
        label = 1
    return np.asarray(store.layer.get_color(label))
