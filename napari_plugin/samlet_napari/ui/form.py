"""The choices of the widget "Segment": image, model, labels, and how they are used."""

from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSlider, RadioButtons
from napari.layers import Image, Labels

from samlet.everything.similar import DEFAULT_LIKENESS
from samlet_napari.inference import models
from samlet_napari.layers.layer_data import shape_of
from samlet_napari.model_choice import ModelChoice
from samlet_napari.ui.input_bindings import MouseMode
from samlet_napari.viewer.overlays import is_overlay
from samlet_napari.viewer.workspace import Workspace

NEW_LAYER = "new layer"
OTHER_FILE = "a file ..."
THIS_LAYER, ALL_LAYERS = "this layer", "all visible layers, blended"
AS_SHOWN, PERCENTILES = "as shown", "by percentiles"
THIS_SLICE, ALL_SLICES = "this slice", "all slices"
MAX_COLOURS = 8
"""Longest axis that may be one of channels."""


class _OrNone(ComboBox):
    """A combo box in which None has a text of its own; magicgui adds None only when it is created.

    Args:
        text: of None.
        options: of the combo box.
    """

    def __init__(self, text: str, **options: Any) -> None:
        self.null_string = text
        super().__init__(nullable=True, **options)


class Form:
    """The controls, and what can be chosen with them.

    Args:
        workspace: whose viewer's layers can be chosen.

    Attributes:
        file: a checkpoint that the user has chosen from a file; None if there is none.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._layers = workspace.viewer.layers
        self.file: str | None = None
        self.image = ComboBox(
            label="image", choices=self.images, nullable=True, tooltip="The image to click on."
        )
        self.channels = _OrNone(
            THIS_LAYER,
            label="channels",
            choices=self._channels,
            tooltip="What the model sees: only this layer, several layers blended, or an axis as "
            "colours.",
        )
        self.contrast = ComboBox(
            label="contrast",
            choices=[AS_SHOWN, PERCENTILES],
            tooltip="What the model sees as black and full intensity: the layer's contrast limits, "
            "or the 0.1 and 99.9 percentiles (8-bit images: their full range).",
        )
        self.model = ModelChoice(
            label="model",
            choices=self._models,
            tooltip="The bundled model, your own, models to download, or a checkpoint file.",
        )
        self.labels = _OrNone(
            NEW_LAYER,
            label="labels",
            choices=self._labels,
            tooltip="The layer that committed objects are written to.",
        )
        self.mode = RadioButtons(
            label="mouse",
            choices=[(mode.value, mode) for mode in MouseMode],
            orientation="horizontal",
            tooltip="Click on the object (Ctrl or right button: on what is not part of it), drag a "
            "box around it, or scribble on it.",
        )
        self.mode.value = MouseMode.CLICK
        self.live = CheckBox(
            text="live preview", value=True, tooltip="Show the mask under the cursor."
        )
        self.auto_commit = CheckBox(text="auto-commit", tooltip="Commit an object at every click.")
        self.overwrite = CheckBox(
            text="overwrite", tooltip="Objects may take pixels of other objects."
        )
        self.slices = ComboBox(
            label="slices",
            choices=[THIS_SLICE, ALL_SLICES],
            tooltip="Where Everything searches a stack. In all slices, objects that overlap from "
            "slice to slice get the same number.",
            visible=False,
        )
        self.likeness = FloatSlider(
            label="likeness",
            value=DEFAULT_LIKENESS,
            min=0,
            max=1,
            step=0.01,
            readout=False,
            tooltip="Least likeness of the similar objects that are shown and will be committed.",
            visible=False,
        )
        self.beside_image = CheckBox(
            text="keep embeddings beside the image",
            tooltip="In the folder IMAGE.samlet, for use on other computers; otherwise in your "
            "cache.",
        )

    @property
    def controls(self) -> list[Any]:
        """All controls, from top to bottom."""
        return [
            self.image, self.channels, self.contrast, self.model, self.labels, self.mode,
            self.live, self.auto_commit, self.overwrite, self.beside_image, self.slices,
        ]  # fmt: skip

    def images(self, _: Any = None) -> list[tuple[str, Image]]:
        """The image layers of the viewer, by name."""
        return [(layer.name, layer) for layer in self._layers if isinstance(layer, Image)]

    def _labels(self, _: Any) -> list[tuple[str, Labels]]:
        return [
            (layer.name, layer)
            for layer in self._layers
            if isinstance(layer, Labels) and not is_overlay(layer)
        ]

    def _models(self, _: Any) -> list[str]:
        return [*models.names(), *([self.file] if self.file else []), OTHER_FILE]

    def _channels(self, _: Any) -> list[tuple[str, int | str]]:
        image = self._workspace.image
        choices: list[tuple[str, int | str]] = []
        if image is None or image.rgb:
            return choices
        if sum(isinstance(layer, Image) and not layer.rgb for layer in self._layers) > 1:
            choices.append((ALL_LAYERS, ALL_LAYERS))
        shape = shape_of(image)
        return choices + [
            (f"axis {axis} as colours", axis)
            for axis in range(len(shape) - 2)
            if 1 < shape[axis] <= MAX_COLOURS
        ]

    def refresh(self) -> None:
        """List layers anew, and select those of the workspace."""
        selected = ((self.image, self._workspace.image), (self.labels, self._workspace.labels))
        for choice, value in selected:
            with choice.changed.blocked():
                choice.reset_choices()
                choice.value = value if value in choice.choices else None
        with self.channels.changed.blocked():
            self.channels.reset_choices()

    def refresh_slices(self) -> None:
        """Show the choice of slices only for a stack."""
        workspace = self._workspace
        self.slices.visible = workspace.image is not None and workspace.view().is_stack

    def refresh_models(self, model: str | None = None) -> None:
        """List models anew, and select one; by default, the one that is selected."""
        selected = self.model.value if model is None else model
        with self.model.changed.blocked():
            self.model.reset_choices()
            self.model.value = selected
