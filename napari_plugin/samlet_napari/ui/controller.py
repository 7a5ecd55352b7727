"""Ties a session to a napari viewer: its layers, its slices and its events.

Everything here runs in the thread of the window. What takes longer than a blink runs elsewhere,
on snapshots, and comes back through Qt's signals.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Labels
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer
from qtpy.QtCore import Signal as QtSignal

from samlet.errors import UserError
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.predictor import Predictor
from samlet.utils.cache_folder import cache_dir
from samlet_napari.inference import models
from samlet_napari.inference.roi import Extent
from samlet_napari.inference.worker import Answer, Answerer, Encodings
from samlet_napari.labels.label_store import LabelStore, new_labels
from samlet_napari.layers.layer_reader import Picture, Plane, shape_of
from samlet_napari.session.session import Session
from samlet_napari.ui.jobs import Jobs
from samlet_napari.viewer import display
from samlet_napari.viewer.overlays import Overlays
from samlet_napari.viewer.user_actions import Gestures
from samlet_napari.viewer.view import View, sliders_of

DISK_BYTES = 4 << 30
MEMORY_BYTES = 1 << 28
VIEW_PAUSE, CONTRAST_PAUSE = 250, 400
"""Milliseconds without a change, before what has changed is encoded."""


class _Bridge(QObject):
    """Carries what threads tell to the window's."""

    answered = QtSignal(object)
    encoding = QtSignal(bool)


class Controller:
    """Clicks in a viewer.

    Args:
        viewer: whose layers and dims.

    Attributes:
        status: emitted with a sentence whenever something happens.
        busy: emitted with True when the model begins to encode, and with False at the end.
        opened: emitted when an image was chosen, or none.
        gestures: what the user does on the canvas.
        jobs: long work on the image.
        session: the clicks; None while there is no image, or no model yet.
    """

    status = Signal(str)
    busy = Signal(bool)
    opened = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.overlays: Overlays | None = None
        self.session: Session | None = None
        self.encodings: Encodings | None = None
        self.model = models.names()[0]
        self.as_shown = True
        self.colour_axis: int | None = None
        self.is_blended = False
        self._auto_commit = False
        self._overwrite = False
        self._beside_image = False
        self._shape: tuple[int, ...] = ()
        self._wanted: Picture | None = None
        self._openings = 0
        self._refusal = ""
        self._links: list[tuple[Any, Any]] = []
        self._pixel_links: list[tuple[Any, Any]] = []
        self._bridge = _Bridge()
        self._bridge.answered.connect(self._take)
        self._bridge.encoding.connect(self._tell_encoding)
        self._answerer = Answerer(self._bridge.answered.emit, self._bridge.encoding.emit)
        self.jobs = Jobs(self)
        self.gestures = Gestures(self)
        self._view_timer = _timer(VIEW_PAUSE, self.encode_ahead)
        self._picture_timer = _timer(CONTRAST_PAUSE, self._open_again)
        sliders_of(viewer)
        self._global_links = [
            (viewer.layers.events.inserted, self._on_inserted),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.dims.events.current_step, self._on_dims),
            (viewer.dims.events.ndisplay, self._on_dims),
            (viewer.dims.events.order, self._on_dims),
            (viewer.scene.camera.events.zoom, self._on_view),
            (viewer.scene.camera.events.center, self._on_view),
        ]
        for event, callback in self._global_links:
            event.connect(callback)

    # What a user chooses.

    def choose_image(self, image: Image | None) -> None:
        """Click on another image from now on, or on none."""
        if image is self.image:
            return
        self._leave()
        self.gestures.forget()
        self.image = image
        if image is None:
            self.opened.emit()
            self.status.emit("Open an image, and choose it here.")
            return
        self._enter(image)
        assert self.overlays is not None
        self.overlays.activate()

    def choose_model(self, name: str) -> None:
        """Answer with another model from now on: a name or a checkpoint's file."""
        if name != self.model:
            self.model = name
            self._open_again()

    def choose_labels(self, labels: Labels | None) -> None:
        """Write objects to a layer; None makes a new one when the first is committed."""
        self.labels = labels
        if self.session is not None:
            self._attach()
            self.show()

    def choose_pixels(self, *, as_shown: bool, colour_axis: int | None, is_blended: bool) -> None:
        """Show the model the image as napari does, or by percentiles; and which channels."""
        if (as_shown, colour_axis, is_blended) != (
            self.as_shown,
            self.colour_axis,
            self.is_blended,
        ):
            self.as_shown, self.colour_axis, self.is_blended = as_shown, colour_axis, is_blended
            self._open_again()

    def set_auto_commit(self, on: bool) -> None:
        """Make every click an object, or not."""
        self._auto_commit = on
        if self.session is not None:
            self.session.auto_commit = on

    def set_overwrite(self, on: bool) -> None:
        """Let objects take pixels of others, or not."""
        self._overwrite = on
        if self.session is not None:
            self.session.overwrite = on

    def set_live(self, on: bool) -> None:
        """Show what lies under the cursor, or not."""
        self.gestures.is_live = on
        if self.session is not None:
            self.session.point_nowhere()
            self.show()

    def keep_beside_image(self, on: bool) -> None:
        """Keep embeddings in a folder beside the image's file, or in the cache."""
        self._beside_image = on
        if self.encodings is not None:
            self.encodings.keep(self._cache())
            self.encode_ahead()
            self.status.emit(f"Embeddings are kept in {self._folder()}.")

    def stop(self) -> None:
        """Drop what waits for the model, and end long work."""
        self._answerer.cancel()
        self.jobs.stop()
        if self.session is not None:
            self.session.cancel()
            self.show()
        self.status.emit("Stopped.")

    def ready(self) -> Session | None:
        """The session; None while the image is being opened.

        Raises:
            UserError: there is no image, or it cannot be opened.
        """
        self._image()
        if self.encodings is None and self._refusal:
            raise UserError(self._refusal)
        return self.session

    @property
    def is_active(self) -> bool:
        """Whether clicks and keys on the canvas come to our layers."""
        overlays = self.overlays
        return overlays is not None and self.viewer.layers.selection.active in overlays.layers

    def encode_ahead(self) -> None:
        """Encode what the user sees, and then the slices beside it."""
        session = self.session
        if session is None:
            return
        view = self.view()
        try:
            plane, box = view.plane(), view.box()
            session.visible = view.extent()
        except UserError:
            return
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        centre: Extent = (x, y, x, y)
        planes = [plane, *view.neighbours(plane)]
        self._answerer.encode_ahead([session.window(p, centre) for p in planes])

    def label_store(self) -> LabelStore:
        """Where objects are written, in a new layer if there is none.

        Raises:
            UserError: there is no image, or the labels do not fit it.
        """
        self._attach(create=True)
        assert self.session is not None and self.session.store is not None
        return self.session.store

    def committed(self) -> tuple[int, Plane, LabelStore]:
        """The object that is being clicked, once it is committed, or else the last one.

        Raises:
            UserError: there is none, or it is not answered yet.
        """
        session, store = self.session, self.label_store()
        assert session is not None
        if session.draft is not None:
            if not session.draft.is_answered:
                raise UserError("The model is not done with this object: try again in a moment.")
            session.commit()
            self.show()
        if session.last is None:
            raise UserError("There is no object yet: click on one first.")
        return *session.last, store

    def close(self) -> None:
        """Take our layers away, and let go of the viewer."""
        for event, callback in self._global_links:
            event.disconnect(callback)
        self._global_links.clear()
        self._view_timer.stop()
        self._picture_timer.stop()
        self._leave()
        self.image = None
        self._answerer.close()

    # How it is done.

    def _enter(self, image: Image) -> None:
        """Lie over an image, and open it."""
        self._shape = shape_of(image)
        self.overlays = Overlays(self.viewer, image)
        for event in (image.events.scale, image.events.translate, image.events.rotate,
                      image.events.shear, image.events.affine):  # fmt: skip
            self._link(event, self._follow)
        self._open()
        self.opened.emit()

    def _enter_again(self) -> None:
        """Begin anew with the image, whose data has another shape by now."""
        image, layers = self.image, self.viewer.layers
        if image is None or shape_of(image) == self._shape:
            return
        was_active, active = self.is_active, layers.selection.active
        self._leave()
        self._enter(image)
        assert self.overlays is not None
        if was_active:
            self.overlays.activate()
        else:
            layers.selection.active = active

    def _open(self) -> None:
        """Take a snapshot of the image, and load the model if need be."""
        self._wanted, self._refusal = None, ""
        layers = self._layers()
        self._watch(layers)
        try:
            picture = Picture.of(layers, as_shown=self.as_shown, colour_axis=self.colour_axis)
        except UserError as error:
            self._refuse(str(error))
            return
        self._wanted = picture
        self._openings += 1
        self.status.emit(f"Loading the model {self.model} ...")
        self.jobs.load(self.model, partial(self._opened, self._openings), self._refuse)

    def _refuse(self, error: str) -> None:
        self._refusal = error
        self.status.emit(error)

    def _opened(self, number: int, predictor: Predictor) -> None:
        picture = self._wanted
        # Models need not be loaded in the order in which they were asked for.
        if picture is None or number != self._openings:
            return
        self._wanted = None
        self.encodings = Encodings(predictor, picture, self._cache())
        self._answerer.show(self.encodings)
        if self.session is None:
            self.session = Session(self._answerer, picture.size, self.encodings.side)
            self.session.auto_commit, self.session.overwrite = self._auto_commit, self._overwrite
        else:
            self.session.size_of, self.session.side = picture.size, self.encodings.side
        try:
            self._attach()
        except UserError as error:
            self.session.error = str(error)
        self.session.ask_again()
        self.show()
        has_told = self.gestures.catch_up()
        self.encode_ahead()
        if not has_told:
            self.tell()

    def _open_again(self) -> None:
        if self.image is not None:
            self._open()

    def _leave(self) -> None:
        """Forget the image."""
        self._forget_pixels()
        _disconnect(self._links)
        _disconnect(self._pixel_links)
        self._end_session()
        # Removing a layer calls us back.
        overlays, self.overlays = self.overlays, None
        if overlays is not None:
            overlays.remove()

    def _forget_pixels(self) -> None:
        """Answer and write nothing any more of the pixels that were there."""
        self.jobs.stop()
        self._answerer.show(None)
        self.encodings = self._wanted = None

    def _end_session(self) -> None:
        if self.session is not None:
            self.session.write_to(None)
        self.session = None

    def _layers(self) -> list[Image]:
        """The image, and what is blended with it."""
        return [self._image(), *(layer for layer in self._others() if layer.visible)]

    def _others(self) -> list[Image]:
        """What is blended with the image while it is visible."""
        image = self._image()
        if not self.is_blended or image.rgb:
            return []
        images = (layer for layer in self.viewer.layers if isinstance(layer, Image))
        return [
            layer
            for layer in images
            if layer is not image and not layer.rgb and layer.ndim == image.ndim
        ]

    def _watch(self, layers: Sequence[Image]) -> None:
        """Notice when layers, or what others could be blended with them, show something else."""
        _disconnect(self._pixel_links)
        for layer in layers:
            self._pixel_links += [
                (layer.events.contrast_limits, self._on_pixels),
                (layer.events.colormap, self._on_pixels),
                (layer.events.data, self._on_data),
            ]
        self._pixel_links += [(layer.events.visible, self._on_pixels) for layer in self._others()]
        for event, callback in self._pixel_links:
            event.connect(callback)

    def _attach(self, create: bool = False) -> None:
        """Let the session write to the labels layer, a new one if there is none."""
        session, image = self.session, self.image
        assert session is not None and image is not None
        if self.labels is None and not create:
            session.write_to(None)
            return
        if session.store is not None and session.store.layer is self.labels:
            session.store.check()
            return
        shape = self.view().shape
        is_new = self.labels is None
        if self.labels is None:
            self.labels = new_labels(self.viewer, image, shape)
        session.write_to(None)
        session.write_to(LabelStore(self.labels, shape, is_empty=is_new))
        if is_new:
            self.opened.emit()

    def view(self) -> View:
        """What the viewer shows of the image.

        Raises:
            UserError: there is no image.
        """
        return View(self.viewer, self._image(), self.colour_axis)

    def _image(self) -> Image:
        if self.image is None:
            raise UserError("There is no image yet: open one, and choose it here.")
        return self.image

    def _folder(self) -> Path:
        path = None if self.image is None else self.image.source.path
        if self._beside_image and path is not None:
            return Path(f"{path}.samlet")
        return cache_dir() / "embeddings"

    def _cache(self) -> EmbeddingCache:
        return EmbeddingCache(self._folder(), MEMORY_BYTES, DISK_BYTES)

    # What is seen.

    def show(self) -> None:
        """Bring the overlays to what the session holds."""
        if self.session is not None and self.overlays is not None:
            display.show(self.session, self.overlays)

    def tell(self) -> None:
        """Say how things stand."""
        if self.session is not None and self.image is not None:
            self.status.emit(display.sentence(self.session, self.image.name))

    def _take(self, answer: Answer) -> None:
        if self.session is not None and self.session.take(answer):
            self.show()
            if answer.ask.kind == "object" or answer.error:
                self.tell()

    def _tell_encoding(self, is_encoding: bool) -> None:
        self.busy.emit(is_encoding)
        session = self.session
        if session is None:
            return
        if is_encoding and session.draft is None and not session.waiting:
            self.status.emit("The model looks at the image; you can click already.")
        elif not is_encoding:
            self.tell()

    # What happens in the viewer.

    def _link(self, event: Any, callback: Callable[..., None]) -> None:
        event.connect(callback)
        self._links.append((event, callback))

    def _follow(self) -> None:
        if self.overlays is not None:
            self.overlays.follow()

    def _on_pixels(self) -> None:
        self._picture_timer.start()

    def _on_data(self) -> None:
        self._forget_pixels()
        if shape_of(self._image()) != self._shape:
            self._end_session()
            # napari is still about to take in the new shape itself.
            QTimer.singleShot(0, self._enter_again)
            return
        if self.session is not None:
            self.session.ask_again()
            self.show()
        self._picture_timer.start()

    def _on_view(self) -> None:
        self._view_timer.start()

    def _on_dims(self) -> None:
        if self.session is not None:
            self.session.point_nowhere()
            self.show()
        self._view_timer.start()

    def _on_inserted(self, event: Any) -> None:
        if self.is_blended and isinstance(event.value, Image):
            self._on_pixels()

    def _on_removed(self, event: Any) -> None:
        # Of what a viewer removes together, the rest would be drawn half removed.
        QTimer.singleShot(0, partial(self._let_go, event.value))

    def _let_go(self, removed: Any) -> None:
        if removed in self.viewer.layers:
            return
        if self.image is not None and removed is self.image:
            name = self.image.name
            self.choose_image(None)
            self.status.emit(f"{name} is gone: choose another image.")
        elif removed is self.labels:
            self.choose_labels(None)
            self.opened.emit()
        elif self.overlays is not None and removed in self.overlays.layers:
            self.choose_image(None)
            self.status.emit("A layer of samlet's was removed: choose the image again.")
        elif self.is_blended and isinstance(removed, Image):
            self._on_pixels()


def _disconnect(links: list[tuple[Any, Any]]) -> None:
    for event, callback in links:
        event.disconnect(callback)
    links.clear()


def _timer(pause: int, callback: Callable[[], None]) -> QTimer:
    timer = QTimer()
    timer.setSingleShot(True)
    timer.setInterval(pause)
    timer.timeout.connect(callback)
    return timer
