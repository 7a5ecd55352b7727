"""Random crops of labelled images that depend only on the step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samlet.datasets.examples import Example
from samlet.predict.roi import MIN_ROI_SIDE
from samlet.training.stream import Position


@dataclass(frozen=True)
class CropBatch:
    """Crops that are ready for a model.

    Attributes:
        images: float32, B x 3 x S x S, RGB in 0..255.
        labels: int64, B x L x S x S: layers as in `Example`; -1 where the crop is padding.
    """

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "CropBatch":
        """The images on another device; labels stay on the CPU, where prompts are simulated."""
        return CropBatch(self.images.to(device, non_blocking=True), self.labels)

    def first(self, count: int) -> "CropBatch":
        """The first crops of the batch."""
        return CropBatch(self.images[:count], self.labels[:count])

    @property
    def valid(self) -> Tensor:
        """bool, B x S x S: where there is image rather than padding."""
        return self.labels[:, 0] >= 0


def top_labels(labels: Tensor) -> Tensor:
    """The labels of a batch, B x L x S x S, in one layer, B x S x S; where objects overlap, the
    last counts.
    """
    top = labels[:, 0]
    for layer in labels.unbind(1)[1:]:
        top = torch.where(layer > 0, layer, top)
    return top


class IndexedExamples(Protocol):
    """What crops are cut from: examples in memory, or made when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Example: ...


@dataclass(frozen=True)
class Crops:
    """Random crops at the scale at which a model will see whole images, give or take.

    A whole image is shown to the model with its longest side at `image_size`; a crop of
    `crop_size` is a piece of that, with the scale jittered.

    Args:
        examples: what to cut from.
        image_size: the model's input size.
        crop_size: side of the crops.
        batch_size: crops a batch of this process.
        seed: with a crop's number, decides everything about it.
        weights: how often each example is drawn, relative to the others; None for evenly.
        scale_jitter: factors between which the scale is drawn, log-uniformly.
        zoom_share: share of the crops that show an object and what is around it, however small it
            is in its image, as a model does that zooms in.
        zoom: sides of such crops, relative to the object's longer side, between which theirs are
            drawn, log-uniformly.
        rank: number of this process.
        world: number of processes; any number of them cuts the same crops.
    """

    examples: IndexedExamples
    image_size: int
    crop_size: int
    batch_size: int
    seed: int = 0
    weights: Sequence[float] | None = None
    scale_jitter: tuple[float, float] = (0.55, 1.8)
    zoom_share: float = 0.0
    zoom: tuple[float, float] = (3.0, 9.0)
    rank: int = 0
    world: int = 1

    def __call__(self, position: Position) -> Iterator[tuple[CropBatch, Position]]:
        """Batches from a position on, each with the position after it."""
        step = position.get("step", 0)
        while True:
            yield self.batch(step), {"step": step + 1}
            step += 1

    def batch(self, step: int) -> CropBatch:
        """The batch of a step."""
        share = None if self.weights is None else np.array(self.weights) / np.sum(self.weights)
        first = (step * self.world + self.rank) * self.batch_size
        cuts = []
        for number in range(first, first + self.batch_size):
            rng = np.random.default_rng((self.seed, number))
            example = self.examples[rng.choice(len(self.examples), p=share)]
            cuts.append(self._cut(example, rng))
        layers = max(len(labels) for _, labels in cuts)
        stacked = np.zeros((len(cuts), layers, self.crop_size, self.crop_size), np.int64)
        for place, (_, labels) in zip(stacked, cuts, strict=True):
            place[: len(labels)] = labels
        images = torch.from_numpy(np.stack([image for image, _ in cuts]))
        return CropBatch(images.permute(0, 3, 1, 2), torch.from_numpy(stacked))

    def _cut(self, example: Example, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scale, x, y = self._aim(example, rng)
        height, width = example.labels.shape[-2:]
        side = self.crop_size / scale
        box_w, box_h = min(side, width), min(side, height)
        x, y = min(max(x, 0), width - box_w), min(max(y, 0), height - box_h)
        box = (x, y, x + box_w, y + box_h)
        size = (max(1, round(box_w * scale)), max(1, round(box_h * scale)))
        size = (min(size[0], self.crop_size), min(size[1], self.crop_size))
        image = np.asarray(
            Image.fromarray(example.image).resize(size, Image.Resampling.BILINEAR, box=box)
        ).astype(np.float32)
        labels = np.stack(
            [
                np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.NEAREST, box=box))
                for layer in example.labels
            ]
        )
        image, labels = _random_flip(image, labels, rng)
        image = _jitter_colors(image, rng)
        padded = np.zeros((self.crop_size, self.crop_size, 3), np.float32)
        padded_labels = np.full((len(labels), self.crop_size, self.crop_size), -1, np.int64)
        padded[: image.shape[0], : image.shape[1]] = image
        padded_labels[:, : labels.shape[1], : labels.shape[2]] = labels
        return padded, padded_labels

    def _aim(self, example: Example, rng: np.random.Generator) -> tuple[float, float, float]:
        """Choose a crop's scale, and the x and y in the image where it begins."""
        height, width = example.labels.shape[-2:]
        objects = example.boxes
        if len(objects) and rng.random() < self.zoom_share:
            x0, y0, x1, y1 = objects[rng.integers(len(objects))]
            low, high = np.log(self.zoom)
            side = max(x1 - x0, y1 - y0) * np.exp(rng.uniform(low, high))
            side = min(max(side, MIN_ROI_SIDE), max(height, width))
            x, y = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
            shift = rng.uniform(-0.25, 0.25, 2) * side
            return self.crop_size / side, x + shift[0], y + shift[1]
        low, high = np.log(self.scale_jitter)
        scale = self.image_size / max(height, width) * np.exp(rng.uniform(low, high))
        side = self.crop_size / scale
        x, y = rng.uniform(0, max(width - side, 0)), rng.uniform(0, max(height - side, 0))
        return scale, x, y


def _random_flip(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, :, ::-1]
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[:, ::-1]
    if rng.random() < 0.5:
        image, labels = image.transpose(1, 0, 2), labels.transpose(0, 2, 1)
    return image, labels


def _jitter_colors(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = image / 255.0
    if rng.random() < 0.15:
        x = 1.0 - x
    if rng.random() < 0.2:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.2:
        x = x[:, :, rng.permutation(3)]
    if rng.random() < 0.8:
        x = np.clip(x, 0, 1) ** np.exp(rng.uniform(-0.6, 0.6))
        x = x * rng.uniform(0.6, 1.3) + rng.uniform(-0.1, 0.1)
        x = x * rng.uniform(0.9, 1.1, size=3)
    if rng.random() < 0.3:
        x = x + rng.normal(0, rng.uniform(0.005, 0.05), size=x.shape)
    return (np.clip(x, 0, 1) * 255.0).astype(np.float32)
