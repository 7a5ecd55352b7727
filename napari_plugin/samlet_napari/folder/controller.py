"""Goes through the images of a folder in a viewer, and saves their labels.

Everything here runs in the GUI thread. Images are read, and labels written, elsewhere.
"""

import gc
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QEventLoop, QTimer

from samlet.errors import UserError
from samlet_napari.folder.everything import FoundInImage
from samlet_napari.folder.image_folder import ImageFolder
from samlet_napari.folder.loader import LoadedImage, Loader
from samlet_napari.folder.search import FolderSearch
from samlet_napari.folder.shown_image import ShownImage
from samlet_napari.ui.main_thread import in_main_thread

SAVE_MS = 1000
"""Time after which changes are looked for; commits and strokes are saved at once."""
SAVING_SHARE = 20
"""Looking for changes takes at most one in so many parts of the time."""
RETRY_MS = 5000
"""Time after which labels that could not be saved are saved again."""
WAIT_MS = 50
COMMIT_SECONDS = 10.0
"""How long the end of the window waits for objects that the model has not finished."""


class FolderController:
    """A folder's images in a viewer, one at a time.

    Args:
        viewer: gets an image and its labels as layers.

    Attributes:
        status: emitted with a sentence whenever something happens.
        opened: emitted when a folder is opened.
        moved: emitted when another image is shown, or none.
        changed: emitted with the index of an image whose state has changed.
        folder: None until one is opened.
        index: of the image that was chosen last, whether or not it could be opened; None if none.
        shown: the layers of an image in the viewer.
        search: finds all objects of the folder's untouched images.
        is_closed: whether it has let go of its folder for good.
        skip_done: whether the next and the previous image are ones that are not done.
    """

    status = Signal(str)
    opened = Signal()
    moved = Signal()
    changed = Signal(int)

    def __init__(self, viewer: ViewerModel) -> None:
        self.folder: ImageFolder | None = None
        self.index: int | None = None
        self.shown = ShownImage(viewer, self._autosave, self._on_removed)
        self.search = FolderSearch(self._on_searched)
        self.skip_done = False
        self._viewer = viewer
        self._loader: Loader | None = None
        self._target: int | None = None
        self._is_listing = False
        self._step = 1
        self._passed_over = ""
        self.is_closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="samlet-folder")
        self._encoding: Future[object] | None = None
        self._encoded_ahead: tuple[Image, ...] | None = None
        self._timer = QTimer()
        self._timer.timeout.connect(self._on_timer)

    @property
    def current(self) -> LoadedImage | None:
        """The image that is shown; None if there is none."""
        return self.shown.loaded

    @property
    def is_opening(self) -> bool:
        """Whether an image was chosen and is not shown yet."""
        return self._target is not None

    @property
    def is_ahead(self) -> bool:
        """Whether the next image is encoded already."""
        return self._encoded_ahead is not None and _is_done(self._encoding)

    # What a user does.

    def open(self, path: str | Path) -> None:
        """Show the images of a folder, beginning with the first that is not done."""
        if self._may_leave():
            self._when_written(partial(self._open, Path(path)))

    def _open(self, path: Path) -> None:
        if self._is_listing:
            return
        try:
            self.save()
        except UserError as error:
            self.status.emit(str(error))
            return
        # It may be the same, listed anew.
        self.shown.show(None)
        self._close_folder()
        self.opened.emit()
        self.moved.emit()
        self._is_listing = True
        self.status.emit(f"Listing the images of {path} ...")
        self._pool.submit(self._list, path)

    def go_to(self, index: int) -> None:
        """Show another image, once its labels are read and those of this one are saved."""
        folder = self.folder
        if folder is None:
            return
        if self.current is not None and index == self.current.index:
            self._target = None
            self._claim()
            return
        if self._target is None and not self._may_leave():
            return
        self._target = index
        self.status.emit(f"Opening {folder.name(index)} ...")
        self._when_written(self._load_target)

    def go_on(self, step: int = 1) -> None:
        """Show the next image, or with -1 the previous one."""
        folder = self.folder
        if folder is None:
            self.status.emit("Open a folder first.")
            return
        self._step = step
        here = self.index if self._target is None else self._target
        index = folder.neighbour(here, step, self.skip_done)
        if index is None:
            which = "last" if step > 0 else "first"
            of = " that is not done" if self.skip_done else ""
            self.status.emit(f"This is the {which} image{of}.")
            return
        start = -1 if here is None else here
        errors = (folder.error(i) for i in range(start + step, index, step))
        self._passed_over = next(filter(None, errors), "")
        self.go_to(index)

    def set_done(self, is_done: bool) -> bool:
        """Mark the image as done or not, and return whether that was possible."""
        current, folder = self.current, self.folder
        if current is None or folder is None or not self._may_leave():
            return False
        try:
            self._report_kept(current.file.save(even_empty=True))
            folder.set_done(current.index, is_done)
        except UserError as error:
            self.status.emit(str(error))
            return False
        self.changed.emit(current.index)
        return True

    def finish(self) -> None:
        """Mark the image as done, and show the next one."""
        if self._target is None and self.set_done(True):
            self.go_on()

    def start_search(self) -> None:
        """Find all objects of the images that are untouched, in the background."""
        if self.folder is None:
            self.status.emit("Open a folder first.")
            return
        segment = self.shown.segment
        is_waiting = (lambda: segment.is_inferring) if segment is not None else (lambda: False)
        try:
            model = segment.model if segment else None
            self.search.start(self.folder, model, self.shown.channel, is_waiting)
        except UserError as error:
            self.status.emit(str(error))

    def save(self) -> None:
        """Save what has changed, here and now.

        Raises:
            UserError: it cannot be saved.
        """
        if self.current is not None:
            self._report_kept(self.current.file.save())
            self._look_at_labels(self.current.index)

    def wait_for_commits(self) -> None:
        """Wait a while for objects that were committed before the model had them."""
        session = self.shown.session
        end = time.monotonic() + COMMIT_SECONDS
        while session is not None and session.is_writing and time.monotonic() < end:
            loop = QEventLoop()
            QTimer.singleShot(WAIT_MS, loop.quit)
            loop.exec()

    def close(self, remove_layers: bool) -> None:
        """Let go of the folder for good, without saving.

        Args:
            remove_layers: whether the image and its labels, which are not saved from now on, are
                removed from the viewer.
        """
        self.is_closed = True
        # Those who listen may be gone with the window.
        for signal in (self.status, self.opened, self.moved, self.changed):
            signal.disconnect()
        self.search.close()
        self.shown.close(remove_layers)
        self._close_folder()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # Opening a folder.

    def _list(self, path: Path) -> None:
        try:
            folder = ImageFolder(path)
        except UserError as error:
            self._on_listed(None, str(error))
        # Disks may fail in any way.
        except OSError as error:
            self._on_listed(None, f"{path} cannot be listed ({error}): check the disk.")
        else:
            self._on_listed(folder, "")

    @in_main_thread
    def _on_listed(self, folder: ImageFolder | None, error: str) -> None:
        self._is_listing = False
        if folder is None:
            self.status.emit(error)
            return
        if self.is_closed:
            folder.close()
            return
        # With each image that goes, napari collects garbage, and looks through all that PyTorch and
        # others have imported: half a second each time, unless that is known to stay.
        gc.freeze()
        self.folder = folder
        self._loader = Loader(folder, self._on_loaded, self._on_read_ahead)
        self._timer.start(SAVE_MS)
        self.opened.emit()
        first = folder.neighbour(None, 1, skip_done=True)
        self.go_to(0 if first is None else first)

    def _close_folder(self) -> None:
        # At the end of the process Qt may have deleted it before us.
        with suppress(RuntimeError):
            self._timer.stop()
        self.search.stop()
        if self._loader is not None:
            self._loader.close()
        if self.folder is not None:
            self.folder.close()
        self._loader = self.folder = self.index = self._target = self._encoded_ahead = None

    # Going from one image to another.

    def _may_leave(self) -> bool:
        """Whether nothing would be lost of the image; else the status tells what."""
        reason = self.shown.reason_to_stay
        if reason:
            self._stay(reason)
        return not reason

    def _stay(self, reason: str) -> None:
        """Go nowhere, and say why."""
        self._target = None
        self._claim()
        self.status.emit(reason)
        # The list may have selected another image.
        self.moved.emit()

    def _when_written(self, then: Callable[[], None]) -> None:
        """Do something once the objects that were committed before the model had them are there."""
        session = self.shown.session
        if session is not None and session.is_writing:
            QTimer.singleShot(WAIT_MS, partial(self._when_written, then))
        else:
            then()

    def _load_target(self) -> None:
        folder, loader, index = self.folder, self._loader, self._target
        if folder is None or loader is None or index is None:
            return
        try:
            self.save()
        except UserError as error:
            self._stay(str(error))
            return
        self._claim()
        loader.load(index)

    @in_main_thread
    def _on_loaded(self, index: int, loaded: LoadedImage | UserError) -> None:
        folder = self.folder
        if folder is None or index != self._target:
            return
        self._target = None
        folder.set_error(index, str(loaded) if isinstance(loaded, UserError) else "")
        try:
            if not self._may_leave():
                return
            self.save()
        except UserError as error:
            self._stay(str(error))
            return
        if isinstance(loaded, UserError):
            self._show(index, None)
            self.status.emit(str(loaded))
        else:
            self._show(index, loaded)
            passed_over, self._passed_over = self._passed_over, ""
            state = folder.state(index).value
            self.status.emit(f"{folder.name(index)}: {state}. {passed_over}".rstrip())
        self.changed.emit(index)

    def _show(self, index: int, loaded: LoadedImage | None) -> None:
        self.index = index
        self.shown.show(loaded)
        self._claim()
        self._encoded_ahead = None
        self.moved.emit()
        self._read_ahead()

    def _claim(self) -> None:
        """Keep the search from the images that the user has, or is about to have."""
        if self.folder is not None:
            here = [] if self.current is None else [self.current.index]
            self.folder.set_open(*here, *([] if self._target is None else [self._target]))

    # What happens by itself.

    def _on_timer(self) -> None:
        start = time.monotonic()
        delay = self._autosave()
        taken = time.monotonic() - start
        self._timer.setInterval(max(delay, round(1000 * SAVING_SHARE * taken)))
        self.shown.attach()
        self._encode_ahead()

    def _autosave(self) -> int:
        """Save in a thread what has changed; return the milliseconds until the next time."""
        current = self.current
        if current is None or current.file.is_writing:
            return SAVE_MS
        try:
            self._report_kept(current.file.finish())
        except UserError as error:
            self.status.emit(f"{error} The labels stay open, and are saved as soon as possible.")
            current.file.start()
            return RETRY_MS
        self._look_at_labels(current.index)
        current.file.start()
        return SAVE_MS

    def _read_ahead(self) -> None:
        if self.folder is None or self._loader is None or self.index is None:
            return
        index = self.folder.neighbour(self.index, self._step, self.skip_done)
        if index is not None:
            self._loader.read_ahead(index)

    @in_main_thread
    def _on_read_ahead(self, index: int, error: str) -> None:
        if self.folder is not None and error:
            self.folder.set_error(index, error)
            self.changed.emit(index)
            self._read_ahead()

    def _encode_ahead(self) -> None:
        """Encode the image that was read ahead, once the user waits for nothing."""
        segment, loader = self.shown.segment, self._loader
        if segment is None or loader is None or not segment.is_idle:
            return
        if not _is_done(self._encoding):
            return
        ahead = loader.image_read_ahead()
        if ahead is None or ahead is self._encoded_ahead:
            return
        self._encoded_ahead = ahead
        try:
            encode = segment.encoding_of(self.shown.seen_of(ahead))
        except UserError:
            # It is reported when the image is shown.
            return
        if encode is not None:
            self._encoding = self._pool.submit(encode)

    def _on_removed(self, layer: Any) -> None:
        current = self.current
        if current is None:
            return
        try:
            self.save()
        except UserError as error:
            self._viewer.add_layer(layer)
            self.status.emit(str(error))
            return
        self._show(current.index, None)
        self.status.emit(f"{current.name} was closed, and its labels are saved.")

    def _on_searched(self, found: FoundInImage | int) -> None:
        """Take in what the search could not write: the image is open, or has been touched."""
        current, folder = self.current, self.folder
        if folder is None:
            return
        if isinstance(found, int):
            self.changed.emit(found)
            return
        if current is not None and current.index == found.index:
            if not current.file.has_content:
                found.put_into(current.labels)
        else:
            try:
                found.write(folder)
            except UserError as error:
                self.status.emit(str(error))
        self._look_at_labels(found.index)

    # The rest.

    def _report_kept(self, sentence: str) -> None:
        if sentence:
            self.status.emit(sentence)

    def _look_at_labels(self, index: int) -> None:
        if self.folder is None:
            return
        before = self.folder.state(index)
        self.folder.look_at_labels(index)
        if self.folder.state(index) is not before:
            self.changed.emit(index)


def _is_done(work: Future[object] | None) -> bool:
    return work is None or work.done()
