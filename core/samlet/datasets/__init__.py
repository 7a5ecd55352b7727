"""Labelled images: labels of several formats, read into one form.

Objects may overlap (in SA-1B, objects contain others), so labels are layers of label maps: int32,
L x H x W with L >= 1, where 0 is background. Objects of one layer do not overlap, and every object
has its own number.
"""

from samlet.datasets.finding import find_labelled_images
from samlet.datasets.labelled_images import LabelledImage, LabelledImages
from samlet.datasets.layers import iter_objects, pack_layers

__all__ = ["LabelledImage", "LabelledImages", "find_labelled_images", "iter_objects", "pack_layers"]
