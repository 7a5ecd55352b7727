"""Engines for tests: one that is scripted, and one to which each colour is an object."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samlet.engines import DecoderTokens, Engine, ImageState
from samlet.modeling.sam import Sam


class Scripted(Engine):
    """Answers prompts by itself, with nothing of the model.

    Attributes:
        encoded: how many images it was shown.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__(model)
        self.encoded = 0

    def encode(self, images: Tensor) -> Tensor:
        self.encoded += 1
        return torch.zeros(1, 256, 16, 16)

    def predict_distances(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def _image_branch(self, features: Tensor, dense: Tensor) -> tuple[Tensor, ...]:
        return ()

    def _prompt_branch(
        self, sparse: Tensor, shared: tuple[Tensor, ...]
    ) -> AbstractContextManager[DecoderTokens]:
        raise NotImplementedError


class Colours(Scripted):
    """The mask of a point is all of its shade of red, at the model's resolution; 0 is none."""

    def __init__(self, model: Sam) -> None:
        super().__init__(model)
        self.mean, self.std = float(model.pixel_mean[0]), float(model.pixel_std[0])

    def encode(self, images: Tensor) -> Tensor:
        self.seen = (images[0, 0] * self.std + self.mean).round().int()
        return super().encode(images)

    def run_prompts(
        self, image: ImageState, points: Any = None, *rest: Any
    ) -> Iterator[DecoderTokens]:
        x, y = points[0][:, 0].long().T.clamp(0, self.seen.shape[0] - 1)
        shades = self.seen[y, x].view(-1, 1, 1)
        trust = torch.tensor([[0, 0.9, 0, 0]]).repeat(len(shades), 1)
        yield DecoderTokens(shades, torch.zeros(len(shades), 4, 1), trust * (shades[:, 0] > 0))

    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        share = F.avg_pool2d((self.seen == tokens).float().unsqueeze(1), 4)
        return (20 * (share - 0.5)).repeat(1, kernels.shape[1], 1, 1)


def paint(shape: tuple[int, int], objects: list[np.ndarray]) -> np.ndarray:
    """An image of H x W x 3 in which object i, bool H x W, has the shade i + 1."""
    image = np.zeros((*shape, 3), np.uint8)
    for shade, mask in enumerate(objects, start=1):
        image[mask] = shade
    return image
