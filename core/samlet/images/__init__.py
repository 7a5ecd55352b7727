"""Reading image files and stacks, and converting arrays: RGB, uint8, H x W x 3."""

from samlet.images.decoded_image import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES
from samlet.images.finding import find, is_result
from samlet.images.reading import read
from samlet.images.resizing import resize_longest, resized_shape
from samlet.images.rgb import to_rgb
from samlet.images.stacks import ImageStack, is_stack, open_stack

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_SUFFIXES",
    "ImageStack",
    "find",
    "is_result",
    "is_stack",
    "open_stack",
    "read",
    "resize_longest",
    "resized_shape",
    "to_rgb",
]
