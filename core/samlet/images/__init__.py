"""Reading image files and stacks, and converting arrays: RGB, uint8, H x W x 3."""

from samlet.images.finding import check_exists, find, is_folder_of_images, is_result
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES
from samlet.images.formats.pixel_size import PixelSize
from samlet.images.image_file import ImageFile, open_image, read_pixel_size
from samlet.images.reading import read
from samlet.images.resizing import resize_longest, resized_shape
from samlet.images.rgb import to_rgb
from samlet.images.slice_paths import SliceChoice, SlicePath, slice_path, split_slice
from samlet.images.slices import list_series, list_slices
from samlet.images.stacks import ImageStack, is_stack, open_stack

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_SUFFIXES",
    "ImageFile",
    "ImageStack",
    "PixelSize",
    "SliceChoice",
    "SlicePath",
    "check_exists",
    "find",
    "is_folder_of_images",
    "is_result",
    "is_stack",
    "list_series",
    "list_slices",
    "open_image",
    "open_stack",
    "read",
    "read_pixel_size",
    "resize_longest",
    "resized_shape",
    "slice_path",
    "split_slice",
    "to_rgb",
]
