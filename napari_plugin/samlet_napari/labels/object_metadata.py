"""The prompts of objects, in a labels layer's metadata.

They are kept as `layer.metadata["samlet"]["objects"]`: by label, as text, a list with what
`ObjectInPlane.to_json` gives for each plane. Users and other programs may have changed it, so
anything may be found there.
"""

from typing import Any

from napari.layers import Labels

from samlet_napari.inference.objects import ObjectInPlane
from samlet_napari.layers.plane import Plane

KEY = "samlet"


class ObjectMetadata:
    """Reads and writes the prompts of a layer's objects.

    Args:
        layer: whose metadata.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer

    @property
    def labels(self) -> list[int]:
        """All labels that have an entry."""
        return [_to_label(key) for key in self._entries()]

    def raw(self, label: int) -> Any:
        """The entry of a label as it is, for `set_raw`; None if there is none."""
        return self._entries().get(str(label))

    def set_raw(self, label: int, entry: Any) -> None:
        """Replace the entry of a label; None removes it."""
        entries = self._entries()
        if entry is None:
            entries.pop(str(label), None)
        else:
            entries[str(label)] = entry
        metadata = self._layer.metadata.get(KEY)
        others = metadata if isinstance(metadata, dict) else {}
        self._layer.metadata[KEY] = {**others, "objects": entries}

    def objects(self, label: int) -> list[ObjectInPlane]:
        """The object in all of its planes."""
        values = self.raw(label)
        parsed = map(ObjectInPlane.from_json, values if isinstance(values, list) else [])
        return [each for each in parsed if each is not None]

    def object_in(self, label: int, plane: Plane) -> ObjectInPlane | None:
        """The object in a plane; None if nothing is known of it there."""
        return next((each for each in self.objects(label) if each.plane == plane), None)

    def _entries(self) -> dict[str, Any]:
        metadata = self._layer.metadata.get(KEY)
        entries = metadata.get("objects") if isinstance(metadata, dict) else None
        return entries if isinstance(entries, dict) else {}


def _to_label(key: Any) -> int:
    """A label from the metadata; 0 if it is none."""
    return int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 20 else 0
