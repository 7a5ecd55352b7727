"""Inputs of the tests of EfficientViT-SAM, drawn from seeds, for small variants of its encoder.

Reference outputs for them are in `efficientvit.npz`, which `make_efficientvit` writes.
"""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
from skimage import data

FILE = Path(__file__).with_suffix(".npz")

SMALL = {
    # Channels and blocks of the stages, and blocks of the neck.
    "l": ((16, 16, 32, 64, 64), (1, 1, 1, 1, 1), 1),
    "xl": ((16, 16, 16, 32, 64, 64), (0, 1, 1, 1, 1, 1), 1),
}

POINT = [[120, 80]]


def image() -> np.ndarray:
    """Uint8, not square, and of another size than any encoder's input."""
    picture: np.ndarray = data.astronaut()[:401, :500]
    return picture


def digest(layout: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Of all names and shapes of parameters."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in layout)
    return sha256("\n".join(lines).encode()).hexdigest()


def thinned(embedding: np.ndarray) -> np.ndarray:
    """Every fourth row and column of every sixteenth channel."""
    return embedding[..., ::16, ::4, ::4]
