"""Labelled images in memory, and random crops of them that depend on the step alone."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from samlet import images
from samlet.errors import UserError
from samlet.outputs import read_label_map


@dataclass(frozen=True)
class Example:
    """One image with its objects.

    Attributes:
        name: the file's name without its suffix.
        image: RGB, uint8, H x W x 3.
        labels: int32, H x W; 0 is background, every other number one object.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray


def load_examples(
    folder: Path, only: Collection[str] | None = None, without: Collection[str] = ()
) -> list[Example]:
    """Read `folder/images/*` and the label maps of the same names in `folder/labels`.

    Args:
        folder: holds `images` and `labels`.
        only: names to read; None for all.
        without: names to leave out.

    Raises:
        UserError: a folder or label map is missing, sizes differ, or nothing is left.
    """
    paths = [
        path
        for path in images.find(folder / "images")
        if (only is None or path.stem in only) and path.stem not in without
    ]
    if not paths:
        raise UserError(f"None of the named images is in {folder / 'images'}; check the list.")
    return [_load_example(path, folder) for path in track(paths, "Reading images")]


def _load_example(path: Path, folder: Path) -> Example:
    image = images.read(path)
    label_path = folder / "labels" / f"{path.stem}.png"
    labels = read_label_map(label_path).astype(np.int32)
    if labels.shape != image.shape[:2]:
        raise UserError(
            f"{label_path} is {labels.shape[1]} x {labels.shape[0]} pixels but its image is "
            f"{image.shape[1]} x {image.shape[0]}; export the labels again."
        )
    return Example(path.stem, image, labels)


def kind_of(image: np.ndarray) -> str:
    """How a microscopy image was taken, told from its colours.

    Args:
        image: RGB, uint8, H x W x 3.

    Returns:
        "stained" (coloured), "fluorescence" (grey, dark ground) or "brightfield" (grey, bright).
    """
    spread = (image.max(2).astype(np.int16) - image.min(2)).mean()
    if spread > 8:
        return "stained"
    return "fluorescence" if np.median(image) < 90 else "brightfield"


@dataclass(frozen=True)
class Batch:
    """Crops that are ready for a model.

    Attributes:
        images: float32, B x 3 x S x S, RGB in 0..255.
        labels: int64, B x S x S; -1 where the crop is padding.
    """

    images: Tensor
    labels: Tensor

    @property
    def valid(self) -> Tensor:
        """bool, B x S x S: where there is image rather than padding."""
        return self.labels >= 0


@dataclass(frozen=True)
class Crops:
    """Random crops at the scale at which a model will see whole images, give or take.

    A whole image is shown to the model with its longest side at `image_size`; a crop of
    `crop_size` is a piece of that, with the scale jittered.

    Args:
        examples: what to cut from.
        image_size: the model's input size.
        crop_size: side of the crops.
        batch_size: crops a batch.
        seed: with the step, decides everything about a batch.
        balance: how often the rarer kinds are drawn, relative to their share.
        crowding: power of an image's number of objects to which it is drawn: 0 draws images
            evenly, 1 objects.
        scale_jitter: factors between which the scale is drawn, log-uniformly.
    """

    examples: list[Example]
    image_size: int
    crop_size: int
    batch_size: int
    seed: int = 0
    balance: float = 3.0
    crowding: float = 0.0
    scale_jitter: tuple[float, float] = (0.55, 1.8)

    def sampler(self) -> Callable[[int], Batch]:
        """A function from the step to its batch; the same step gives the same batch."""
        weights = np.array(
            [1.0 if kind_of(e.image) == "fluorescence" else self.balance for e in self.examples]
        )
        weights *= [max(1, len(np.unique(e.labels)) - 1) ** self.crowding for e in self.examples]
        weights /= weights.sum()

        def batch(step: int) -> Batch:
            rng = np.random.default_rng((self.seed, step))
            chosen = rng.choice(len(self.examples), size=self.batch_size, p=weights)
            cuts = [self._cut(self.examples[i], rng) for i in chosen]
            stacked = np.stack([image for image, _ in cuts])
            return Batch(
                torch.from_numpy(stacked).permute(0, 3, 1, 2),
                torch.from_numpy(np.stack([labels for _, labels in cuts])),
            )

        return batch

    def _cut(self, example: Example, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = example.labels.shape
        low, high = np.log(self.scale_jitter)
        scale = self.image_size / max(height, width) * np.exp(rng.uniform(low, high))
        side = self.crop_size / scale
        box_w, box_h = min(side, width), min(side, height)
        x, y = rng.uniform(0, width - box_w), rng.uniform(0, height - box_h)
        box = (x, y, x + box_w, y + box_h)
        size = (max(1, round(box_w * scale)), max(1, round(box_h * scale)))
        size = (min(size[0], self.crop_size), min(size[1], self.crop_size))
        image = np.asarray(
            Image.fromarray(example.image).resize(size, Image.Resampling.BILINEAR, box=box)
        ).astype(np.float32)
        labels = np.asarray(
            Image.fromarray(example.labels).resize(size, Image.Resampling.NEAREST, box=box)
        )
        image, labels = _turn(image, labels, rng)
        image = _recolour(image, rng)
        padded = np.zeros((self.crop_size, self.crop_size, 3), np.float32)
        padded_labels = np.full((self.crop_size, self.crop_size), -1, np.int64)
        padded[: image.shape[0], : image.shape[1]] = image
        padded_labels[: labels.shape[0], : labels.shape[1]] = labels
        return padded, padded_labels


def _turn(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[::-1]
    if rng.random() < 0.5:
        image, labels = image.transpose(1, 0, 2), labels.T
    return image, labels


def _recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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
