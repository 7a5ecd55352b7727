"""The widget "Segment": choices and buttons for what happens on the canvas."""

from collections.abc import Callable
from functools import partial
from typing import Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QFileDialog, QSizePolicy, QVBoxLayout, QWidget

from samlet.errors import UserError
from samlet_napari.aligned_labels import AlignedLabels
from samlet_napari.drawing import drawn_later
from samlet_napari.inference import models
from samlet_napari.ui import commands
from samlet_napari.ui.controller import Controller
from samlet_napari.ui.form import ALL_LAYERS, ALL_SLICES, AS_SHOWN, OTHER_FILE, Form
from samlet_napari.ui.input_bindings import InputBindings, MouseMode
from samlet_napari.ui.scroll_down import ScrollDown
from samlet_napari.viewer.overlays import Overlays


class SegmentWidget(QWidget):
    """Point, see the mask, press a key.

    Args:
        napari_viewer: given by napari.

    Attributes:
        controller: what the choices and buttons act on.
        form: the choices.
        buttons: by their text.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = Controller(napari_viewer)
        self._workspace = self.controller.workspace
        self.input_bindings = InputBindings(self._workspace, self.controller.actions)
        self.form = Form(self._workspace)
        self.buttons: dict[str, PushButton] = {}
        self._bound: Overlays | None = None
        self._is_closed = False
        self._make_progress()
        self._lay_out()
        self._connect()
        commands.register(napari_viewer, self.controller)
        self._refresh()
        self._choose_first()

    def event(self, event: QEvent) -> bool:
        """Release keys and layers when the widget is closed; see Qt."""
        is_removed = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if is_removed or event.type() in (QEvent.Type.Close, QEvent.Type.DeferredDelete):
            self.close_down()
        elif event.type() == QEvent.Type.Show and not self._is_closed:
            # napari draws with OpenGL, and has no public way to the widget that it draws on.
            self.input_bindings.watch(self.window().findChildren(QOpenGLWidget))
        return bool(super().event(event))

    def close_down(self) -> None:
        """Release keys and layers; further calls do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        models.model_list.changed.disconnect(self._on_models)
        for event in self._layer_events():
            event.disconnect(self._refresh)
        commands.register(self.viewer, None)
        self.input_bindings.release()
        self.controller.close()

    def _button_rows(self) -> list[list[tuple[str, str, Callable[[], None]]]]:
        """Text, tooltip and action of each button."""
        controller, actions = self.controller, self.controller.actions
        return [
            [
                ("Commit (C)", "Write the object to the labels.", actions.commit),
                ("Undo (Z)", "Undo the last prompt, or else the last commit.", actions.undo),
                ("Cancel (Esc)", "Discard the object.", actions.cancel),
            ],
            [
                ("Other mask (Tab)", "Show another of three masks.", actions.next_candidate),
                ("Stop", "Stop what is running, and discard what waits.", controller.stop),
            ],
            [
                ("Everything", "Find all objects of the image.", controller.segment_everything),
                (
                    "Everything in view",
                    "Find all objects that lie entirely in view.",
                    lambda: controller.segment_everything(only_visible=True),
                ),
            ],
            [
                (
                    "Find similar",
                    "Find objects like the last one to three that you have committed.",
                    controller.find_similar,
                ),
                ("Measure", "Measure the objects: size, shape, intensities.", controller.measure),
            ],
            [
                (
                    "Propagate back",
                    "Find the object in the slices before this one.",
                    lambda: controller.propagate(False),
                ),
                (
                    "Propagate on",
                    "Find the object in the slices after this one.",
                    lambda: controller.propagate(True),
                ),
            ],
        ]

    def _make_button_row(self, row: list[tuple[str, str, Callable[[], None]]]) -> Container:
        for text, tooltip, action in row:
            button = self.buttons[text] = PushButton(text=text, tooltip=tooltip)
            button.changed.connect(self._reporting(action))
        buttons = [self.buttons[text] for text, _, _ in row]
        container = Container(widgets=buttons, layout="horizontal", labels=False)
        container.margins = (0, 0, 0, 0)
        return container

    def _make_progress(self) -> None:
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
        rows = [self._make_button_row(row) for row in self._button_rows()]
        below = [self.form.likeness, self.progress, self.status]
        panel = Container(widgets=[*self.form.controls, *rows, *below])
        AlignedLabels(panel)
        scroll = ScrollDown()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(ScrollDown.Shape.NoFrame)
        scroll.setWidget(panel.native)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)

    def _connect(self) -> None:
        controller, form = self.controller, self.form
        form.image.changed.connect(self._on_image)
        for choice in (form.channels, form.contrast):
            choice.changed.connect(self._on_pixels)
        form.model.changed.connect(self._on_model)
        form.labels.changed.connect(self._on_labels)
        form.mode.changed.connect(self._on_mode)
        form.live.changed.connect(controller.set_live)
        form.auto_commit.changed.connect(controller.set_auto_commit)
        form.overwrite.changed.connect(controller.set_overwrite)
        form.beside_image.changed.connect(controller.keep_beside_image)
        form.likeness.changed.connect(controller.set_likeness)
        form.slices.changed.connect(self._on_slices)
        self._workspace.status.connect(self._on_status)
        self._workspace.opened.connect(self._refresh)
        self._workspace.shown.connect(self._on_shown)
        controller.busy.connect(self._on_busy)
        controller.tasks.progress.connect(self._on_progress)
        controller.download.connect(self._on_download)
        controller.model_kept.connect(self._on_model_kept)
        models.model_list.changed.connect(self._on_models)
        # With its window, a widget is destroyed without further notice.
        self.destroyed.connect(partial(models.model_list.changed.disconnect, self._on_models))
        for event in self._layer_events():
            event.connect(self._refresh)

    def _layer_events(self) -> tuple[Any, ...]:
        """The events after which other layers can be chosen."""
        events = self.viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def _refresh(self, _: Any = None) -> None:
        """Update the choices."""
        self.form.refresh()
        self._on_shown()
        # What was chosen for another image may not exist in this one.
        self._on_pixels()
        self._bind()

    def _bind(self) -> None:
        overlays = self._workspace.overlays
        if overlays is not None and overlays is not self._bound:
            self._bound = overlays
            self.input_bindings.bind(overlays)

    def _choose_first(self) -> None:
        """Begin with the image that is selected, or else the topmost."""
        images = [layer for _, layer in self.form.images()]
        active = self.viewer.layers.selection.active
        if images:
            self.form.image.value = active if active in images else images[-1]
        else:
            self._on_status("Open an image, and choose it here.")

    # What a user chooses.

    def _on_image(self, image: Image | None) -> None:
        self.controller.choose_image(image)
        self._bind()

    def _on_pixels(self) -> None:
        channels = self.form.channels.value
        self.controller.choose_pixels(
            as_shown=self.form.contrast.value == AS_SHOWN,
            colour_axis=channels if isinstance(channels, int) else None,
            is_blended=channels == ALL_LAYERS,
        )
        # An axis of colours is none of slices.
        self.form.refresh_slices()

    def _on_model(self, name: str) -> None:
        if name == OTHER_FILE:
            path, _ = QFileDialog.getOpenFileName(
                self, "A model", "", "Models (*.safetensors *.pt *.pth)"
            )
            self.form.file = path or self.form.file
            self.form.refresh_models(path or self.controller.model)
            name = self.form.model.value
        self.controller.choose_model(name)

    def _on_models(self) -> None:
        self.form.refresh_models()

    def _on_labels(self, labels: Labels | None) -> None:
        self._reporting(lambda: self.controller.choose_labels(labels))()

    def _on_slices(self, slices: str) -> None:
        self.controller.all_slices = slices == ALL_SLICES

    def _on_mode(self, mode: MouseMode) -> None:
        self.input_bindings.mode = mode

    def _reporting(self, action: Callable[[], None]) -> Callable[..., None]:
        """Wrap an action: errors go to the status, and afterwards our layers are active."""

        def act(*_: Any) -> None:
            try:
                action()
            except UserError as error:
                self._on_status(str(error))
            if self._workspace.overlays is not None:
                self._workspace.overlays.activate()

        return act

    # Status and progress.

    def _on_status(self, text: str) -> None:
        self.status.value = text

    def _on_shown(self) -> None:
        session = self._workspace.session
        is_similar = session is not None and session.similar is not None
        if self.form.likeness.visible != is_similar:
            self.form.likeness.visible = is_similar

    def _on_busy(self, is_busy: bool) -> None:
        if not self.controller.tasks.is_running:
            bar = self.progress.native
            with drawn_later(bar):
                # Without a range, Qt animates the bar.
                bar.setRange(0, 0 if is_busy else 100)
                bar.setTextVisible(False)

    def _on_download(self, fraction: float) -> None:
        if not self.controller.tasks.is_running:
            self._on_progress(fraction)

    def _on_model_kept(self, name: str) -> None:
        self.form.model.value = name

    def _on_progress(self, fraction: float) -> None:
        bar = self.progress.native
        with drawn_later(bar):
            bar.setRange(0, 100)
            bar.setTextVisible(fraction >= 0)
            bar.setValue(max(0, round(100 * fraction)))
