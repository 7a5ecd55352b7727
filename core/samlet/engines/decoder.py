"""SAM's mask decoder with its arithmetic rearranged: the same masks for about half the work.

Three parts, since they run at different times: `ImageBranch` once per image, `PromptBranch` once
per prompt, and `Upscaling` once per prompt whose masks are wanted. They share the weights of the
model that they are made from. The decoder is that of Segment Anything, arXiv 2304.02643,
appendix A; what is rearranged:

- Prompts have few tokens (T) and the image has many (N, 4096 at 1024 px), so the image's tokens are
  never projected: (X Wk) q is X (Wk q), and (A X) Wv is A (X Wv), for T * heads rows instead of N.
- In the first layer the image's tokens are still the embedding itself, so there the projections are
  made once, and are cheaper still.
- In the last attention only the rows of the tokens that become masks and IoU are computed.
- What goes over all of the image's tokens is bound by memory, so there is little of it: the weights
  and biases of norms are folded into what follows, and softmax over the image is divided by its
  sum only after the product with the image.
- Transposed convolutions whose kernel is their stride are matrix products on each token: so the
  upscaling stays channels-last, and LayerNorm2d becomes LayerNorm.

C is the embedding's channels, H heads, D = H * d the attention's inner width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.layers import LayerNorm2d
from samlet.modeling.mask_decoder import MaskDecoder
from samlet.modeling.sam import Sam
from samlet.modeling.transformer import Attention, TwoWayAttentionBlock


class ImageBranch(nn.Module):
    """Computes what all prompts on one image share.

    Args:
        model: whose weights are used.
    """

    positions: Tensor

    def __init__(self, model: Sam) -> None:
        super().__init__()
        layer = _layers(model.mask_decoder)[0]
        self.tokens_to_image = layer.cross_attn_token_to_image
        self.image_to_tokens = layer.cross_attn_image_to_token
        self.register_buffer("positions", _positions(model))

    def forward(self, features: Tensor, dense: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lay out the image's tokens, and project them for the first layer.

        Args:
            features: A x C x h x w, from the image encoder.
            dense: the prompt encoder's dense embedding, A x C x (h x w or 1 x 1).

        Returns:
            tokens (A x N x C), and the first layer's keys (A x H x d x N), values (A x H x N x d)
            and queries (A x N x D).
        """
        tokens = (features + dense).flatten(2).transpose(1, 2)
        placed = tokens + self.positions
        keys = _split(self.tokens_to_image.k_proj(placed), self.tokens_to_image)
        values = _split(self.tokens_to_image.v_proj(tokens), self.tokens_to_image)
        queries = self.image_to_tokens.q_proj(placed)
        return tokens, keys.transpose(2, 3).contiguous(), values, queries


class PromptBranch(nn.Module):
    """The two-way transformer for B prompts, each with its own tokens.

    Args:
        model: whose weights are used.
    """

    positions: Tensor

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.decoder = model.mask_decoder
        self.register_buffer("positions", _positions(model))

    def forward(
        self, sparse: Tensor, tokens: Tensor, keys: Tensor, values: Tensor, queries: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode prompts up to their mask kernels.

        Args:
            sparse: the prompt encoder's tokens, B x T x C.
            tokens: the image's, of `ImageBranch`, with A = 1 or B; so are the others.
            keys: of the first layer.
            values: of the first layer.
            queries: of the first layer.

        Returns:
            image tokens (B x N x C; normalised, short of the last norm's weight and bias), mask
            kernels (B x 4 x C/8) and iou_predictions (B x 4).
        """
        decoder, transformer = self.decoder, self.decoder.transformer
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        prompt = torch.cat([own.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        first, second = _layers(decoder)

        x = first.norm1(first.self_attn(prompt, prompt, prompt))
        x = x + _cross_attend_projected(first.cross_attn_token_to_image, x + prompt, keys, values)
        x = first.norm2(x)
        x = first.norm3(x + first.mlp(x))
        attention = first.cross_attn_image_to_token
        scores = queries @ _columns(attention, x + prompt)
        tokens = tokens + attention.out_proj.bias
        normal, norm = (
            _normal(tokens + _attention_output(attention, scores, x), first.norm4),
            first.norm4,
        )

        placed, q = normal * norm.weight + (norm.bias + self.positions), x + prompt
        x = second.norm1(x + second.self_attn(q, q, x))
        x = x + _cross_attend(second.cross_attn_token_to_image, x + prompt, placed, normal, norm)
        x = second.norm2(x)
        x = second.norm3(x + second.mlp(x))
        attention = second.cross_attn_image_to_token
        columns = _columns(attention, x + prompt)
        project = attention.q_proj
        scores = placed @ (project.weight.T @ columns) + (project.bias @ columns).unsqueeze(1)
        tokens = normal * norm.weight + (norm.bias + attention.out_proj.bias)
        normal, norm = (
            _normal(tokens + _attention_output(attention, scores, x), second.norm4),
            second.norm4,
        )

        x = x[:, : 1 + decoder.num_mask_tokens]
        q = x + prompt[:, : 1 + decoder.num_mask_tokens]
        placed = normal * norm.weight + (norm.bias + self.positions)
        x = x + _cross_attend(transformer.final_attn_token_to_image, q, placed, normal, norm)
        x = transformer.norm_final_attn(x)
        kernels = [mlp(x[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        return normal, torch.stack(kernels, dim=1), decoder.iou_prediction_head(x[:, 0])


class Upscaling(nn.Module):
    """From image tokens and mask kernels to logits; each token becomes 4 x 4 of them.

    Args:
        model: whose weights are used.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.grid = model.prompt_encoder.image_embedding_size
        first, norm, _, second, _ = model.mask_decoder.output_upscaling
        assert isinstance(first, nn.ConvTranspose2d) and isinstance(second, nn.ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d)
        self.first, self.second = _per_token(first), _per_token(second)
        _fold(_layers(model.mask_decoder)[1].norm4, self.first)
        self.norm = nn.LayerNorm(first.out_channels, eps=norm.eps)
        self.norm.load_state_dict(norm.state_dict())

    def forward(self, image: Tensor, kernels: Tensor) -> Tensor:
        """Compute K masks per prompt.

        Args:
            image: tokens of `PromptBranch`, B x N x C.
            kernels: B x K x C/8.

        Returns:
            logits, B x K x 4h x 4w.
        """
        x = F.gelu(self.norm(self.first(image).unflatten(2, (4, -1))))
        x = F.gelu(self.second(x).unflatten(3, (4, -1)))
        masks = x.flatten(1, 3) @ kernels.transpose(1, 2)
        # Token by row and column, then the two halvings of the stride by row and column.
        h, w = self.grid
        masks = masks.unflatten(1, (h, w, 2, 2, 2, 2))
        return masks.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(-1, kernels.shape[1], 4 * h, 4 * w)


def _cross_attend_projected(
    attention: Attention, q: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Tokens attend to an image, given its keys (A x H x d x N) and values (A x H x N x d)."""
    q = _split(attention.q_proj(q), attention)
    weights = (q @ keys / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return attention.out_proj((weights @ values).transpose(1, 2).flatten(2))


def _cross_attend(
    attention: Attention, q: Tensor, placed: Tensor, normal: Tensor, norm: nn.LayerNorm
) -> Tensor:
    """Tokens attend to an image that is not projected.

    The image is `normal` (B x N x C) with the weight and bias of `norm`; `placed` is that with
    positions.
    """
    q = _split(attention.q_proj(q), attention)
    # The keys' bias adds the same to all scores of a row, which softmax does not see.
    rows = q / math.sqrt(q.shape[-1]) @ _heads(attention.k_proj.weight, attention)
    scores = rows.flatten(1, 2) @ placed.transpose(1, 2)
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    mixed = weights @ normal / weights.sum(dim=-1, keepdim=True)
    mixed = (mixed * norm.weight + norm.bias).unflatten(1, (attention.num_heads, -1))
    values = mixed @ _heads(attention.v_proj.weight, attention).transpose(1, 2)
    return attention.out_proj(values.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def _columns(attention: Attention, k: Tensor) -> Tensor:
    """Keys of the tokens, B x D x HT: zero where the head of a row is not that of a column."""
    keys = _split(attention.k_proj(k), attention)
    keys = (keys / math.sqrt(keys.shape[-1])).transpose(2, 3).unsqueeze(3)
    heads = attention.num_heads
    same_head = torch.eye(heads, dtype=k.dtype, device=k.device).view(1, heads, 1, heads, 1)
    return (keys * same_head).flatten(3, 4).flatten(1, 2)


def _attention_output(attention: Attention, scores: Tensor, v: Tensor) -> Tensor:
    """What the image's tokens get for their scores (B x N x HT) from tokens `v` (B x T x C).

    It lacks the bias of the attention's output.
    """
    heads = attention.num_heads
    weights = scores.unflatten(2, (heads, -1)).softmax(dim=-1).flatten(2)
    out = _heads(attention.out_proj.weight.T, attention)
    values = (_split(attention.v_proj(v), attention) @ out).flatten(1, 2)
    return weights @ values


def _split(x: Tensor, attention: Attention) -> Tensor:
    """B x N x D becomes B x H x N x d."""
    return x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)


def _heads(weight: Tensor, attention: Attention) -> Tensor:
    """D x C becomes H x d x C."""
    return weight.unflatten(0, (attention.num_heads, -1))


def _per_token(convolution: nn.ConvTranspose2d) -> nn.Linear:
    """The same as a matrix product: outputs are row, column, channel of a token's 2 x 2."""
    channels, out = convolution.in_channels, convolution.out_channels
    linear = nn.Linear(channels, 4 * out)
    assert convolution.bias is not None
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.permute(2, 3, 1, 0).reshape(4 * out, channels))
        linear.bias.copy_(convolution.bias.repeat(4))
    return linear


def _fold(norm: nn.LayerNorm, linear: nn.Linear) -> None:
    """Fold a norm's weight and bias into the linear layer behind it."""
    with torch.no_grad():
        linear.bias.add_(linear.weight @ norm.bias)
        linear.weight.mul_(norm.weight)


def _normal(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Normalise without the weight and bias."""
    return F.layer_norm(x, norm.normalized_shape, eps=norm.eps)


def _layers(decoder: MaskDecoder) -> tuple[TwoWayAttentionBlock, TwoWayAttentionBlock]:
    first, second = decoder.transformer.layers
    assert isinstance(first, TwoWayAttentionBlock) and isinstance(second, TwoWayAttentionBlock)
    return first, second


def _positions(model: Sam) -> Tensor:
    return model.prompt_encoder.get_dense_pe().detach().flatten(2).transpose(1, 2)
