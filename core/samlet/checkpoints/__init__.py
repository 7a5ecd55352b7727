"""From a name or a file to a model, and back to a file."""

from samlet.checkpoints.loading import BUNDLED, load, read_card, sam_model_registry, save

__all__ = [
    "BUNDLED",
    "load",
    "read_card",
    "sam_model_registry",
    "save",
]
