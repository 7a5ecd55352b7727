"""SAM's mask decoder: from an image embedding and prompt tokens to mask logits and predicted IoU.

Source: Segment Anything, arXiv 2304.02643, appendix A. Parameter names are the official ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.layers import LayerNorm2d
from samlet.modeling.transformer import TwoWayTransformer


class MLP(nn.Module):
    """Linear layers with a ReLU between them."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(dims[i], dims[i + 1]) for i in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) becomes (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Predict one mask for an unambiguous prompt and three for an ambiguous one.

    Args:
        transformer: the two-way transformer.
        transformer_dim: its channels.
        num_multimask_outputs: candidates for an ambiguous prompt.
        iou_head_depth: layers of the head that predicts each mask's IoU.
        iou_head_hidden_dim: its hidden width.
    """

    def __init__(
        self,
        transformer: TwoWayTransformer,
        transformer_dim: int = 256,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, transformer_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(transformer_dim, transformer_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(transformer_dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(transformer_dim // 4, transformer_dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(transformer_dim, transformer_dim, transformer_dim // 8, 3)
            for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(
            transformer_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth
        )

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Predict three masks or one for each prompt.

        Args:
            image_embeddings: A x C x h x w, where A divides the number of prompts B: image i
                belongs to the prompts i * B / A onwards.
            image_pe: 1 x C x h x w.
            sparse_prompt_embeddings: B x T x C.
            dense_prompt_embeddings: B x C x h x w.
            multimask_output: the three candidates, or the single mask.

        Returns:
            low_res_masks: logits, B x (3 or 1) x 4h x 4w.
            iou_predictions: B x (3 or 1).
        """
        masks, iou_predictions = self.predict_masks(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        )
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, wanted], iou_predictions[:, wanted]

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """All four masks (the single one first) and their predicted IoU; see `forward`."""
        batch = sparse_prompt_embeddings.shape[0]
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)
        image = image_embeddings.repeat_interleave(batch // image_embeddings.shape[0], dim=0)
        image = image + dense_prompt_embeddings
        h, w = image.shape[-2:]

        tokens, image = self.transformer(image, image_pe, tokens)
        iou_token = tokens[:, 0]
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]

        upscaled = self.output_upscaling(image.transpose(1, 2).unflatten(2, (h, w)))
        kernels = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = (kernels @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
        return masks, self.iou_prediction_head(iou_token)
