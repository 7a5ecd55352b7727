"""The "Finetune" widget: from labels that a user has corrected to a model of their own."""

import samlet_napari.torch_import  # noqa: F401

# isort: split

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from magicgui.widgets import (
    ComboBox,
    Container,
    Label,
    LineEdit,
    ProgressBar,
    PushButton,
    SpinBox,
)
from napari.layers import Image, Labels, Layer
from napari.qt.threading import GeneratorWorker, create_worker
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QSizePolicy

from samlet.errors import UserError
from samlet.training.train_logger import LOG_INTERVAL
from samlet_napari.finetune.loss_curve import LossCurve
from samlet_napari.finetune.time_estimate import Pace, measure
from samlet_napari.finetune.training_data import Pairs, export
from samlet_napari.finetune.training_run import Finetuning, Row, new_folder
from samlet_napari.inference import models

POLL_MS = 1000
PAUSE_MS = 500
"""After a choice, before it is acted upon: several change at once when a layer goes."""
T = TypeVar("T")


class FinetuneWidget(Container):
    """Trains the mask decoder on an image layer and a labels layer; shows how it goes.

    Args:
        napari_viewer: whose layers can be chosen.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: GeneratorWorker | None = None
        self._finetuning: Finetuning | None = None
        self._pace: Pace | None = None
        self._steps_begun = 0

        self._image_layer = ComboBox(
            name="image_layer",
            label="image",
            choices=lambda _: _of_kind(napari_viewer, Image),
            tooltip="It is trained on as it is shown, with its contrast limits.",
        )
        self._labels_layer = ComboBox(
            name="labels_layer",
            label="labels",
            choices=lambda _: _of_kind(napari_viewer, Labels),
            tooltip="Of the image's size; planes without labels are left out.",
        )
        self._model = ComboBox(name="model", choices=lambda _: models.names(), value="nuclei")
        self._steps = SpinBox(name="steps", value=200, min=1, max=1_000_000, step=50)
        self._name = LineEdit(name="new_name", label="save as", value="my-model")
        self._time = Label(name="time", value="")
        self._estimate = PushButton(text="Estimate", tooltip="Take a few steps, to know how long.")
        self._train = PushButton(text="Train", tooltip="Begin with the labels as they are now.")
        self._go_on = PushButton(text="Go on", tooltip="Where the training was stopped.")
        self._stop = PushButton(text="Stop", tooltip="What was learnt is kept, to go on.")
        self._bar = ProgressBar(name="progress", label=" ", min=0, max=1, value=0)
        self._status = Label(name="status", value="")
        buttons = [self._estimate, self._train, self._go_on, self._stop]
        row = Container(widgets=buttons, layout="horizontal", labels=False, label="")
        row.margins = (0, 0, 0, 0)
        inputs = [self._image_layer, self._labels_layer, self._model, self._steps, self._name]
        self.extend([*inputs, self._time, row, self._bar, self._status])
        for text in (self._time, self._status):
            text.native.setWordWrap(True)
            # A long word must not widen the window.
            text.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._curve = LossCurve(napari_viewer)
        self.native.layout().addWidget(self._curve.canvas)

        self._polling = QTimer(self.native)
        self._polling.setInterval(POLL_MS)
        self._polling.timeout.connect(self._poll)
        self._pause = QTimer(self.native)
        self._pause.setInterval(PAUSE_MS)
        self._pause.setSingleShot(True)
        self._pause.timeout.connect(self._estimate_if_possible)

        for chosen in (self._image_layer, self._labels_layer, self._model):
            chosen.changed.connect(self._forget_pace)
        self._steps.changed.connect(self._tell_time)
        self._estimate.clicked.connect(self._measure)
        self._train.clicked.connect(self._export)
        self._go_on.clicked.connect(self._start)
        self._stop.clicked.connect(self._end)
        layers = napari_viewer.layers.events
        self._listings = (layers.inserted, layers.removed, layers.renamed)
        for event in self._listings:
            event.connect(self.reset_choices)
        napari_viewer.events.theme.connect(self._curve.colour)
        models.listing.changed.connect(self.reset_choices)
        self.native.destroyed.connect(self._leave)
        _Leaving(self.native, self._leave)

        self.reset_choices()
        self._tell("Choose an image layer and its labels.")
        self._set_buttons()
        self._forget_pace()

    def reset_choices(self, *_: Any) -> None:
        """List layers and models anew; what is chosen stays, also under another name.

        napari calls this as well.
        """
        for chosen in (self._image_layer, self._labels_layer, self._model):
            before = chosen.value
            with chosen.changed.blocked():
                chosen.reset_choices()
                if before in chosen.choices:
                    chosen.value = before
            if chosen.value is not before:
                chosen.changed.emit(chosen.value)

    def _forget_pace(self) -> None:
        self._pace = None
        self._tell_time()
        self._pause.start()

    def _estimate_if_possible(self) -> None:
        if self._image_layer.value is None or self._labels_layer.value is None or self._is_busy():
            return
        if models.is_here(self._model.value):
            self._measure()
        else:
            self._time.value = f"{self._model.value} is downloaded first: press Estimate for that."

    def _measure(self) -> None:
        """Find out how long a training takes."""
        pairs = self._snapshot()
        if pairs is None:
            return
        self._time.value = "Measuring how long a step takes…"
        work = measure(pairs, models.locate(self._model.value))
        self._in_background(work, self._take_pace)

    def _take_pace(self, pace: Pace) -> None:
        self._pace = pace
        self._tell_time()
        self._tell("Ready to train.")

    def _tell_time(self) -> None:
        if self._pace is None:
            self._time.value = "Not known yet."
            return
        seconds, images = self._pace.seconds(self._steps.value), self._pace.images
        told = "1 labelled image" if images == 1 else f"{images} labelled images"
        self._time.value = f"About {_span(seconds)} on this computer, with {told}."

    def _export(self) -> None:
        """Begin a training: write what there is to learn from."""
        pairs = self._snapshot()
        if pairs is None:
            return
        try:
            run = Finetuning(new_folder(), models.locate(self._model.value))
        except UserError as mistake:
            self._tell(str(mistake))
            return
        self._discard()
        self._curve.show([], self._steps.value)
        self._tell("Writing the labelled images…")

        def begin(count: int) -> None:
            self._finetuning = run
            self._start()

        self._in_background(
            export(pairs, run.folder),
            begin,
            lambda count: self._tell(f"Writing the labelled images: {count}…"),
            run.close,
        )

    def _start(self) -> None:
        """Train, or go on with it."""
        run = self._finetuning
        if run is None:
            return
        self._steps_begun = self._steps.value
        try:
            run.start(self._steps_begun)
        except UserError as mistake:
            self._tell(str(mistake))
            return
        self._bar.max = self._steps_begun
        self._polling.start()
        self._set_buttons()
        self._poll()

    def _poll(self) -> None:
        run = self._finetuning
        if run is None:
            return
        rows = run.progress()
        self._curve.show(rows, self._steps_begun)
        self._bar.value = min(rows[-1].step, self._steps_begun) if rows else 0
        try:
            checkpoint = run.outcome()
            if checkpoint is None:
                self._tell(_doing(rows, self._steps_begun, run.is_stopping))
                return
            # Whoever polls again while the list changes finds it done.
            self._polling.stop()
            name = models.add(self._name.value, checkpoint).stem
        except UserError as mistake:
            self._polling.stop()
            self._tell(str(mistake))
        else:
            judged = run.judgement()
            told = f" Mean IoU on what was kept back: {judged}." if judged else ""
            told = " ".join([told, *run.warnings()])
            self._tell(f"Done: {name} is in the list of models.{told}")
            self._discard()
        self._set_buttons()

    def _end(self) -> None:
        """Stop whatever is being done."""
        if self._worker is not None:
            self._worker.quit()
            self._worker = None
            self._tell_time()
            self._tell("Stopped.")
        elif self._finetuning is not None:
            self._finetuning.stop()
            self._poll()
        self._set_buttons()

    def _snapshot(self) -> Pairs | None:
        """What is chosen; None if it does not fit, which is told."""
        try:
            return Pairs.of(self._image_layer.value, self._labels_layer.value)
        except UserError as mistake:
            self._tell(str(mistake))
            return None

    def _in_background(
        self,
        work: Generator[Any, None, T],
        take: Callable[[T], None],
        told: Callable[[Any], None] = lambda _: None,
        clean_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Do work in a thread; a mistake is told, and what was stopped is heard no more of."""
        worker = create_worker(_or_mistake, work)

        def end(result: T | str) -> None:
            if self._worker is not worker:
                return
            self._worker = None
            if isinstance(result, str):
                clean_up()
                self._tell_time()
                self._tell(result)
            else:
                take(result)
            self._set_buttons()

        def go_on(progress: Any) -> None:
            if self._worker is worker:
                told(progress)

        worker.returned.connect(end)
        worker.yielded.connect(go_on)
        worker.aborted.connect(clean_up)
        worker.errored.connect(lambda error: end(f"It has failed: {error!r}"))
        self._worker = worker
        self._set_buttons()
        worker.start()

    def _is_busy(self) -> bool:
        return self._worker is not None or self._polling.isActive()

    def _set_buttons(self) -> None:
        busy = self._is_busy()
        self._estimate.enabled = self._train.enabled = not busy
        self._go_on.enabled = not busy and self._finetuning is not None
        self._stop.enabled = busy

    def _tell(self, sentence: str) -> None:
        self._status.value = sentence

    def _discard(self) -> None:
        if self._finetuning is not None:
            self._finetuning.close()
            self._finetuning = None

    def _leave(self) -> None:
        """The widget or its window is closed: nothing goes on, and no Qt object is touched."""
        for event in self._listings:
            event.disconnect(self.reset_choices)
        self._viewer.events.theme.disconnect(self._curve.colour)
        models.listing.changed.disconnect(self.reset_choices, missing_ok=True)
        if self._worker is not None:
            self._worker.quit()
            self._worker = None
        self._discard()


class _Leaving(QObject):
    """Notices that a widget is taken out of its dock, which napari does when the dock is closed."""

    def __init__(self, widget: Any, leave: Callable[[], None]) -> None:
        super().__init__(widget)
        self._leave = leave
        widget.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.ParentChange and watched.parent() is None:
            self._leave()
        return False


def _or_mistake(work: Generator[Any, None, T]) -> Generator[Any, None, T | str]:
    """Work whose mistakes are its result, as a sentence."""
    try:
        return (yield from work)
    except UserError as mistake:
        return str(mistake)
    except RuntimeError as error:
        # napari's workers take these for the end of the window, and say nothing.
        return f"It has failed: {error}"


def _of_kind(viewer: Viewer, kind: type[Layer]) -> list[Layer]:
    return [layer for layer in viewer.layers if isinstance(layer, kind)]


def _doing(rows: Sequence[Row], steps: int, is_stopping: bool) -> str:
    if is_stopping:
        return "Stopping after this step…"
    if not rows:
        return f"Training has begun; the loss is told every {min(LOG_INTERVAL, steps)} steps…"
    last = rows[-1]
    if last.step >= steps:
        return "Saving the model, and measuring it on what was kept back…"
    left = (steps - last.step) * last.seconds / last.step
    return f"Training: step {last.step} of {steps}, about {_span(left)} left."


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds / 5)) * 5} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
