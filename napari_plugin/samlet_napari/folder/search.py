"""Runs the search for all objects of a folder in the background, and says how far it is."""

import threading
from collections.abc import Callable, Generator

from psygnal import Signal

from samlet.errors import UserError
from samlet_napari.finetune.background import BackgroundWork
from samlet_napari.folder.everything import (
    FoundInImage,
    SearchProgress,
    StoppedError,
    search_folder,
)
from samlet_napari.folder.image_folder import ImageFolder
from samlet_napari.inference import models
from samlet_napari.ui.main_thread import in_main_thread

Searched = FoundInImage | int
"""The index of an image that is finished, or the objects of one that somebody has open."""


class FolderSearch:
    """The search of one folder at a time.

    Args:
        on_searched: called in the GUI thread after each image.

    Attributes:
        status: emitted with a sentence.
        progress: emitted with the fraction done, 0 to 1; -1 at the end.
    """

    status = Signal(str)
    progress = Signal(float)

    def __init__(self, on_searched: Callable[[Searched], None]) -> None:
        self._on_searched = on_searched
        self._background = BackgroundWork(self.status.emit, self._on_change)

    @property
    def is_running(self) -> bool:
        """Whether there is a search that `stop` would end."""
        return self._background.is_running

    def start(
        self,
        folder: ImageFolder,
        model: str | None,
        channel: int | None,
        is_waiting: Callable[[], bool],
    ) -> None:
        """Start a search; see `samlet_napari.folder.everything.search_folder`.

        Args:
            folder: the folder.
            model: the name or file of a model; None for the bundled one.
            channel: that the model sees; None for all, blended.
            is_waiting: whether the user waits for the model.

        Raises:
            UserError: a search is running, or the model is not here.
        """
        if self.is_running:
            raise UserError("Everything is running already: wait for it, or press Stop.")
        name = models.names()[0] if model is None else model
        if not models.is_available(name):
            raise UserError(f"{name} is not here yet: choose it in the widget Segment first.")
        stopped = threading.Event()
        work = self._work(folder, name, channel, stopped, is_waiting)
        self._background.start(work, self._on_result, self._on_searched, stopped=stopped)
        self.status.emit("Everything: loading the model ...")

    def stop(self) -> None:
        """End the search; what is found of the image that it is at is dropped."""
        if self.is_running:
            self._background.stop()
            self.status.emit("Stopped. Everything resumes with the images that are untouched.")
            self._on_change()

    def close(self) -> None:
        """End the search, and say nothing more."""
        self.status.disconnect()
        self.progress.disconnect()
        self.stop()

    def _work(
        self,
        folder: ImageFolder,
        model: str,
        channel: int | None,
        stopped: threading.Event,
        is_waiting: Callable[[], bool],
    ) -> Generator[Searched, None, str]:
        @in_main_thread
        def report(progress: SearchProgress) -> None:
            if not stopped.is_set() and self.is_running:
                self.progress.emit(progress.share)
                self.status.emit(progress.describe())

        try:
            predictor = models.predictor(model)
            progress = yield from search_folder(
                folder, predictor, channel, report, stopped, is_waiting
            )
        except StoppedError:
            return ""
        return progress.describe_result()

    def _on_result(self, sentence: str) -> None:
        self.status.emit(sentence)

    def _on_change(self) -> None:
        self.progress.emit(0.0 if self.is_running else -1.0)
