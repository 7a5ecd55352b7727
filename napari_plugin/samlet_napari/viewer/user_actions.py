"""What a user does on the canvas, with a key or with a button."""

from collections.abc import Callable, Sequence
from functools import partial

from samlet.errors import UserError
from samlet_napari.session.session import Session
from samlet_napari.viewer import display
from samlet_napari.viewer.workspace import Workspace


class UserActions:
    """Applies user actions to a workspace's session; early ones as soon as there is a session.

    Positions are in world coordinates, as napari's events and its cursor give them.

    Args:
        workspace: whose session.

    Attributes:
        is_live: whether what lies under the cursor is shown.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.is_live = True
        self._workspace = workspace
        self._early: list[Callable[[], None]] = []

    def click(self, position: Sequence[float], positive: bool = True) -> None:
        """Click on an object, or beside it."""
        view = self._workspace.view
        self._when_opened(lambda session: session.click(*view().to_pixel(position), positive))

    def scribble(self, positions: Sequence[Sequence[float]], positive: bool = True) -> None:
        """Draw a stroke."""

        def add(session: Session) -> None:
            view = self._workspace.view()
            points = [view.to_pixel(position) for position in positions]
            session.scribble(points[0][0], [(x, y) for _, x, y in points], positive)

        self._when_opened(add)

    def draw_box(self, a: Sequence[float], b: Sequence[float]) -> None:
        """Draw a box from corner to corner."""

        def add(session: Session) -> None:
            view = self._workspace.view()
            (plane, x0, y0), (_, x1, y1) = view.to_pixel(a), view.to_pixel(b)
            # Boxes run along pixel edges, and coordinates are those of pixel centres.
            session.draw_box(plane, (x0 + 0.5, y0 + 0.5, x1 + 0.5, y1 + 0.5))

        self._when_opened(add)

    def drag_box(self, a: Sequence[float], b: Sequence[float]) -> None:
        """Show the box while it is dragged."""
        session, overlays = self._workspace.session, self._workspace.overlays
        if session is None or overlays is None:
            return
        view = self._workspace.view()
        try:
            (plane, x0, y0), (_, x1, y1) = view.to_pixel(a), view.to_pixel(b)
        except UserError:
            return
        display.show_box(session, overlays, plane, (x0, y0, x1, y1))

    def hover(self, position: Sequence[float]) -> None:
        """Move the cursor."""
        session = self._workspace.session
        if session is None or not self.is_live:
            return
        view = self._workspace.view()
        try:
            plane, x, y = view.to_pixel(position)
            session.visible_size = view.visible_size()
        except UserError:
            return
        was_shown = session.hover_response is not None
        session.hover(plane, x, y)
        if was_shown and session.hover_response is None:
            self._workspace.show()

    def leave_canvas(self) -> None:
        """Move the cursor off the canvas."""
        session = self._workspace.session
        if session is not None and session.hover_response is not None:
            session.clear_hover()
            self._workspace.show()

    def commit(self) -> None:
        """Write the object to the labels."""

        def apply(session: Session) -> None:
            if session.draft is not None:
                self._workspace.label_store()
            session.commit()

        self._when_opened(apply)

    def undo(self) -> None:
        """Undo the last prompt, or else the last commit."""

        def apply(session: Session) -> str:
            what = session.undo()
            return f"Undid {what}." if what else "There is nothing to undo."

        self._when_opened(apply)

    def cancel(self) -> None:
        """Drop the object."""
        self._when_opened(Session.cancel)

    def next_candidate(self) -> None:
        """Show another of three masks."""
        self._when_opened(Session.next_candidate)

    def edit(self) -> None:
        """Open the object under the cursor again."""
        position = self._workspace.viewer.cursor.position

        def apply(session: Session) -> None:
            session.edit(*self._workspace.view().to_pixel(position))

        self._when_opened(apply)

    def run_early(self) -> bool:
        """Apply what was done before there was a session; return whether that was anything."""
        early, self._early = self._early, []
        for action in early:
            action()
        return bool(early)

    def discard_early(self) -> None:
        """Forget what was done before there was a session, since it was meant for another image."""
        self._early.clear()

    def _when_opened(self, action: Callable[[Session], str | None]) -> None:
        """Apply an action to the session, once there is one, and show the result.

        Args:
            action: returns a sentence for the status; None for one on the state of the session.
        """
        workspace = self._workspace
        try:
            session = workspace.opened_session()
            if session is None:
                self._early.append(partial(self._when_opened, action))
                workspace.status.emit("The model is being loaded; your clicks are not lost.")
                return
            session.error = ""
            session.visible_size = workspace.view().visible_size()
            if session.auto_commit:
                workspace.label_store()
            message = action(session)
        except UserError as error:
            message = str(error)
        workspace.show()
        if message is None:
            workspace.report()
        else:
            workspace.status.emit(message)
