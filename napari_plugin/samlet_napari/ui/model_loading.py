"""Loads models in napari's worker threads."""

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_info

from samlet.checkpoints.downloads import Progress
from samlet.errors import UserError
from samlet.predict.predictor import Predictor
from samlet_napari.inference import models
from samlet_napari.inference.model_download import Received, download


class ModelLoading:
    """Loads a model in a thread, and calls back in the GUI thread with it, or with an error.

    What samlet's modules log is shown as napari's notifications.

    Args:
        name: of the model.
        on_loaded: called with the model.
        on_error: called with a sentence instead.
        on_progress: called with the bytes received and in all while it is downloaded.
    """

    def __init__(
        self,
        name: str,
        on_loaded: Callable[[Predictor], None],
        on_error: Callable[[str], None],
        on_progress: Progress,
    ) -> None:
        self.name = name
        self._stopped = threading.Event()
        self._is_downloading = False
        log = logging.getLogger("samlet")
        log.setLevel(logging.INFO)
        log.addHandler(_log_notifier)

        def receive(loaded: Predictor | str) -> None:
            self._is_downloading = False
            if self._stopped.is_set():
                return
            if isinstance(loaded, str):
                on_error(loaded)
            else:
                on_loaded(loaded)

        def report(received: Received) -> None:
            if not self._stopped.is_set():
                self._is_downloading = True
                on_progress(*received)

        worker = create_worker(_load, name, self._stopped, _start_thread=False)
        worker.returned.connect(receive)
        worker.yielded.connect(report)
        self._worker: Any = worker
        worker.start()

    @property
    def is_downloading(self) -> bool:
        """Whether there is a download that `stop` would end."""
        return self._is_downloading and not self._stopped.is_set()

    def stop(self) -> None:
        """Call back no more, and end the download; what has arrived is kept."""
        self._stopped.set()
        self._worker.quit()


class _LogNotifier(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        show_info(record.getMessage())


_log_notifier = _LogNotifier()


def _load(name: str, stopped: threading.Event) -> Generator[Received, None, Predictor | str]:
    # napari would show a dialog for an error that is raised or returned.
    try:
        yield from download(name, stopped)
        return models.predictor(name)
    except UserError as error:
        return str(error)
