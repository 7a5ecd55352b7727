"""Masks for BrushLabels: every pixel is kept."""

from typing import Any

from samlet.datasets.label_studio import brush_rle
from samlet.masks import CroppedMask


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Give the "value" of the one region, without its label.

    Raises:
        UserError: the image is too large for a brush mask.
    """
    return [{"format": "rle", "rle": brush_rle.encode(mask)}]
