"""Measurements of the objects of a label map, as tables: size, shape, position, intensities."""

from samlet.images import PixelSize, read_pixel_size
from samlet.measurements.objects import measure_objects

__all__ = ["PixelSize", "measure_objects", "read_pixel_size"]
