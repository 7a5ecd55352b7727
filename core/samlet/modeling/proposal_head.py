"""The proposal head: from an image embedding to where objects are and how large.

It is optional, small, and not part of SAM. Everything mode places its prompts with it. What it
predicts at every cell is what dense detectors and instance embeddings predict: foreground, the
offset to the object's centre (as CellPose and others vote for it) and the distances to the sides of
its box (FCOS, arXiv 1904.01355).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.object_head import ObjectHead

CELL = 4
"""Side of a cell in pixels of the model's input, as of the low-resolution masks."""

OFFSET_UNIT = 4.0
"""Offsets and distances are predicted in units of this many cells."""

VERSION = 1
"""Raised when the outputs change their meaning; heads of a later version are refused."""

FOREGROUND = slice(0, 1)
CENTRE_OFFSETS = slice(1, 3)
BOX_DISTANCES = slice(3, 7)
CHANNELS = 7


@dataclass(frozen=True)
class ProposalHeadConfig:
    """Configuration of a proposal head.

    Args:
        width: channels at the resolution of cells.
        version: see `VERSION`.
    """

    width: int = 32
    version: int = VERSION


class ProposalHead(ObjectHead):
    """Predicts objects from an embedding of stride 16, at stride 4.

    Args:
        config: see there.
        embed_dim: channels of the embedding.
    """

    cell, channels = CELL, CHANNELS

    def __init__(self, config: ProposalHeadConfig, embed_dim: int) -> None:
        super().__init__()
        self.upscale = 16 // CELL
        self.expand = nn.Conv2d(embed_dim, config.width * self.upscale**2, kernel_size=1)
        self.mix = nn.Conv2d(config.width, config.width, kernel_size=3, padding=1)
        self.predict = nn.Conv2d(config.width, CHANNELS, kernel_size=1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict, cell by cell.

        Args:
            embeddings: float, B x embed_dim x h x w.

        Returns:
            float, B x 7 x 4h x 4w: the logit of the foreground; (x, y) from the cell to the
            centroid of its object; and the distances from the cell's middle to the left, upper,
            right and lower side of its object's box. The last six are in units of 4 cells, and
            have no meaning on the background.
        """
        cells = F.gelu(F.pixel_shuffle(self.expand(embeddings), self.upscale))
        predicted: Tensor = self.predict(F.gelu(self.mix(cells)))
        return predicted
