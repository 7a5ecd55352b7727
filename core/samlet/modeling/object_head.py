"""What finds all objects of an image by looking at its embedding once."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class ObjectHead(nn.Module):
    """Predicts something of every cell of an image, from which everything mode makes objects.

    Attributes:
        cell: side of a cell in pixels of the model's input.
        channels: values that are predicted of each cell.
    """

    cell: ClassVar[int]
    channels: ClassVar[int]

    @abstractmethod
    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict, cell by cell.

        Args:
            embeddings: float, B x embed_dim x h x w, of stride 16.

        Returns:
            float, B x channels x 16h/cell x 16w/cell.
        """
