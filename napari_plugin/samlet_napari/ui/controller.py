"""Ties a workspace to its viewer's events, to the model and to Qt.

Everything here runs in the GUI thread. What takes longer than a blink runs elsewhere, on snapshots,
and is brought back to this thread.
"""

import gc
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Labels
from psygnal import Signal
from qtpy.QtCore import QTimer

from samlet.errors import UserError
from samlet.everything.similar import DEFAULT_LIKENESS
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.predictor import Predictor
from samlet.utils.cache_folder import embeddings_dir, embeddings_limit
from samlet.utils.messages import pluralize
from samlet_napari.inference import models
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.model_download import describe
from samlet_napari.inference.requests import Response
from samlet_napari.inference.roi import choose_roi
from samlet_napari.inference.worker import InferenceWorker
from samlet_napari.layers.layer_data import shape_of
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane
from samlet_napari.session.session import Session
from samlet_napari.ui.main_thread import in_main_thread
from samlet_napari.ui.model_loading import ModelLoading
from samlet_napari.ui.task_runner import TaskRunner
from samlet_napari.ui.viewer_events import ViewerEvents
from samlet_napari.viewer.everything_task import EverythingTask
from samlet_napari.viewer.measurement import measure
from samlet_napari.viewer.overlays import Overlays
from samlet_napari.viewer.propagation_task import PropagationTask
from samlet_napari.viewer.similar_task import SimilarTask
from samlet_napari.viewer.source_layers import Links, SourceLayers
from samlet_napari.viewer.user_actions import UserActions
from samlet_napari.viewer.workspace import Workspace

MEMORY_BYTES = 1 << 28
CONTRAST_PAUSE_MS = 400
"""Time without a change before pixels that have changed are read again."""

_collect_once = cache(gc.collect)
"""Looks for garbage among all that was imported by then, at its end: Python would do so later, and
block the window for a third of a second amid a click."""


class Controller:
    """Clicks in a viewer.

    Args:
        viewer: whose layers and dims.

    Attributes:
        busy: emitted with True when the model begins to encode, and with False at the end.
        download: emitted with the fraction of a model's file that is here, 0 to 1, and with -1 at
            the end.
        model_kept: emitted with the name of the model that stays in use, as the chosen one could
            not be loaded.
        workspace: the image, and what belongs to it.
        actions: what the user does on the canvas.
        tasks: long work on the image.
        model: the name or file of the model.
        sources: whose pixels the model sees.
        all_slices: whether everything mode searches all slices of a stack.
        likeness: least likeness of similar objects that are shown, 0 to 1.
    """

    busy = Signal(bool)
    download = Signal(float)
    model_kept = Signal(str)

    def __init__(self, viewer: ViewerModel) -> None:
        self.workspace = Workspace(viewer)
        self.actions = UserActions(self.workspace)
        self.tasks = TaskRunner(self.workspace)
        self.sources = SourceLayers(viewer, self._on_pixels, self._on_data)
        self.model = models.names()[0]
        self.all_slices = False
        self.likeness = DEFAULT_LIKENESS
        self._worker = InferenceWorker(self._on_response, self._on_encoding)
        self._auto_commit = False
        self._overwrite = False
        self._beside_image = False
        self._disk_bytes = 0
        self._embedding_cache: EmbeddingCache | None = None
        self._shape: tuple[int, ...] = ()
        self._snapshot: LayerSnapshot | None = None
        self._used_model = self.model
        self._loading: ModelLoading | None = None
        self._transform_links = Links()
        self._pixel_timer = QTimer()
        self._pixel_timer.setSingleShot(True)
        self._pixel_timer.setInterval(CONTRAST_PAUSE_MS)
        self._pixel_timer.timeout.connect(self._reopen)
        self._events = ViewerEvents(
            viewer,
            on_view=self.encode_ahead,
            on_dims=self._on_dims,
            on_inserted=self._on_inserted,
            on_removed=self._on_removed,
        )

    # What a user chooses.

    def choose_image(self, image: Image | None) -> None:
        """Click on another image from now on, or on none."""
        workspace = self.workspace
        if image is workspace.image:
            return
        self._leave()
        self.actions.discard_early()
        workspace.image = image
        if image is None:
            workspace.opened.emit()
            workspace.status.emit("Open an image, and choose it here.")
            return
        self._enter(image).activate()

    def choose_model(self, name: str) -> None:
        """Predict with another model from now on: a name or a checkpoint's file."""
        if name != self.model:
            self.model = name
            self._reopen()

    def choose_labels(self, labels: Labels | None) -> None:
        """Write objects to a layer; None makes a new one when the first is committed.

        Raises:
            UserError: the labels do not fit the image.
        """
        self.workspace.labels = labels
        if self.workspace.session is not None:
            self.workspace.attach_labels()
            self.workspace.show()

    def choose_pixels(self, *, as_shown: bool, colour_axis: int | None, is_blended: bool) -> None:
        """Show the model the image as napari does, or by percentiles; and which channels."""
        workspace, sources = self.workspace, self.sources
        before = (sources.as_shown, workspace.colour_axis, sources.is_blended)
        if (as_shown, colour_axis, is_blended) != before:
            sources.as_shown, sources.is_blended = as_shown, is_blended
            workspace.colour_axis = colour_axis
            self._reopen()

    def set_auto_commit(self, on: bool) -> None:
        """Make every click an object, or not."""
        self._auto_commit = on
        if self.workspace.session is not None:
            self.workspace.session.auto_commit = on

    def set_overwrite(self, on: bool) -> None:
        """Let objects take pixels of others, or not."""
        self._overwrite = on
        if self.workspace.session is not None:
            self.workspace.session.labels.overwrite = on

    def set_live(self, on: bool) -> None:
        """Show what lies under the cursor, or not."""
        self.actions.is_live = on
        if self.workspace.session is not None:
            self.workspace.session.clear_hover()
            self.workspace.show()

    def keep_beside_image(self, on: bool) -> None:
        """Keep embeddings in a folder beside the image's file, or in the cache."""
        self._beside_image = on
        if self.workspace.embeddings is not None:
            image = self.workspace.require_image()
            self.workspace.embeddings.set_cache(self._cache(image))
            self.encode_ahead()
            self.workspace.status.emit(f"Embeddings are kept in {self._folder(image)}.")

    # What a user starts and stops.

    def segment_everything(self, only_visible: bool = False) -> None:
        """Find all objects of the plane or of all slices, or those in view, and write them.

        Raises:
            UserError: there is no image, or another task is running.
        """
        make_task = partial(EverythingTask, self.workspace, only_visible, self.all_slices)
        self.tasks.start(make_task, "Looking for all objects ...")

    def find_similar(self) -> None:
        """Find objects like those that were committed last, and show them.

        Raises:
            UserError: there is no object, or another task is running.
        """
        make_task = partial(SimilarTask, self.workspace, self.likeness)
        self.tasks.start(make_task, "Looking for similar objects ...")

    def measure(self) -> None:
        """Measure the objects of the plane that is shown, see `samlet_napari.viewer.measurement`.

        Raises:
            UserError: there is no image, or no object.
        """
        count = measure(self.workspace)
        self.workspace.status.emit(
            f"Measured {pluralize(count, 'object')}: see Layers > Metadata > Features table."
        )

    def set_likeness(self, likeness: float) -> None:
        """Show similar objects of at least this likeness, of those that were found."""
        self.likeness = likeness
        session = self.workspace.session
        if session is not None and session.similar is not None:
            session.similar.threshold = likeness
            self.workspace.show()
            self.workspace.report()

    def propagate(self, forward: bool = True) -> None:
        """Propagate the object through the slices after this one, or before it.

        Raises:
            UserError: there is no object, or no stack, or another task is running.
        """
        make_task = partial(PropagationTask, self.workspace, forward)
        self.tasks.start(make_task, "Following the object through the stack ...")

    def stop(self) -> None:
        """Drop what waits for the model, and end the task that is running."""
        self.actions.discard_early()
        self._worker.cancel()
        self.tasks.stop()
        if self.workspace.session is not None:
            self.workspace.session.cancel()
            self.workspace.show()
        self.workspace.status.emit("Stopped.")
        loading = self._loading
        if loading is not None and loading.is_downloading:
            loading.stop()
            self._on_load_error(
                f"The download of {loading.name} was stopped: choose it again to resume."
            )

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits: no request, no image to open, nothing to encode."""
        session = self.workspace.session
        is_opening = self._snapshot is not None or self._pixel_timer.isActive()
        is_waiting = session is not None and session.waiting > 0
        return self._worker.is_idle and not (is_opening or is_waiting or self._events.is_pending)

    @property
    def is_inferring(self) -> bool:
        """Whether the user waits for the model; from any thread."""
        return not self._worker.is_idle

    def encoding_of(self, channels: Sequence[Image]) -> Callable[[], object] | None:
        """What encodes an image as it will be needed once it is chosen, for another thread.

        Args:
            channels: its layer, or several that will be blended.

        Returns:
            None without a model, and for stacks, of which nobody knows which slice will be shown.

        Raises:
            UserError: the image cannot be shown to a model.
        """
        current = self.workspace.embeddings
        shape = shape_of(channels[0])
        if current is None or len(shape) != 2:
            return None
        snapshot = LayerSnapshot.of(channels, as_shown=self.sources.as_shown)
        embeddings = EmbeddingProvider(current.predictor, snapshot, self._cache(channels[0]))
        centre = (shape[1] / 2, shape[0] / 2) * 2
        roi = choose_roi(Plane((0, 1), (0, 0)), shape, centre, max(shape), current.input_size)
        return partial(embeddings.get, roi)

    def encode_ahead(self) -> None:
        """Encode what the user sees, and then the slices beside it."""
        session = self.workspace.session
        if session is None:
            return
        view = self.workspace.view()
        try:
            plane, box = view.plane(), view.visible_box()
            session.visible_size = view.visible_size()
        except UserError:
            return
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        planes = [plane, *view.neighbours(plane)]
        self._worker.encode_ahead([session.roi_for(p, (x, y, x, y)) for p in planes])

    def close(self) -> None:
        """Remove our layers, and disconnect from the viewer."""
        self._events.close()
        self._pixel_timer.stop()
        if self._loading is not None:
            self._loading.stop()
        self._leave()
        self.workspace.image = None
        self._worker.close()

    # Opening and leaving an image.

    def _enter(self, image: Image) -> Overlays:
        """Lay our layers over an image, and open it."""
        self._shape = shape_of(image)
        overlays = self.workspace.overlays = Overlays(self.workspace.viewer, image)
        events = image.events
        for event in (events.scale, events.translate, events.rotate, events.shear, events.affine):
            self._transform_links.connect(event, overlays.follow)
        self._open(image)
        self.workspace.opened.emit()
        return overlays

    def _enter_again(self) -> None:
        """Start anew with the image, whose data has another shape now."""
        workspace, layers = self.workspace, self.workspace.viewer.layers
        image = workspace.image
        if image is None or shape_of(image) == self._shape:
            return
        was_active, active = workspace.is_active, layers.selection.active
        self._leave()
        overlays = self._enter(image)
        if was_active:
            overlays.activate()
        else:
            layers.selection.active = active

    def _open(self, image: Image) -> None:
        """Take a snapshot of the image, and load the model if need be."""
        workspace = self.workspace
        self._snapshot, workspace.opening_error = None, ""
        self.sources.watch(image)
        try:
            self._disk_bytes = embeddings_limit()
            self._snapshot = self.sources.snapshot(image, workspace.colour_axis)
        except UserError as error:
            self._on_opening_error(str(error))
            return
        if self._loading is not None:
            self._loading.stop()
        workspace.status.emit(f"Loading the model {self.model} ...")
        self._loading = ModelLoading(
            self.model, self._on_model, self._on_load_error, self._on_download
        )

    def _reopen(self) -> None:
        if self.workspace.image is not None:
            self._open(self.workspace.image)

    def _on_opening_error(self, error: str) -> None:
        self.workspace.opening_error = error
        self.workspace.status.emit(error)

    def _on_load_error(self, error: str) -> None:
        """Go on with the model that was used before, if there is one."""
        self.download.emit(-1.0)
        self._snapshot = None
        if self.workspace.embeddings is None:
            self._on_opening_error(error)
            return
        self.model = self._used_model
        self.model_kept.emit(self.model)
        self.workspace.status.emit(f"{error} {self.model} stays in use.")

    def _on_download(self, received: int, total: int | None) -> None:
        self.workspace.status.emit(describe(self.model, received, total))
        self.download.emit(received / total if total else 0.0)

    def _on_model(self, predictor: Predictor) -> None:
        workspace, snapshot = self.workspace, self._snapshot
        self.download.emit(-1.0)
        # The image may have been left meanwhile.
        if snapshot is None:
            return
        self._snapshot = None
        _collect_once()
        embeddings = EmbeddingProvider(predictor, snapshot, self._cache(workspace.require_image()))
        workspace.embeddings, self._used_model = embeddings, self.model
        self._worker.set_image(embeddings)
        session = workspace.session
        if session is None:
            session = Session(self._worker, snapshot.size, embeddings.input_size)
            session.auto_commit, session.labels.overwrite = self._auto_commit, self._overwrite
            workspace.session = session
        else:
            session.plane_size, session.input_size = snapshot.size, embeddings.input_size
        try:
            workspace.attach_labels()
        except UserError as error:
            session.error = str(error)
        session.resubmit()
        workspace.show()
        is_reported = self.actions.run_early()
        self.encode_ahead()
        if not is_reported:
            workspace.report()

    def _leave(self) -> None:
        """Let go of the image."""
        self._drop_pixels()
        self._transform_links.disconnect()
        self.sources.unwatch()
        self._end_session()
        # Removing a layer calls us back.
        overlays, self.workspace.overlays = self.workspace.overlays, None
        if overlays is not None:
            overlays.remove()

    def _drop_pixels(self) -> None:
        """Predict and write nothing any more of the pixels that were there."""
        self.tasks.drop()
        self._worker.set_image(None)
        self.workspace.embeddings = self._snapshot = None

    def _end_session(self) -> None:
        if self.workspace.session is not None:
            self.workspace.session.labels.set_store(None)
        self.workspace.session = None

    def _folder(self, image: Image) -> Path:
        path = image.source.path
        if self._beside_image and path is not None:
            return Path(f"{path}.samlet")
        return embeddings_dir()

    def _cache(self, image: Image) -> EmbeddingCache:
        folder = self._folder(image)
        # One that is shared lets an image wait for the encoding that was begun ahead.
        if self._embedding_cache is None or self._embedding_cache.folder != folder:
            self._embedding_cache = EmbeddingCache(folder, MEMORY_BYTES, self._disk_bytes)
        return self._embedding_cache

    # What comes from the model's threads.

    @in_main_thread
    def _on_response(self, response: Response) -> None:
        session = self.workspace.session
        if session is not None and session.receive(response):
            self.workspace.show()
            if response.request.kind == "object" or response.error:
                self.workspace.report()

    @in_main_thread
    def _on_encoding(self, is_encoding: bool) -> None:
        self.busy.emit(is_encoding)
        session = self.workspace.session
        if session is None:
            return
        if is_encoding and session.draft is None and not session.waiting:
            self.workspace.status.emit("The model is encoding the image; you can already click.")
        elif not is_encoding:
            self.workspace.report()

    # What happens in the viewer.

    def _on_pixels(self) -> None:
        self._pixel_timer.start()

    def _on_data(self) -> None:
        self._drop_pixels()
        if shape_of(self.workspace.require_image()) != self._shape:
            self._end_session()
            # napari is still about to take in the new shape itself.
            QTimer.singleShot(0, self._enter_again)
            return
        if self.workspace.session is not None:
            self.workspace.session.resubmit()
            self.workspace.show()
        self._pixel_timer.start()

    def _on_dims(self) -> None:
        if self.workspace.session is not None:
            self.workspace.session.clear_hover()
            self.workspace.show()

    def _on_inserted(self, layer: Any) -> None:
        if self.sources.is_blended and isinstance(layer, Image):
            self._on_pixels()

    def _on_removed(self, layer: Any) -> None:
        workspace = self.workspace
        if workspace.image is not None and layer is workspace.image:
            name = workspace.image.name
            self.choose_image(None)
            workspace.status.emit(f"{name} was removed: choose another image.")
        elif layer is workspace.labels:
            self.choose_labels(None)
            workspace.opened.emit()
        elif workspace.overlays is not None and layer in workspace.overlays.layers:
            self.choose_image(None)
            workspace.status.emit("One of samlet's layers was removed: choose the image again.")
        elif self.sources.is_blended and isinstance(layer, Image):
            self._on_pixels()
