"""Changes of a viewer's layers that napari draws together."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from napari.components import ViewerModel

_depths: "WeakKeyDictionary[ViewerModel, int]" = WeakKeyDictionary()


@contextmanager
def batched_update(viewer: ViewerModel) -> Iterator[None]:
    """Let napari build its scene anew, and collect garbage, once for all changes inside.

    Of several inside each other the outermost counts; napari's own ends with the innermost.
    """
    depth = _depths.get(viewer, 0)
    if depth == 0:
        viewer.layers.events.begin_batch()
    _depths[viewer] = depth + 1
    try:
        yield
    finally:
        _depths[viewer] = depth
        if depth == 0:
            viewer.layers.events.end_batch()
