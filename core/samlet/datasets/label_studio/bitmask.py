"""The value of a BitmaskLabels region: a PNG of the image's size as a data URL.

Label Studio writes it black and opaque on the object, and reads only the opacity:
web/libs/editor/src/regions/BitmaskRegion.jsx in HumanSignal/label-studio.
"""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samlet.datasets import json_files
from samlet.datasets.label_studio.geometry import RegionValue
from samlet.errors import UserError
from samlet.images.formats.read_errors import explain_read_errors
from samlet.masks import CroppedMask

_FIELD = "imageDataURL"
_PREFIX = "data:image/png;base64,"


def read_bitmask(value: RegionValue) -> np.ndarray:
    """Unpack the mask of a BitmaskLabels region: bool, H x W.

    Raises:
        UserError: "imageDataURL" is missing, or is no image of this size with opacity.
    """
    url = json_files.get_field(value.fields, _FIELD, str, value.where, value.remedy)
    height, width = value.size
    try:
        content = base64.b64decode(url.partition(",")[2], validate=True)
        with (
            explain_read_errors(Path(_FIELD)),
            Image.open(BytesIO(content), formats=["PNG"]) as image,
        ):
            has_opacity = "A" in image.getbands() or "transparency" in image.info
            if has_opacity and image.size == (width, height):
                return np.asarray(image.convert("RGBA"))[..., 3] > 127
    except (ValueError, UserError) as error:
        raise UserError(f'{value.where} has no image in its "{_FIELD}": {value.remedy}.') from error
    raise UserError(
        f"{value.where} has a bitmask that is not {width} x {height} pixels with opacity, "
        "as its image: draw it again."
    )


def bitmask_value(mask: CroppedMask) -> dict[str, Any]:
    """Write the value of a BitmaskLabels region, without its label."""
    height, width = mask.size
    full = np.zeros((height, width), np.uint8)
    rows, columns = mask.mask.shape
    full[mask.y : mask.y + rows, mask.x : mask.x + columns] = mask.mask
    # A palette of two colours: one bit a pixel, since a project has thousands of these.
    image = Image.fromarray(full, "P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    stream = BytesIO()
    image.save(stream, "PNG", bits=1, transparency=bytes([0, 255]))
    return {_FIELD: _PREFIX + base64.b64encode(stream.getvalue()).decode()}
