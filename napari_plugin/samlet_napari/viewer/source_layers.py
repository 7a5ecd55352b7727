"""The layers whose pixels the model sees: the image, and what is blended with it."""

from collections.abc import Callable
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image

from samlet_napari.layers.layer_reader import LayerSnapshot


class SourceLayers:
    """Reads the chosen image, blended with others or not, and notices changes.

    Args:
        viewer: whose layers may be blended.
        on_change: called when layers show something else: other limits, colours or layers.
        on_data: called when the data of a layer was replaced.

    Attributes:
        as_shown: whether the model sees the image with its contrast limits, or by percentiles.
        is_blended: whether other visible layers are blended with the image.
    """

    def __init__(
        self, viewer: ViewerModel, on_change: Callable[[], None], on_data: Callable[[], None]
    ) -> None:
        self.as_shown = True
        self.is_blended = False
        self._viewer = viewer
        self._on_change = on_change
        self._on_data = on_data
        self._links = Links()

    def watch(self, image: Image) -> None:
        """Notice changes of an image, and of what is or could be blended with it."""
        self._links.disconnect()
        for layer in self._layers(image):
            self._links.connect(layer.events.contrast_limits, self._on_change)
            self._links.connect(layer.events.colormap, self._on_change)
            self._links.connect(layer.events.data, self._on_data)
        for layer in self._blendable(image):
            self._links.connect(layer.events.visible, self._on_change)

    def unwatch(self) -> None:
        """Notice nothing any more."""
        self._links.disconnect()

    def snapshot(self, image: Image, colour_axis: int | None) -> LayerSnapshot:
        """Take a snapshot of an image and what is blended with it.

        Raises:
            UserError: see `LayerSnapshot.of`.
        """
        layers = self._layers(image)
        return LayerSnapshot.of(layers, as_shown=self.as_shown, colour_axis=colour_axis)

    def _layers(self, image: Image) -> list[Image]:
        return [image, *(layer for layer in self._blendable(image) if layer.visible)]

    def _blendable(self, image: Image) -> list[Image]:
        """What is blended with the image while it is visible."""
        if not self.is_blended or image.rgb:
            return []
        images = (layer for layer in self._viewer.layers if isinstance(layer, Image))
        return [
            layer
            for layer in images
            if layer is not image and not layer.rgb and layer.ndim == image.ndim
        ]


class Links:
    """Connections to events, to be released together."""

    def __init__(self) -> None:
        self._links: list[tuple[Any, Any]] = []

    def connect(self, event: Any, callback: Callable[..., None]) -> None:
        """Connect a callback to an event."""
        event.connect(callback)
        self._links.append((event, callback))

    def disconnect(self) -> None:
        """Disconnect all."""
        for event, callback in self._links:
            event.disconnect(callback)
        self._links.clear()
