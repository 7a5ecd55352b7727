"""The widget "Segment": choices and buttons for what happens on the canvas."""

import samlet_napari.torch_import  # noqa: F401

# isort: split

from collections.abc import Callable
from typing import Any

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    Label,
    ProgressBar,
    PushButton,
    RadioButtons,
)
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QFileDialog, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from samlet.errors import UserError
from samlet_napari.inference import models
from samlet_napari.layers.layer_reader import shape_of
from samlet_napari.ui import commands
from samlet_napari.ui.controller import Controller
from samlet_napari.ui.input_bindings import Hands, Mode
from samlet_napari.viewer.overlays import Overlays

NEW_LAYER = "new layer"
OTHER_FILE = "a file ..."
THIS_LAYER, ALL_LAYERS = "this layer", "all visible layers, blended"
AS_SHOWN, PERCENTILES = "as shown", "by percentiles"
MOST_COLOURS = 8
"""Longest axis that may be one of channels."""


class _OrNone(ComboBox):
    """Choices of which one is None; magicgui tells of None only where it adds that itself.

    Args:
        text: of None.
        options: of the combo box.
    """

    def __init__(self, text: str, **options: Any) -> None:
        self.null_string = text
        super().__init__(nullable=True, **options)


class SegmentWidget(QWidget):
    """Point, see the mask, press a key.

    Args:
        napari_viewer: given by napari.

    Attributes:
        controller: what the choices and buttons act on.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = Controller(napari_viewer)
        self.hands = Hands(self.controller)
        self._bound: Overlays | None = None
        self._file: str | None = None
        self._is_closed = False
        self._make_choices()
        self._make_buttons()
        self._lay_out()
        self._connect()
        commands.register(napari_viewer, self.controller)
        self._refresh()
        self._choose_first()

    def event(self, event: QEvent) -> bool:
        """Give keys and layers back when the widget is closed; see Qt."""
        is_taken_out = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if is_taken_out or event.type() in (QEvent.Type.Close, QEvent.Type.DeferredDelete):
            self.close_down()
        elif event.type() == QEvent.Type.Show and not self._is_closed:
            # napari draws with OpenGL, and has no public way to the widget that it draws on.
            self.hands.watch(self.window().findChildren(QOpenGLWidget))
        return bool(super().event(event))

    def close_down(self) -> None:
        """Give keys and layers back; once is enough."""
        if self._is_closed:
            return
        self._is_closed = True
        models.listing.changed.disconnect(self._on_models)
        for event in self._listings:
            event.disconnect(self._refresh)
        commands.register(self.viewer, None)
        self.hands.release()
        self.controller.close()

    def _make_choices(self) -> None:
        self.image = ComboBox(
            label="image", choices=self._images, nullable=True, tooltip="What you click on."
        )
        self.channels = _OrNone(
            THIS_LAYER,
            label="channels",
            choices=self._channels,
            tooltip="Show the model this layer alone, several blended, or an axis as colours.",
        )
        self.contrast = ComboBox(
            label="contrast",
            choices=[AS_SHOWN, PERCENTILES],
            tooltip="What the model sees as black and full intensity: the layer's contrast limits, "
            "or the 0.1 and 99.9 percentiles (8 bit in full).",
        )
        self.model = ComboBox(
            label="model",
            choices=self._models,
            tooltip="The bundled one, your own, ones to download, or a checkpoint's file.",
        )
        self.labels = _OrNone(
            NEW_LAYER,
            label="labels",
            choices=self._labels,
            tooltip="Where objects are committed to.",
        )
        self.mode = RadioButtons(
            label="mouse",
            choices=[(mode.value, mode) for mode in Mode],
            orientation="horizontal",
            tooltip="Click on the object (Ctrl or right: beside it), drag a box around it, or "
            "scribble on it.",
        )
        self.mode.value = Mode.CLICK
        self.live = CheckBox(text="live preview", value=True, tooltip="Masks while you hover.")
        self.auto_commit = CheckBox(text="auto-commit", tooltip="Each click is an object.")
        self.overwrite = CheckBox(
            text="overwrite", tooltip="Objects may take pixels that others have."
        )
        self.beside_image = CheckBox(
            text="keep embeddings beside the image",
            tooltip="In the folder IMAGE.samlet, for other computers; otherwise in your cache.",
        )

    def _make_buttons(self) -> None:
        controller = self.controller
        rows: list[list[tuple[str, str, Callable[[], None]]]] = [
            [
                ("Commit (C)", "Write the object to the labels.", controller.gestures.commit),
                ("Undo (Z)", "Take back the last point, or else object.", controller.gestures.undo),
                ("Cancel (Esc)", "Drop the object.", controller.gestures.cancel),
            ],
            [
                ("Other mask (Tab)", "One of three that fit.", controller.gestures.next_candidate),
                ("Stop", "Drop what waits, and end what is running.", controller.gestures.stop),
            ],
            [
                ("Everything", "All objects of the image.", controller.jobs.everything),
                (
                    "Everything in view",
                    "All objects that you see.",
                    lambda: controller.jobs.everything(only_visible=True),
                ),
            ],
            [
                (
                    "Propagate back",
                    "The object in the slices before this one.",
                    lambda: controller.jobs.propagate(False),
                ),
                (
                    "Propagate on",
                    "The object in the slices after this one.",
                    lambda: controller.jobs.propagate(True),
                ),
            ],
        ]
        self.buttons: dict[str, PushButton] = {}
        self._rows = []
        for row in rows:
            made = []
            for text, tip, do in row:
                button = PushButton(text=text, tooltip=tip)
                button.changed.connect(self._doing(do))
                self.buttons[text] = button
                made.append(button)
            line = Container(widgets=made, layout="horizontal", labels=False)
            line.margins = (0, 0, 0, 0)
            self._rows.append(line)
        self.progress = ProgressBar(label="", visible=True, min=0, max=100, value=0)
        self.progress.native.setTextVisible(False)
        self.status = Label(label="", value="")
        self.status.native.setWordWrap(True)
        self.status.native.setMinimumHeight(64)
        self.status.native.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.status.native.setSizePolicy(
            QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding
        )

    def _lay_out(self) -> None:
        panel = Container(
            widgets=[
                self.image, self.channels, self.contrast, self.model, self.labels, self.mode,
                self.live, self.auto_commit, self.overwrite, self.beside_image,
                *self._rows, self.progress, self.status,
            ]
        )  # fmt: skip
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(panel.native)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)

    def _connect(self) -> None:
        controller = self.controller
        self.image.changed.connect(self._on_image)
        for choice in (self.channels, self.contrast):
            choice.changed.connect(self._on_pixels)
        self.model.changed.connect(self._on_model)
        self.labels.changed.connect(self._on_labels)
        self.mode.changed.connect(self._on_mode)
        self.live.changed.connect(controller.set_live)
        self.auto_commit.changed.connect(controller.set_auto_commit)
        self.overwrite.changed.connect(controller.set_overwrite)
        self.beside_image.changed.connect(controller.keep_beside_image)
        controller.status.connect(self._on_status)
        controller.busy.connect(self._on_busy)
        controller.jobs.progress.connect(self._on_progress)
        controller.opened.connect(self._refresh)
        models.listing.changed.connect(self._on_models)
        layers = self.viewer.layers.events
        self._listings = (layers.inserted, layers.removed, layers.renamed)
        for event in self._listings:
            event.connect(self._refresh)

    # What can be chosen.

    def _images(self, _: Any) -> list[tuple[str, Image]]:
        return [(layer.name, layer) for layer in self.viewer.layers if isinstance(layer, Image)]

    def _labels(self, _: Any) -> list[tuple[str, Labels]]:
        overlays = self.controller.overlays
        ours = () if overlays is None else overlays.layers
        return [
            (layer.name, layer)
            for layer in self.viewer.layers
            if isinstance(layer, Labels) and layer not in ours
        ]

    def _models(self, _: Any) -> list[str]:
        return [*models.names(), *([self._file] if self._file else []), OTHER_FILE]

    def _channels(self, _: Any) -> list[tuple[str, int | str]]:
        image = self.controller.image
        choices: list[tuple[str, int | str]] = []
        if image is None or image.rgb:
            return choices
        if sum(isinstance(layer, Image) and not layer.rgb for layer in self.viewer.layers) > 1:
            choices.append((ALL_LAYERS, ALL_LAYERS))
        shape = shape_of(image)
        return choices + [
            (f"axis {axis} as colours", axis)
            for axis in range(len(shape) - 2)
            if 1 < shape[axis] <= MOST_COLOURS
        ]

    def _refresh(self, _: Any = None) -> None:
        """Bring the choices to what there is."""
        controller = self.controller
        for choice, value in ((self.image, controller.image), (self.labels, controller.labels)):
            with choice.changed.blocked():
                choice.reset_choices()
                choice.value = value if value in choice.choices else None
        with self.channels.changed.blocked():
            self.channels.reset_choices()
        # What was chosen of another image may not be there in this one.
        self._on_pixels()
        if controller.overlays is not None:
            self._bind()

    def _bind(self) -> None:
        overlays = self.controller.overlays
        if overlays is not None and overlays is not self._bound:
            self._bound = overlays
            self.hands.bind(overlays)

    def _choose_first(self) -> None:
        """Begin with the image that is selected, or else the topmost."""
        images = [layer for _, layer in self._images(None)]
        active = self.viewer.layers.selection.active
        if images:
            self.image.value = active if active in images else images[-1]
        else:
            self._on_status("Open an image, and choose it here.")

    # What a user chooses.

    def _on_image(self, image: Image | None) -> None:
        self.controller.choose_image(image)
        self._bind()

    def _on_pixels(self) -> None:
        channels = self.channels.value
        self.controller.choose_pixels(
            as_shown=self.contrast.value == AS_SHOWN,
            colour_axis=channels if isinstance(channels, int) else None,
            is_blended=channels == ALL_LAYERS,
        )

    def _on_model(self, name: str) -> None:
        if name == OTHER_FILE:
            path, _ = QFileDialog.getOpenFileName(
                self, "A model", "", "Models (*.safetensors *.pt *.pth)"
            )
            self._file = path or self._file
            with self.model.changed.blocked():
                self.model.reset_choices()
                self.model.value = path or self.controller.model
            name = self.model.value
        self.controller.choose_model(name)

    def _on_models(self) -> None:
        chosen = self.model.value
        with self.model.changed.blocked():
            self.model.reset_choices()
            self.model.value = chosen

    def _on_labels(self, labels: Labels | None) -> None:
        self._doing(lambda: self.controller.choose_labels(labels))()

    def _on_mode(self, mode: Mode) -> None:
        self.hands.mode = mode

    def _doing(self, do: Callable[[], None]) -> Callable[..., None]:
        def act(*_: Any) -> None:
            try:
                do()
            except UserError as error:
                self._on_status(str(error))
            if self.controller.overlays is not None:
                self.controller.overlays.activate()

        return act

    # What is told.

    def _on_status(self, text: str) -> None:
        self.status.value = text

    def _on_busy(self, is_busy: bool) -> None:
        if not self.controller.jobs.is_running:
            # Without a range, Qt shows that something goes on.
            self.progress.native.setRange(0, 0 if is_busy else 100)
            self.progress.native.setTextVisible(False)

    def _on_progress(self, share: float) -> None:
        self.progress.native.setRange(0, 100)
        self.progress.native.setTextVisible(share >= 0)
        self.progress.value = max(0, round(100 * share))
