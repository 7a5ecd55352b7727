"""The controls of the widget "Finetune"."""

from typing import Any

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
from napari.viewer import Viewer
from qtpy.QtWidgets import QSizePolicy

from samlet_napari.aligned_labels import AlignedLabels
from samlet_napari.finetune.loss_curve import LossCurve
from samlet_napari.inference import models
from samlet_napari.model_choice import ModelChoice
from samlet_napari.viewer.overlays import is_overlay


class FinetuneForm(Container):
    """What can be chosen, pressed and seen.

    Args:
        viewer: whose layers can be chosen.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.image_layer = ComboBox(
            name="image_layer",
            label="image",
            choices=lambda _: _layers_of_type(viewer, Image),
            tooltip="Trained on as it is shown, with its contrast limits.",
        )
        self.labels_layer = ComboBox(
            name="labels_layer",
            label="labels",
            choices=lambda _: _layers_of_type(viewer, Labels),
            tooltip="Of the image's size; planes without labels are left out.",
        )
        self.model = ModelChoice(
            name="model",
            choices=lambda _: models.names(),
            value="microscopy",
            tooltip="Model to start from.",
        )
        self.steps = SpinBox(name="steps", value=200, min=1, max=1_000_000, step=50)
        self.model_name = LineEdit(name="new_name", label="save as", value="my-model")
        self.time = Label(name="time", value="")
        self.estimate = PushButton(
            text="Estimate", tooltip="Run a few steps to estimate the training time."
        )
        self.train = PushButton(text="Train", tooltip="Train on the labels as they are now.")
        self.go_on = PushButton(text="Go on", tooltip="Resume the training that was stopped.")
        self.stop = PushButton(text="Stop", tooltip="Stop; the training can be resumed.")
        self.bar = ProgressBar(name="progress", label=" ", min=0, max=1, value=0)
        self.status = Label(name="status", value="")
        self.curve = LossCurve(viewer)
        self._lay_out()

    def _lay_out(self) -> None:
        buttons = [self.estimate, self.train, self.go_on, self.stop]
        row = Container(widgets=buttons, layout="horizontal", labels=False, label="")
        row.margins = (0, 0, 0, 0)
        inputs = [self.image_layer, self.labels_layer, self.model, self.steps, self.model_name]
        self.extend([*inputs, self.time, row, self.bar, self.status])
        for text in (self.time, self.status):
            text.native.setWordWrap(True)
            # A long word must not widen the window.
            text.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.native.layout().addWidget(self.curve.canvas)
        AlignedLabels(self)

    def reset_choices(self, *_: Any) -> None:
        """List layers and models anew; what is chosen stays, also under another name.

        napari calls this as well.
        """
        for choice in (self.image_layer, self.labels_layer, self.model):
            before = choice.value
            with choice.changed.blocked():
                choice.reset_choices()
                if before in choice.choices:
                    choice.value = before
            if choice.value is not before:
                choice.changed.emit(choice.value)


def _layers_of_type(viewer: Viewer, kind: type[Layer]) -> list[Layer]:
    return [layer for layer in viewer.layers if isinstance(layer, kind) and not is_overlay(layer)]
