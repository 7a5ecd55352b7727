"""Training labels of several formats, in one form.

Objects may overlap (those of SA-1B nest), so labels are layers of label maps: int32, L x H x W,
L >= 1, 0 being background. Objects of one layer do not overlap, and every object has a number of
its own.
"""

from samlet.datasets.finding import find_labelled_images
from samlet.datasets.labelled_images import LabelledImage, LabelledImages
from samlet.datasets.layers import objects, pack

__all__ = ["LabelledImage", "LabelledImages", "find_labelled_images", "objects", "pack"]
