"""The bundled model for smaller images, where its full size would only take time."""

import samlet
from samlet.modeling.sam import Sam
from samlet.training.distillation.distill import at_size


def nuclei_at(image_size: int) -> Sam:
    """The bundled model for images of another size in pixels; half is a quarter of the work."""
    return at_size(samlet.load("nuclei"), image_size)
