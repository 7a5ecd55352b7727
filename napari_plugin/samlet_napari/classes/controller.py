"""Classes of the objects that are annotated in a viewer: listed, given by keys, and learned."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap
from napari.viewer import Viewer
from psygnal import Signal

from samlet.datasets.labelled_images import ObjectClass
from samlet.errors import UserError
from samlet.outputs.records import DEFAULT_CATEGORY
from samlet_napari.labels.object_classes import (
    NamedClass,
    ObjectClasses,
    free_colour,
    merge_lists,
)
from samlet_napari.ui import commands
from samlet_napari.ui.controller import Controller
from samlet_napari.viewer.classify_task import ClassifyTask, Examples
from samlet_napari.viewer.overlays import Overlays

KEYS = "123456789"
"""Of the classes, in the order of the list."""
NO_CLASS_KEY = "0"


class ClassesController:
    """Gives classes to the objects of the widget "Segment" in a viewer.

    The list of classes stays from image to image; labels that are opened add theirs.

    Args:
        viewer: whose objects.

    Attributes:
        status: emitted with a sentence whenever something happens.
        changed: emitted when the list or the class of an object has changed.
        classes: the list.
        is_coloured: whether objects have the colours of their classes.
        is_closed: whether it was closed.
    """

    status = Signal(str)
    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        self.classes: list[NamedClass] = []
        self.is_coloured = False
        self.is_closed = False
        self._viewer = viewer
        self._segment: Controller | None = None
        self._bound: Overlays | None = None
        self._layer: Labels | None = None
        self._plain: CyclicLabelColormap | DirectLabelColormap | None = None
        self._examples: dict[str, Examples] = {}
        commands.registry.changed.connect(self._on_registered)
        self._on_registered()

    # The list.

    def add(self, name: str) -> None:
        """Add a class.

        Raises:
            UserError: the name is empty, or taken.
        """
        name = self._checked(name)
        self.classes = [*self.classes, NamedClass(name, free_colour(self.classes))]
        self._write_list()

    def rename(self, old: str, new: str) -> None:
        """Rename a class, also that of the objects; labels that are not open keep the old name.

        Raises:
            UserError: the name is empty, or taken.
        """
        if new.strip() == old:
            return
        new = self._checked(new)
        self.classes = [
            NamedClass(new, one.colour) if one.name == old else one for one in self.classes
        ]
        self._examples = {
            image: (features, [new if name == old else name for name in names])
            for image, (features, names) in self._examples.items()
        }
        if self._layer is not None:
            ObjectClasses(self._layer).rename(old, new)
        self._write_list()

    def recolour(self, name: str, colour: str) -> None:
        """Give a class another colour: #rrggbb."""
        self.classes = [
            NamedClass(name, colour) if one.name == name else one for one in self.classes
        ]
        self._write_list()

    def remove(self, name: str) -> None:
        """Remove a class; objects that have it have none then."""
        self.classes = [one for one in self.classes if one.name != name]
        for image, (features, names) in list(self._examples.items()):
            kept = [i for i, each in enumerate(names) if each != name]
            self._examples[image] = features[kept], [names[i] for i in kept]
        if self._layer is not None:
            ObjectClasses(self._layer).remove(name)
        self._write_list()

    def count(self, is_given: bool) -> Counter[str]:
        """How many objects of the labels have which class, given by a user or predicted."""
        known = {} if self._layer is None else ObjectClasses(self._layer).known()
        return Counter(one.name for one in known.values() if (one.probability is None) is is_given)

    # The objects.

    def give(self, number: int) -> None:
        """Give a class to the object under the cursor, or else to that committed last.

        An object that is being clicked is committed first.

        Args:
            number: of the class in the list, from 1; 0 takes the class away.
        """
        try:
            if number > len(self.classes):
                raise UserError(f"There is no class {number} yet: add one to the list.")
            label = self._label_to_classify()
            layer = self._segment_controller().workspace.label_store().layer
            name = None if number == 0 else self.classes[number - 1].name
            self._follow()
            classes = ObjectClasses(layer)
            classes.set_list(self.classes)
            classes.update({label: None if name is None else ObjectClass(name)})
        except UserError as error:
            self.status.emit(str(error))
        else:
            self.status.emit(f"Object {label}: {name or 'no class'}.")

    def classify_rest(self) -> None:
        """Learn from the objects whose class is given, and give the others of the plane theirs."""
        try:
            segment = self._segment_controller()
            image = segment.workspace.require_image()
            key = f"{image.source.path}|{image.name}"
            elsewhere = {other: it for other, it in self._examples.items() if other != key}
            segment.tasks.start(
                partial(ClassifyTask, segment.workspace, elsewhere, partial(self._remember, key)),
                "Classifying objects ...",
            )
        except UserError as error:
            self.status.emit(str(error))

    def set_coloured(self, on: bool) -> None:
        """Draw objects in the colours of their classes, or in napari's."""
        self.is_coloured = on
        self._colour()

    def close(self) -> None:
        """Release keys and layers; objects get napari's colours."""
        self.is_closed = True
        commands.registry.changed.disconnect(self._on_registered)
        self._leave_segment()
        self._leave_layer()

    def _label_to_classify(self) -> int:
        workspace = self._segment_controller().workspace
        workspace.require_embeddings()
        session, store = workspace.session, workspace.label_store()
        assert session is not None
        if session.draft is None:
            position = workspace.viewer.cursor.position
            under_cursor = store.label_at(*workspace.view().to_pixel(position))
            if under_cursor:
                return under_cursor
        if session.draft is None and session.labels.last is None:
            raise UserError("There is no object here: point at one, or click on one first.")
        return workspace.committed_object()[0]

    def _remember(self, image: str, examples: Examples) -> None:
        self._examples[image] = examples

    def _checked(self, name: str) -> str:
        name = name.strip()
        if not name:
            raise UserError("The name of a class is empty: give it one.")
        if name == DEFAULT_CATEGORY:
            raise UserError(
                f"{name} stands for objects without a class in files: give another name."
            )
        if name in {one.name for one in self.classes}:
            raise UserError(f"There is a class {name} already: give another name.")
        return name

    def _write_list(self) -> None:
        """Keep the list with the labels, if any of their objects has a class."""
        if self._layer is not None and ObjectClasses(self._layer).known():
            ObjectClasses(self._layer).set_list(self.classes)
        self._colour()
        self.changed.emit()

    # What happens in the viewer.

    def _segment_controller(self) -> Controller:
        if self._segment is None:
            raise UserError("Open Plugins > samlet > Segment first.")
        return self._segment

    def _on_registered(self) -> None:
        segment = commands.controller_of(self._viewer)
        if segment is self._segment:
            return
        self._leave_segment()
        self._segment = segment
        if segment is not None:
            segment.workspace.opened.connect(self._follow)
            segment.workspace.shown.connect(self._follow)
            segment.workspace.status.connect(self._on_status)
        self._follow()

    def _follow(self) -> None:
        """Go on with the labels and overlays that there are now."""
        workspace = None if self._segment is None else self._segment.workspace
        overlays = None if workspace is None else workspace.overlays
        if overlays is not None and overlays is not self._bound:
            self._bound = overlays
            for number, key in enumerate((NO_CLASS_KEY, *KEYS)):
                self._bind(key, partial(self.give, number))
        layer = None if workspace is None else workspace.labels
        if layer is not self._layer:
            self._leave_layer()
            self._layer = layer
            if layer is not None:
                self.classes = merge_lists(self.classes, ObjectClasses(layer).listed)
                layer.events.features.connect(self._on_features)
                self._plain = layer.colormap
            self._colour()
            self.changed.emit()

    def _bind(self, key: str, action: Callable[[], None] | None) -> None:
        """Bind a key on our layers, where napari's own change modes that those do not have."""
        for layer in self._bound.layers if self._bound is not None else ():
            layer.bind_key(key, None if action is None else _ignore_layer(action), overwrite=True)

    def _leave_segment(self) -> None:
        for key in (NO_CLASS_KEY, *KEYS):
            self._bind(key, None)
        if self._segment is not None:
            workspace = self._segment.workspace
            workspace.opened.disconnect(self._follow)
            workspace.shown.disconnect(self._follow)
            workspace.status.disconnect(self._on_status)
        self._segment = self._bound = None

    def _leave_layer(self) -> None:
        if self._layer is not None:
            self._layer.events.features.disconnect(self._on_features)
            if self._plain is not None:
                self._layer.colormap = self._plain
        self._layer = self._plain = None

    def _on_status(self, text: str) -> None:
        self.status.emit(text)

    def _on_features(self) -> None:
        if self._layer is not None:
            self.classes = merge_lists(self.classes, ObjectClasses(self._layer).listed)
        self._colour()
        self.changed.emit()

    def _colour(self) -> None:
        if self._layer is None or self._plain is None:
            return
        if self.is_coloured:
            self._layer.colormap = ObjectClasses(self._layer).colormap(self.classes)
        elif self._layer.colormap is not self._plain:
            self._layer.colormap = self._plain


def _ignore_layer(action: Callable[[], None]) -> Any:
    def act(layer: Any) -> None:
        action()

    return act
