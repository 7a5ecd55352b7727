"""Loading models by name or from files, and saving them."""

from samlet.checkpoints.loading import BUNDLED, load, read_card, sam_model_registry, save

__all__ = [
    "BUNDLED",
    "load",
    "read_card",
    "sam_model_registry",
    "save",
]
