"""The bundled model for smaller images, where its full size would only take time."""

import samlet
from samlet.distill.distillation import at_size
from samlet.modeling.sam import Sam


def nuclei_at(image_size: int) -> Sam:
    """The bundled model for images of another size in pixels; half is a quarter of the work."""
    return at_size(samlet.load("nuclei"), image_size)
