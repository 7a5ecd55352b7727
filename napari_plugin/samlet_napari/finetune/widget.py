"""The widget "Finetune": from labels that a user has corrected to a model of their own."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject, QTimer

from samlet.errors import UserError
from samlet.utils.messages import format_duration, pluralize
from samlet_napari.finetune.background import BackgroundWork
from samlet_napari.finetune.form import FinetuneForm
from samlet_napari.finetune.messages import describe_progress, describe_result
from samlet_napari.finetune.time_estimate import TimeEstimate, measure
from samlet_napari.finetune.training_data import TrainingData, export
from samlet_napari.finetune.training_run import TrainingRun, new_folder
from samlet_napari.inference import models
from samlet_napari.inference.model_download import Received, describe, download

POLL_MS = 1000
PAUSE_MS = 500
"""Time after a choice before it is acted upon: several change at once when a layer goes."""


class FinetuneWidget(FinetuneForm):
    """Trains the mask decoder on an image layer and a labels layer; shows how it goes.

    Args:
        napari_viewer: whose layers can be chosen.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._viewer = napari_viewer
        self._run: TrainingRun | None = None
        self._time_estimate: TimeEstimate | None = None
        self._started_steps = 0
        self._background = BackgroundWork(self._on_error, self._update_buttons)

        self._polling = QTimer(self.native)
        self._polling.setInterval(POLL_MS)
        self._polling.timeout.connect(self._poll)
        self._pause = QTimer(self.native)
        self._pause.setInterval(PAUSE_MS)
        self._pause.setSingleShot(True)
        self._pause.timeout.connect(self._estimate_if_possible)
        self._connect()

        self.reset_choices()
        self._report("Choose an image layer and its labels.")
        self._update_buttons()
        self._reset_estimate()

    @property
    def is_busy(self) -> bool:
        """Whether something is measured, written or trained."""
        return self._background.is_running or self._polling.isActive()

    def _connect(self) -> None:
        for choice in (self.image_layer, self.labels_layer, self.model):
            choice.changed.connect(self._reset_estimate)
        self.steps.changed.connect(self._show_time)
        self.estimate.clicked.connect(self._measure)
        self.train.clicked.connect(lambda: self._with_model(self._export))
        self.go_on.clicked.connect(self._start)
        self.stop.clicked.connect(self._stop)
        layers = self._viewer.layers.events
        self._layer_events = (layers.inserted, layers.removed, layers.renamed)
        for event in self._layer_events:
            event.connect(self.reset_choices)
        self._viewer.events.theme.connect(self.curve.colour)
        models.model_list.changed.connect(self.reset_choices)
        self.native.destroyed.connect(self._close_down)
        _RemovalFilter(self.native, self._close_down)

    def _with_model(self, then: Callable[[], None]) -> None:
        """Do something with the chosen model, once it is here."""
        name = self.model.value
        if models.is_available(name):
            then()
            return
        if self._snapshot() is None:
            return

        def begin(_: Path) -> None:
            self.bar.value = 0
            then()

        def report(received: Received) -> None:
            count, total = received
            self.bar.max, self.bar.value = 100, round(100 * count / total) if total else 0
            self._report(describe(name, count, total))

        stopped = threading.Event()
        self._background.start(download(name, stopped), begin, report, stopped=stopped)

    # How long a training takes.

    def _reset_estimate(self) -> None:
        self._time_estimate = None
        self._show_time()
        self._pause.start()

    def _estimate_if_possible(self) -> None:
        if self.image_layer.value is None or self.labels_layer.value is None or self.is_busy:
            return
        if models.is_available(self.model.value):
            self._measure()
        else:
            self.time.value = (
                f"{self.model.value} must be downloaded first: press Estimate to download it."
            )

    def _measure(self) -> None:
        self._with_model(self._measure_steps)

    def _measure_steps(self) -> None:
        data = self._snapshot()
        if data is None:
            return
        self.time.value = "Measuring how long a step takes…"
        work = measure(data, models.to_loadable(self.model.value))
        self._background.start(work, self._on_estimate)

    def _on_estimate(self, estimate: TimeEstimate) -> None:
        self._time_estimate = estimate
        self._show_time()
        self._report("Ready to train.")

    def _show_time(self) -> None:
        estimate = self._time_estimate
        if estimate is None:
            self.time.value = "Not known yet."
            return
        duration = format_duration(estimate.seconds(self.steps.value))
        images = pluralize(estimate.images, "labelled image")
        self.time.value = f"About {duration} on this computer, with {images}."

    # A training.

    def _export(self) -> None:
        """Begin a training: write its data."""
        data = self._snapshot()
        if data is None:
            return
        try:
            run = TrainingRun(new_folder(), models.to_loadable(self.model.value))
        except UserError as error:
            self._report(str(error))
            return
        self._discard_run()
        self.curve.show([], self.steps.value)
        self._report("Writing the labelled images…")

        def begin(count: int) -> None:
            self._run = run
            self._start()

        self._background.start(
            export(data, run.folder),
            begin,
            lambda count: self._report(f"Writing the labelled images: {count}…"),
            run.close,
        )

    def _start(self) -> None:
        """Start training, or resume it."""
        run = self._run
        if run is None:
            return
        self._started_steps = self.steps.value
        try:
            run.start(self._started_steps)
        except UserError as error:
            self._report(str(error))
            return
        self.bar.max = self._started_steps
        self._polling.start()
        self._update_buttons()
        self._poll()

    def _poll(self) -> None:
        run = self._run
        if run is None:
            return
        rows = run.job.progress()
        self.curve.show(rows, self._started_steps)
        self.bar.value = min(rows[-1].step, self._started_steps) if rows else 0
        try:
            result = run.result()
            if result is None:
                self._report(describe_progress(rows, self._started_steps, run.is_stopping))
                return
            assert result.model is not None
            # Whoever polls again while the list of models changes finds it done.
            self._polling.stop()
            name = models.add(self.model_name.value, result.model).stem
        except UserError as error:
            self._polling.stop()
            self._report(str(error))
        else:
            self._report(describe_result(result, name))
            self._discard_run()
        self._update_buttons()

    def _stop(self) -> None:
        """Stop what is running."""
        if self._background.is_running:
            self._background.stop()
            self._show_time()
            self.bar.value = 0
            self._report("Stopped.")
        elif self._run is not None:
            self._run.stop()
            self._poll()
        self._update_buttons()

    def _snapshot(self) -> TrainingData | None:
        """What is chosen; None, with a report, if it does not fit."""
        try:
            return TrainingData.of(self.image_layer.value, self.labels_layer.value)
        except UserError as error:
            self._report(str(error))
            return None

    def _on_error(self, sentence: str) -> None:
        self._show_time()
        self._report(sentence)

    def _update_buttons(self) -> None:
        busy = self.is_busy
        self.estimate.enabled = self.train.enabled = not busy
        self.go_on.enabled = not busy and self._run is not None
        self.stop.enabled = busy

    def _report(self, sentence: str) -> None:
        self.status.value = sentence

    def _discard_run(self) -> None:
        if self._run is not None:
            self._run.close()
            self._run = None

    def _close_down(self) -> None:
        """The widget or its window is closed: end everything, without touching a Qt object."""
        for event in self._layer_events:
            event.disconnect(self.reset_choices)
        self._viewer.events.theme.disconnect(self.curve.colour)
        models.model_list.changed.disconnect(self.reset_choices, missing_ok=True)
        self._background.stop()
        self._discard_run()


class _RemovalFilter(QObject):
    """Notices that a widget is taken out of its dock, as napari does when the dock is closed."""

    def __init__(self, widget: Any, on_removal: Callable[[], None]) -> None:
        super().__init__(widget)
        self._on_removal = on_removal
        widget.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.ParentChange and watched.parent() is None:
            self._on_removal()
        return False
