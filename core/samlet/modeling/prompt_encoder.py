"""SAM's prompt encoder: from points, boxes and masks to tokens and a dense embedding.

Source: Segment Anything, arXiv 2304.02643, section 3 and appendix A; the positional encoding is
that of random Fourier features (arXiv 2006.10739). Parameter names are the official ones.
"""

import math

import torch
from torch import Tensor, nn

from samlet.modeling.layers import LayerNorm2d

PADDING, NEGATIVE, POSITIVE = -1, 0, 1
"""Point labels: padding, a point off the object, a point on it."""


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of positions in the unit square.

    Args:
        num_pos_feats: half of the channels that come out (sines, then cosines).
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_pos_feats: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_pos_feats))

    def encode(self, coords: Tensor) -> Tensor:
        """Encode coordinates (..., 2), x first, in [0, 1]; gives (..., 2 * num_pos_feats)."""
        angles = 2 * math.pi * (2 * coords - 1) @ self.positional_encoding_gaussian_matrix
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Encode the cell centres of a grid of `size` (h, w); gives C x h x w."""
        h, w = size
        like = self.positional_encoding_gaussian_matrix
        y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h
        x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return self.encode(grid).permute(2, 0, 1)


class PromptEncoder(nn.Module):
    """Encode prompts for the mask decoder.

    Args:
        embed_dim: channels of tokens and of the dense embedding.
        image_embedding_size: tokens of an image, (h, w).
        input_image_size: size of the model's input in pixels, (H, W), to which coordinates refer.
        mask_in_chans: hidden channels of the mask prompt's convolutions.
    """

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int = 16,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.image_embedding_size = image_embedding_size
        self.input_image_size = input_image_size
        self.mask_input_size = (4 * image_embedding_size[0], 4 * image_embedding_size[1])
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        # Negative point, positive point, a box's upper left and its lower right corner.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def get_dense_pe(self) -> Tensor:
        """Positional encoding of the image tokens, 1 x embed_dim x h x w."""
        return self.pe_layer(self.image_embedding_size).unsqueeze(0)

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode B prompts.

        Args:
            points: coordinates (float, B x N x 2, x and y in pixels of the model's input) and
                labels (B x N: 1 on the object, 0 off it, -1 padding).
            boxes: float, B x 4, as x1, y1, x2, y2 in pixels of the model's input.
            masks: logits, B x 1 x 4h x 4w.

        Returns:
            sparse_embeddings: B x T x embed_dim. T is N (+ 1 padding point without boxes), + 2
            for a box.
            dense_embeddings: B x embed_dim x h x w; a broadcast view where no mask is given.
        """
        given = boxes if points is None else points[0]
        given = masks if given is None else given
        batch = 1 if given is None else given.shape[0]
        sparse = [self.no_mask_embed.weight.new_empty(batch, 0, self.embed_dim)]
        if points is not None:
            sparse.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            sparse.append(self._embed_boxes(boxes))
        tokens = torch.cat(sparse, dim=1)
        if masks is not None:
            return tokens, self.mask_downscaling(masks)
        dense = self.no_mask_embed.weight.view(1, -1, 1, 1)
        return tokens, dense.expand(batch, -1, *self.image_embedding_size)

    def _kind(self, index: int) -> Tensor:
        embedding = self.point_embeddings[index]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    def _encode_pixels(self, coords: Tensor) -> Tensor:
        h, w = self.input_image_size
        # A coordinate names a pixel; its centre lies half a pixel further.
        return self.pe_layer.encode((coords + 0.5) / coords.new_tensor([w, h]))

    def _embed_points(self, coords: Tensor, labels: Tensor, pad: bool) -> Tensor:
        embedding = self._encode_pixels(coords)
        kind = labels.unsqueeze(-1)
        embedding = torch.where(kind == PADDING, self.not_a_point_embed.weight, embedding)
        for label in (NEGATIVE, POSITIVE):
            is_label = (kind == label).to(embedding.dtype)
            embedding = embedding + is_label * self._kind(label)
        if pad:
            padding = self.not_a_point_embed.weight.expand(embedding.shape[0], 1, -1)
            embedding = torch.cat([embedding, padding], dim=1)
        return embedding

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        corners = self._encode_pixels(boxes.reshape(-1, 2, 2))
        return corners + torch.cat([self._kind(2), self._kind(3)])
