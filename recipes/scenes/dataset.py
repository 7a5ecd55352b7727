"""Synthetic scenes as a dataset: drawn when they are needed, never stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from recipes.scenes.electron import draw_electron_micrograph
from recipes.scenes.fluorescence import draw_fluorescence
from recipes.scenes.noise import Rng, Shape
from recipes.scenes.phase_contrast import draw_phase_contrast
from recipes.scenes.photograph import draw_photograph
from recipes.scenes.sprites import Sprites
from recipes.scenes.stained import draw_stained
from samlet.datasets.examples import Example

STYLES = {
    "photograph": 0.5,
    "phase_contrast": 0.16,
    "electron": 0.16,
    "fluorescence": 0.1,
    "stained": 0.08,
}
"""How often each style is drawn."""


class Scenes(Sequence[Example]):
    """Scenes with known objects, each drawn from its number alone.

    Args:
        sprites: folder of rendered objects (see `recipes.scenes.sprites`); None for outlines only.
        count: number of scenes.
        side: height and width of a scene, pixels.
        seed: another one gives other scenes.

    Raises:
        UserError: `sprites` is a folder without pictures.
    """

    def __init__(
        self, sprites: Path | None, count: int = 20_000, side: int = 640, seed: int = 0
    ) -> None:
        self.sprites = None if sprites is None else Sprites(sprites)
        self._length = count
        self.side = side
        self.seed = seed

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """The scene of a number: the same at each call, in every process."""
        if isinstance(index, slice):
            return [self[i] for i in range(self._length)[index]]
        number = range(self._length)[index]
        rng = np.random.default_rng((self.seed, number))
        style = str(rng.choice(list(STYLES), p=list(STYLES.values())))
        image, labels = draw_scene(rng, style, (self.side, self.side), self.sprites)
        return Example(f"scene-{self.seed}-{number}-{style}", image, labels)


def draw_scene(
    rng: Rng, style: str, shape: Shape, sprites: Sequence[np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """A scene of one of the `STYLES`.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, L x H x W; no number is in two layers.
    """
    match style:
        case "photograph":
            return draw_photograph(rng, shape, sprites)
        case "phase_contrast":
            return draw_phase_contrast(rng, shape)
        case "electron":
            return draw_electron_micrograph(rng, shape)
        case "fluorescence":
            return draw_fluorescence(rng, shape)
        case _:
            return draw_stained(rng, shape)
