"""How alike objects are, by their embeddings and by their colours.

The embedding of an object is the mean over its pixels. All of an image have much in common, so the
image's mean is subtracted first. On labelled images that told objects from other masks better than
whitening or linear discriminants did, and comparison with the most similar example better than with
the mean of the examples.

An encoder that was trained to outline objects says little about what they look like: to that of the
bundled model, bright and dark discs are the same, and striped ones nearly. So mean and standard
deviation of the colours are compared as well.
"""

from dataclasses import dataclass

import numpy as np

from samlet.masks import Box
from samlet.modeling.tiny_vit import STRIDE
from samlet.predict.embedding import ImageEmbedding


@dataclass(frozen=True)
class EmbeddingGrid:
    """The embedding of a region of interest (ROI), without its padding.

    Attributes:
        features: float32, C x h x w.
        roi: its box in the image.
    """

    features: np.ndarray
    roi: Box

    @staticmethod
    def of(embedding: ImageEmbedding, roi: Box) -> "EmbeddingGrid":
        """The grid of an ROI's embedding."""
        height, width = (-(-side // STRIDE) for side in embedding.input_size)
        return EmbeddingGrid(embedding.features[:, :height, :width].float().cpu().numpy(), roi)

    @property
    def cell(self) -> np.ndarray:
        """(width, height) of a cell, in pixels of the image."""
        x0, y0, x1, y1 = self.roi
        return np.array([x1 - x0, y1 - y0]) / self.features.shape[:0:-1]

    @property
    def vectors(self) -> np.ndarray:
        """One row per cell, row by row: h * w x C."""
        return self.features.reshape(len(self.features), -1).T

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of the image in the middle of cells: x of each column, and y of each row."""
        cell, (height, width) = self.cell, self.features.shape[1:]
        x = self.roi[0] + ((np.arange(width) + 0.5) * cell[0]).astype(int)
        y = self.roi[1] + ((np.arange(height) + 0.5) * cell[1]).astype(int)
        return x, y

    def pooled(self, mask: np.ndarray, x: int, y: int) -> np.ndarray:
        """Average over the part of a mask that lies in the ROI.

        Args:
            mask: bool, h x w, with a pixel in the ROI.
            x: its first column in the image.
            y: its first row in the image.

        Returns:
            C.
        """
        rows, columns = np.nonzero(mask)
        pixels = np.stack([columns + x, rows + y], axis=1) - self.roi[:2] + 0.5
        limits = self.features.shape[:0:-1]
        cells = np.floor(pixels / self.cell).astype(int)
        cells = cells[((cells >= 0) & (cells < limits)).all(axis=1)]
        numbers, counts = np.unique(cells[:, 1] * limits[0] + cells[:, 0], return_counts=True)
        mean: np.ndarray = np.average(self.vectors[numbers], axis=0, weights=counts)
        return mean


def colours_of(rgb: np.ndarray, mask: np.ndarray, x: int, y: int) -> np.ndarray:
    """Mean and standard deviation of an object's colours.

    Args:
        rgb: uint8, H x W x 3.
        mask: bool, h x w, not empty.
        x: its first column in the image.
        y: its first row in the image.

    Returns:
        2 x 3.
    """
    height, width = mask.shape
    pixels = rgb[y : y + height, x : x + width][mask].astype(np.float32)
    return np.stack([pixels.mean(axis=0), pixels.std(axis=0)])


@dataclass(frozen=True)
class Likeness:
    """Compares objects with N examples.

    Attributes:
        embeddings: of the examples: N x C.
        mean: of the embeddings of the image: C.
        colours: of the examples: N x 2 x 3, see `colours_of`.
        contrast: standard deviation of the image's colours.
    """

    embeddings: np.ndarray
    mean: np.ndarray
    colours: np.ndarray
    contrast: float

    def of_places(self, vectors: np.ndarray) -> np.ndarray:
        """Cosine with the most similar example, 0 to 1 (opposite ones are 0, too).

        Args:
            vectors: embeddings, M x C.

        Returns:
            M.
        """
        best: np.ndarray = self._cosines(vectors).max(axis=1)
        return best

    def of_object(self, embedding: np.ndarray, colours: np.ndarray) -> float:
        """Likeness to the most similar example, 0 to 1: the cosine, less where colours differ.

        Args:
            embedding: C.
            colours: 2 x 3.
        """
        differences = (self.colours - colours) / max(self.contrast, 1.0)
        distances = np.square(differences).mean(axis=2).sum(axis=1)
        return float((self._cosines(embedding[None])[0] * np.exp(-distances / 2)).max())

    def _cosines(self, vectors: np.ndarray) -> np.ndarray:
        cosines = _directions(vectors - self.mean) @ _directions(self.embeddings - self.mean).T
        limited: np.ndarray = cosines.clip(0, 1)
        return limited


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).eps)
    return unit
