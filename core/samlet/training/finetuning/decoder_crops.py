"""Small crops for the decoder: most of what matters to a click lies near it.

The encoder sees a whole training crop. The cost of the decoder grows with the area that it decodes,
so each prompt is decoded in a smaller crop around its object, and four prompts in crops of half the
side cost what one in the whole crop does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samlet.modeling.tiny_vit import STRIDE


@dataclass(frozen=True)
class DecoderCrops:
    """Square parts of a batch's training crops, one per prompt.

    Attributes:
        image_of: int64, N: the index of the training crop.
        corners: int64, N x 2: (top, left) in tokens.
        side: in tokens.
    """

    image_of: Tensor
    corners: Tensor
    side: int

    def moved(self, origin: Tensor) -> "DecoderCrops":
        """The same crops in the model's whole input, of which there is one."""
        return DecoderCrops(torch.zeros_like(self.image_of), self.corners + origin, self.side)

    def cut(self, grid: Tensor) -> Tensor:
        """From B x C x h x w, one vector per token, to N x C x side x side."""
        h, w = grid.shape[-2:]
        rows, columns = (self.corners.unsqueeze(2) + torch.arange(self.side)).unbind(1)
        index = (self.image_of.view(-1, 1, 1) * h + rows.unsqueeze(2)) * w + columns.unsqueeze(1)
        tokens = grid.permute(0, 2, 3, 1).flatten(0, 2)[index.flatten().to(grid.device)]
        return tokens.unflatten(0, index.shape).permute(0, 3, 1, 2)

    def halved_masks(self, labels: Tensor, ids: Tensor) -> Tensor:
        """Each object's share of every 2 x 2 pixels, N x 1 x 8 side x 8 side.

        Loss and prompts live at half the crop's resolution: that halves a step and costs no
        accuracy, as the decoder's own masks are at a quarter.
        """
        pixels = self.side * STRIDE
        cuts = [
            labels[image, :, top : top + pixels, left : left + pixels]
            for image, (top, left) in zip(
                self.image_of.tolist(), (self.corners * STRIDE).tolist(), strict=True
            )
        ]
        masks = (torch.stack(cuts) == ids.view(-1, 1, 1, 1)).any(1).to(torch.uint8)
        quarters = [masks[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
        return (quarters[0] + quarters[1] + quarters[2] + quarters[3]).unsqueeze(1) / 4


def place_decoder_crops(
    labels: Tensor, image_of: Tensor, ids: Tensor, side: int, rng: torch.Generator
) -> DecoderCrops:
    """Place a crop at random where it holds the whole object, or as much of it as possible."""
    spare = labels.shape[-1] // STRIDE - side
    corners = torch.zeros(len(ids), 2, dtype=torch.long)
    offsets = torch.rand(len(ids), 2, generator=rng)
    if spare > 0:
        for corner, image, number, offset in zip(corners, image_of, ids, offsets, strict=True):
            mask = (labels[image] == number).any(0)
            for axis in (0, 1):
                lines = mask.any(dim=1 - axis).nonzero()
                if len(lines):
                    first, last = int(lines[0]) // STRIDE, int(lines[-1]) // STRIDE
                    ends = sorted((last + 1 - side, first))
                    low, high = (min(max(end, 0), spare) for end in ends)
                    corner[axis] = low + int(offset[axis] * (high - low + 1))
    return DecoderCrops(image_of, corners, side)
