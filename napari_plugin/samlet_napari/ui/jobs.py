"""Long work on an image: loading a model, finding everything, going through a stack.

It runs in napari's worker threads on snapshots, hands over what it has found piece by piece, and
can be stopped between the pieces.
"""

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from psygnal import Signal
from qtpy.QtCore import QObject
from qtpy.QtCore import Signal as QtSignal

from samlet.errors import UserError
from samlet.everything.segment import segment_everything
from samlet.masks import Box, crop_mask
from samlet.predict.predictor import Predictor
from samlet_napari.inference import models
from samlet_napari.inference.prompts import Placed, Step
from samlet_napari.inference.propagate import Found, propagate
from samlet_napari.inference.roi import Window, surroundings
from samlet_napari.inference.worker import Encodings
from samlet_napari.layers.layer_reader import Plane

if TYPE_CHECKING:
    from samlet_napari.ui.controller import Controller

PIECE = 50
"""Objects that are written at once: the window answers between two pieces."""


class _Bridge(QObject):
    progressed = QtSignal(float)


class _StoppedError(Exception):
    """The user does not want it any more."""


class Jobs:
    """The long work of a controller, one piece of work at a time.

    Args:
        controller: whose image and session.

    Attributes:
        progress: emitted with the share that is done, 0 to 1; -1 at the end.
    """

    progress = Signal(float)

    def __init__(self, controller: "Controller") -> None:
        self._controller = controller
        self._bridge = _Bridge()
        self._bridge.progressed.connect(self.progress.emit)
        self._stopped = threading.Event()
        self._worker: Any = None

    @property
    def is_running(self) -> bool:
        """Whether there is work that `stop` would end."""
        return self._worker is not None

    def load(
        self, name: str, then: Callable[[Predictor], None], refuse: Callable[[str], None]
    ) -> None:
        """Load a model, and go on with it, or with the reason why it cannot be had."""

        def take(loaded: Predictor | str) -> None:
            if isinstance(loaded, str):
                refuse(loaded)
            else:
                then(loaded)

        worker = create_worker(_load, name, _start_thread=False)
        worker.returned.connect(take)
        worker.start()

    def everything(self, only_visible: bool = False) -> None:
        """Find all objects of the plane, or of what of it is seen, and write them.

        Raises:
            UserError: there is no image, or something else is being done.
        """
        encodings = self._begin()
        controller = self._controller
        view = controller.view()
        plane = view.plane()
        height, width = encodings.picture.size(plane)
        box = view.box() if only_visible else (0, 0, width, height)
        controller.label_store()
        count = 0

        def take(found: list[tuple[Placed, Box, np.ndarray]]) -> None:
            nonlocal count
            session = controller.session
            if session is not None and session.store is not None:
                count += session.put(found, goes_on=count > 0)

        def tell() -> str:
            where = "what you see" if only_visible else "the image"
            if count == 0:
                return f"Found no objects in {where} but those that are there already."
            return f"Found {_told(count, 'object')} in {where}. Z takes them back together."

        stopped = self._stopped = threading.Event()
        work = create_worker(
            _find_all, encodings, plane, box, self._bridge.progressed.emit, stopped,
            _start_thread=False,
        )  # fmt: skip
        controller.status.emit("Looking for all objects ...")
        self._run(work, take, tell)

    def propagate(self, forward: bool = True) -> None:
        """Carry the object through the slices after this one, or before it.

        Raises:
            UserError: there is no object, or no stack, or something else is being done.
        """
        encodings = self._begin()
        controller = self._controller
        label, start, store = controller.committed()
        view = controller.view()
        axis = view.slice_axis(start)
        if axis is None:
            raise UserError("This image is no stack: there are no other slices to go through.")
        # It may have been painted on since it was written.
        box = store.extent_of(start, label)
        if box is None:
            raise UserError(f"Object {label} has no pixel in this slice: click on it first.")
        here, count = start.index[axis], encodings.picture.shape[axis]
        numbers = range(here + 1, count) if forward else range(here - 1, -1, -1)
        planes = [start.moved(axis, number) for number in numbers]
        if not planes:
            where = "after" if forward else "before"
            raise UserError(f"There is no slice {where} this one: propagate the other way.")
        # What the user has said about a slice stays.
        told = [i for i, p in enumerate(planes) if _has_clicks(store.placed(label, p))]
        stale = [p for p in planes[: told[0] if told else None] if store.placed(label, p)]
        planes = planes[: told[0]] if told else planes
        if not planes:
            raise UserError(
                f"You have clicked on object {label} in slice {numbers[0]}, which is never "
                "overwritten: go there, press E on it, and propagate from there."
            )
        done: list[Plane] = []

        def take(found: Found) -> None:
            session = controller.session
            if session is None or session.store is not store:
                return
            plane = found.placed.plane
            if store.placed(label, plane) is None and store.extent_of(plane, label) is not None:
                raise UserError(
                    f"Object {label} goes on through {_told(len(done), 'slice')}, up to slice "
                    f"{plane.index[axis]}, where it was painted by hand, which is never "
                    "overwritten: press E on it there, and propagate from there."
                )
            session.put([(found.placed, found.box, found.mask)], label, goes_on=bool(done))
            done.append(plane)
            self.progress.emit(len(done) / len(planes))
            controller.view().go_to(plane)

        def tell() -> str:
            session = controller.session
            gone = [p for p in stale if p not in done]
            if session is not None and session.store is store and gone:
                session.put([(Placed(p, (), None), box, None) for p in gone], label, bool(done))
            if not done:
                others = len(view.slice_axes(start)) > 1
                remedy = ", or first move the slider that it is to follow" if others else ""
                return (
                    f"Object {label} was not found in slice {numbers[0]} of axis {axis}: click on "
                    f"it there{remedy}."
                )
            last = done[-1].index[axis]
            end = "the end of the stack" if len(done) == len(planes) else f"slice {last}"
            if told and len(done) == len(planes):
                end = f"slice {last}, before one that you have clicked in"
            return (
                f"Object {label} goes on through {_told(len(done), 'slice')}, up to {end}. Correct "
                "one with E and clicks, and propagate again from there."
            )

        mask = store.mask_of(start, label, box)
        stopped = self._stopped = threading.Event()
        work = create_worker(
            _follow, encodings, start, box, mask, planes, controller.view().extent(), stopped,
            _start_thread=False,
        )  # fmt: skip
        controller.status.emit(f"Following object {label} through the stack ...")
        self._run(work, take, tell)

    def stop(self) -> None:
        """End what is running; what it has found stays."""
        self._stopped.set()

    def _begin(self) -> Encodings:
        if self._worker is not None:
            raise UserError("Something is still being done: wait for it, or press Stop.")
        self._controller.ready()
        encodings = self._controller.encodings
        if encodings is None:
            raise UserError("The image is still being opened: try again in a moment.")
        return encodings

    def _run(self, worker: Any, take: Callable[[Any], None], tell: Callable[[], str]) -> None:
        stopped = self._stopped
        error: list[str] = []

        def taken(found: Any) -> None:
            if isinstance(found, str):
                error.append(found)
            elif not stopped.is_set():
                try:
                    take(found)
                except UserError as mistake:
                    error.append(str(mistake))
                    stopped.set()

        def ended() -> None:
            self._worker = None
            self.progress.emit(-1.0)
            if error:
                self._controller.status.emit(error[0])
            elif stopped.is_set():
                self._controller.status.emit("Stopped.")
            else:
                try:
                    told = tell()
                except UserError as mistake:
                    told = str(mistake)
                self._controller.status.emit(told)

        worker.yielded.connect(taken)
        worker.finished.connect(ended)
        self._worker = worker
        self.progress.emit(0.0)
        worker.start()


def _told(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _has_clicks(placed: Placed | None) -> bool:
    return placed is not None and any(step.points for step in placed.steps)


def _load(name: str) -> Predictor | str:
    # Of an error that is returned, or raised, napari would make a dialog.
    try:
        return models.predictor(name)
    except UserError as error:
        return str(error)


def _find_all(
    encodings: Encodings,
    plane: Plane,
    box: Box,
    tell: Callable[[float], None],
    stopped: threading.Event,
) -> Iterator[list[tuple[Placed, Box, np.ndarray]] | str]:
    def progress(share: float) -> None:
        if stopped.is_set():
            raise _StoppedError
        tell(share)

    try:
        seen = surroundings(box, encodings.picture.size(plane), encodings.side)
        pixels = encodings.picture.read(plane, seen, max(seen[2] - seen[0], seen[3] - seen[1]))
        objects = segment_everything(encodings.predictor, pixels, progress=progress)
    except _StoppedError:
        return
    except UserError as error:
        yield str(error)
        return
    view = Window(plane, box)
    found = [_placed(record, plane, seen) for record in objects]
    found = [each for each in found if view.holds(each[1])]
    for first in range(0, len(found), PIECE):
        yield found[first : first + PIECE]


def _placed(record: dict[str, Any], plane: Plane, box: Box) -> tuple[Placed, Box, np.ndarray]:
    cutout = crop_mask(record["segmentation"])
    left, top = box[0] + cutout.x, box[1] + cutout.y
    height, width = cutout.mask.shape
    points = tuple((box[0] + x, box[1] + y, True) for x, y in record["point_coords"])
    where = (left, top, left + width, top + height)
    return Placed(plane, (Step(points),), None), where, cutout.mask


def _follow(
    encodings: Encodings,
    start: Plane,
    box: Box,
    mask: np.ndarray,
    planes: list[Plane],
    visible: float,
    stopped: threading.Event,
) -> Iterator[Found | str]:
    try:
        for found in propagate(encodings, start, box, mask, planes, visible):
            if stopped.is_set():
                return
            yield found
    except UserError as error:
        yield str(error)
