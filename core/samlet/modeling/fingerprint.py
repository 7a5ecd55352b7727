"""Short hashes that identify a model's weights."""

import numpy as np
import xxhash
from torch import nn

from samlet.modeling.sam import Sam


def encoder_fingerprint(model: Sam) -> str:
    """Twelve hex digits that change with the encoder's weights, input size or normalisation."""
    return _digest(model, model.image_encoder)


def model_fingerprint(model: Sam) -> str:
    """Twelve hex digits that change with any weight, the input size or normalisation."""
    return _digest(model, model)


def _digest(model: Sam, part: nn.Module) -> str:
    config = model.config
    digest = xxhash.xxh128(repr((config.image_size, config.pixel_mean, config.pixel_std)).encode())
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().float().numpy()).data)
    return digest.hexdigest()[:12]
