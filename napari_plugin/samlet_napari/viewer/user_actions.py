"""What a user does on the canvas, or with a key or button."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from samlet.errors import UserError
from samlet_napari.session.session import Session
from samlet_napari.viewer import display

if TYPE_CHECKING:
    from samlet_napari.ui.controller import Controller


class Gestures:
    """Brings gestures to a controller's session, early ones as soon as there is one.

    Places are in the world's coordinates, as napari's events and its cursor give them.

    Args:
        controller: whose.

    Attributes:
        is_live: whether what lies under the cursor is shown.
    """

    def __init__(self, controller: "Controller") -> None:
        self.is_live = True
        self._controller = controller
        self._early: list[Callable[[], None]] = []

    def click(self, position: Sequence[float], positive: bool = True) -> None:
        """Click on an object, or beside it."""
        view = self._controller.view
        self._soon(lambda session: session.click(*view().place(position), positive))

    def scribble(self, positions: Sequence[Sequence[float]], positive: bool = True) -> None:
        """Draw a stroke."""

        def add(session: Session) -> None:
            view = self._controller.view()
            places = [view.place(position) for position in positions]
            session.scribble(places[0][0], [(x, y) for _, x, y in places], positive)

        self._soon(add)

    def draw_box(self, a: Sequence[float], b: Sequence[float]) -> None:
        """Draw a box from corner to corner."""

        def add(session: Session) -> None:
            view = self._controller.view()
            (plane, x0, y0), (_, x1, y1) = view.place(a), view.place(b)
            # Boxes run along pixel edges, and coordinates are those of pixel centres.
            session.draw_box(plane, (x0 + 0.5, y0 + 0.5, x1 + 0.5, y1 + 0.5))

        self._soon(add)

    def drag_box(self, a: Sequence[float], b: Sequence[float]) -> None:
        """See the box while it is dragged."""
        session, overlays = self._controller.session, self._controller.overlays
        if session is None or overlays is None:
            return
        view = self._controller.view()
        try:
            (plane, x0, y0), (_, x1, y1) = view.place(a), view.place(b)
        except UserError:
            return
        display.show_box(session, overlays, plane, (x0, y0, x1, y1))

    def hover(self, position: Sequence[float]) -> None:
        """Move the cursor."""
        session = self._controller.session
        if session is None or not self.is_live:
            return
        view = self._controller.view()
        try:
            plane, x, y = view.place(position)
            session.visible = view.extent()
        except UserError:
            return
        was_shown = session.hover is not None
        session.point_at(plane, x, y)
        if was_shown and session.hover is None:
            self._controller.show()

    def leave(self) -> None:
        """Move the cursor off the canvas."""
        session = self._controller.session
        if session is not None and session.hover is not None:
            session.point_nowhere()
            self._controller.show()

    def commit(self) -> None:
        """Put the object into the labels."""

        def do(session: Session) -> None:
            if session.draft is not None:
                self._controller.label_store()
            session.commit()

        self._soon(do)

    def undo(self) -> None:
        """Take back the last prompt, or else the last commit."""

        def do(session: Session) -> str:
            what = session.undo()
            return f"Took back {what}." if what else "There is nothing to take back."

        self._soon(do)

    def cancel(self) -> None:
        """Drop the object."""
        self._soon(Session.cancel)

    def next_candidate(self) -> None:
        """Show another of three masks."""
        self._soon(Session.next_candidate)

    def edit(self) -> None:
        """Take up the object under the cursor again."""
        where = self._controller.viewer.cursor.position

        def do(session: Session) -> None:
            session.edit(*self._controller.view().place(where))

        self._soon(do)

    def stop(self) -> None:
        """Drop what waits for the model, and end long work."""
        self.forget()
        self._controller.stop()

    def catch_up(self) -> bool:
        """Do what was done before there was a session; tell whether that was anything."""
        early, self._early = self._early, []
        for do in early:
            do()
        return bool(early)

    def forget(self) -> None:
        """The image is another one: early gestures were not meant for it."""
        self._early.clear()

    def _soon(self, do: Callable[[Session], Any]) -> None:
        """Do something with the session, once there is one, and show what has become of it.

        Args:
            do: gives what is to be told; None for how things stand.
        """
        controller = self._controller
        try:
            session = controller.ready()
            if session is None:
                self._early.append(partial(self._soon, do))
                controller.status.emit("The model is being loaded; your clicks are not lost.")
                return
            session.error = ""
            session.visible = controller.view().extent()
            if session.auto_commit:
                controller.label_store()
            told = do(session)
        except UserError as error:
            told = str(error)
        controller.show()
        if told is None:
            controller.tell()
        else:
            controller.status.emit(told)
