"""Measurements of the objects of a label map, as tables: size, shape, position, intensities."""

from samlet.measurements.objects import measure_objects
from samlet.measurements.pixel_size import PixelSize, read_pixel_size

__all__ = ["PixelSize", "measure_objects", "read_pixel_size"]
