"""The interface of engines: encode an image once, then decode prompts on it."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from samlet.engines.precision import Precision
from samlet.modeling.prompt_encoder import PromptEncoder
from samlet.modeling.sam import Sam

TOKENS_PER_BATCH = 8 * 4096
"""Image tokens per batch of prompts: more would not fit a processor's cache."""


@dataclass(frozen=True, eq=False)
class ImageState:
    """What all prompts on an image share; computed once by `Engine.prepare`.

    Or the states of A images, for a prompt on each.

    Attributes:
        features: A x C x h x w, from the image encoder.
        shared: see `samlet.engines.decoder.ImageBranch`.
    """

    features: Tensor
    shared: tuple[Tensor, ...]


@dataclass(frozen=True)
class DecoderTokens:
    """The decoder's output for B prompts, before masks are computed.

    Attributes:
        tokens: of the image, B x N x C. Only valid until the next batch is drawn.
        kernels: B x 4 x C/8; the single mask's first, then those of the three candidates.
        iou_predictions: B x 4, in the same order.
    """

    tokens: Tensor
    kernels: Tensor
    iou_predictions: Tensor


class Engine(ABC):
    """A model that is ready to run; safe to use from several threads.

    It is a snapshot: what becomes of the model's weights later is not seen. It also works in forked
    processes, with one thread there.

    Args:
        model: on the device where it is to run.
        precision: of the image encoder and the instance decoder, in which the device computes.

    Attributes:
        name: "torch" or "openvino".
        precision: of the image encoder and the instance decoder.
        device: where tensors go in and come out.
        grid: tokens of an image, (h, w).
    """

    name: str

    def __init__(self, model: Sam, precision: Precision = "float32") -> None:
        self.device, self.precision = model.device, precision
        self.prompt_encoder: PromptEncoder = copy.deepcopy(model.prompt_encoder).eval()
        self.grid = self.prompt_encoder.image_embedding_size
        self.batch_size = max(1, TOKENS_PER_BATCH // (self.grid[0] * self.grid[1]))
        self._proposal_head = copy.deepcopy(model.proposal_head)

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Normalised images, 1 x 3 x S x S, to features, float32, 1 x C x S/16 x S/16."""

    @abstractmethod
    def _image_branch(self, features: Tensor, dense: Tensor) -> tuple[Tensor, ...]:
        """`samlet.engines.decoder.ImageBranch`."""

    @abstractmethod
    def _prompt_branch(
        self, sparse: Tensor, shared: tuple[Tensor, ...]
    ) -> AbstractContextManager[DecoderTokens]:
        """`samlet.engines.decoder.PromptBranch`; the tokens are valid within the block."""

    @abstractmethod
    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        """Tokens (B x N x C) and K kernels of each prompt to logits, B x K x S/4 x S/4."""

    @abstractmethod
    def predict_distances(self, features: Tensor) -> Tensor:
        """The output of the model's `InstanceDecoder`; the model must have one.

        Args:
            features: A x C x h x w, from the image encoder.

        Returns:
            float32, A x 3 x 16h x 16w.
        """

    @torch.no_grad()
    def propose(self, features: Tensor) -> Tensor:
        """What the model's proposal head predicts, see `ProposalHead`; the model must have one.

        Args:
            features: A x C x h x w, from the image encoder.

        Returns:
            float32, A x 7 x 4h x 4w.
        """
        assert self._proposal_head is not None
        predicted: Tensor = self._proposal_head(features.to(self.device))
        return predicted

    @torch.no_grad()
    def prepare(self, features: Tensor) -> ImageState:
        """Compute once per image what does not depend on prompts; features are A x C x h x w."""
        features = features.to(self.device)
        no_mask = self.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        return ImageState(features, self._image_branch(features, no_mask))

    @torch.no_grad()
    def run_prompts(
        self,
        image: ImageState,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Iterator[DecoderTokens]:
        """Decode prompts in batches that fit the cache; see `PromptEncoder` for their shapes.

        They are all on one image, or each on its own. The tokens of a batch are only valid until
        the next is drawn.
        """
        given = [x for x in (points and points[0], boxes, masks) if x is not None]
        for start in range(0, len(given[0]) if given else 1, self.batch_size):
            part = slice(start, start + self.batch_size)
            sparse, dense = self.prompt_encoder(
                None if points is None else (points[0][part], points[1][part]),
                None if boxes is None else boxes[part],
                None if masks is None else masks[part],
            )
            rows = part if len(image.features) > 1 else slice(None)
            shared = tuple(tensor[rows] for tensor in image.shared)
            if masks is not None:
                features = image.features[rows].expand(len(dense), -1, -1, -1)
                shared = self._image_branch(features, dense)
            with self._prompt_branch(sparse, shared) as tokens:
                yield tokens

    @torch.no_grad()
    def decode(
        self,
        image: ImageState,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Prompts to low_res_masks and iou_predictions, as `Sam.decode`; of none, none."""
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        parts = [
            (self.upscale(a.tokens, a.kernels[:, wanted]), a.iou_predictions[:, wanted])
            for a in self.run_prompts(image, points, boxes, masks)
        ]
        if not parts:
            count, (h, w) = 3 if multimask_output else 1, self.grid
            empty = torch.zeros(0, count, 4 * h, 4 * w, device=self.device)
            return empty, empty[..., 0, 0]
        low_res_masks, iou_predictions = zip(*parts, strict=True)
        return torch.cat(low_res_masks), torch.cat(iou_predictions)
