"""One model on one engine: images to embeddings, checked prompts to low-resolution masks."""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from samlet.engines import Engine, ImageState, open_engine
from samlet.images import resize_longest, resized_shape
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.mask_upsampler import MaskUpsampler
from samlet.predict.prompts import Prompts
from samlet.predict.transforms import ResizeLongestSide
from samlet.utils.single_flight import SingleFlightCache


class Runner:
    """Encodes images and decodes prompts at the model's own resolution; safe to share by threads.

    `samlet.Predictor` is built on one runner, and on a second one if it zooms.

    Args:
        model: a model from `samlet.load`.
        engine: "torch", "openvino" or "auto": see `samlet.engines.open_engine`.
        precision: of the image encoder, "float32", "bfloat16" or "auto": see there.

    Attributes:
        model_id: fingerprint of the encoder, which every embedding carries.
        grid: side of the low-resolution masks, S/4.

    Raises:
        UserError: the engine cannot run here, or not in this precision.
    """

    def __init__(self, model: Sam, engine: str | Engine = "auto", precision: str = "auto") -> None:
        self.model = model.eval()
        self.engine = open_engine(model, engine, precision)
        self.model_id = encoder_fingerprint(model)
        self.transform = ResizeLongestSide(model.config.image_size)
        self.grid = model.config.image_size // 4
        self._states = WeakKeyDictionary[ImageEmbedding, SingleFlightCache[ImageState]]()
        self._lock = Lock()

    @torch.no_grad()
    def encode(self, rgb: np.ndarray) -> ImageEmbedding:
        """Compute an image's embedding, without the image itself.

        Args:
            rgb: uint8, H x W x 3.
        """
        size, config = (rgb.shape[0], rgb.shape[1]), self.model.config
        resized = resize_longest(rgb, config.encoder_size)
        pixels = torch.from_numpy(resized).permute(2, 0, 1).to(self.model.device)
        features = self.engine.encode(self.model.preprocess(pixels).unsqueeze(0))
        input_size = resized_shape(*size, config.image_size)
        return ImageEmbedding(
            features[0], size, input_size, self.model_id, precision=self.engine.precision
        )

    @torch.no_grad()
    def predict_logits(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask_output: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts.

        Args:
            embedding: from `encode`.
            prompts: in pixels of the embedding's image.
            multimask_output: three masks per prompt, or one.

        Returns:
            low_res_masks: logits, B x C x S/4 x S/4.
            iou_predictions: B x C.
        """
        device, size = self.engine.device, embedding.original_size
        coords, labels, boxes, masks = (
            None if part is None else torch.from_numpy(part) for part in prompts.parts()
        )
        points = None
        if coords is not None and labels is not None:
            coords = self.transform.apply_coords_torch(coords, size)
            points = (coords.to(device), labels.to(device))
        if boxes is not None:
            boxes = self.transform.apply_boxes_torch(boxes, size).to(device)
        return self.engine.decode(
            self.decoder_state(embedding),
            points,
            boxes,
            None if masks is None else masks.unsqueeze(1).to(device),
            multimask_output,
        )

    def decoder_state(self, embedding: ImageEmbedding) -> ImageState:
        """What all prompts on an image share; computed once, and kept as long as the embedding."""
        # Prompts on other images do not wait while this one's state is computed.
        with self._lock:
            state = self._states.setdefault(embedding, SingleFlightCache(1, lambda _: 1))
        return state.get("", lambda: self.engine.prepare(embedding.features.unsqueeze(0)))

    def upsample(self, low_res_masks: Tensor, embedding: ImageEmbedding) -> np.ndarray:
        """Bring C x S/4 x S/4 logits to boolean masks, C x H x W, of the embedding's image."""
        size, threshold = embedding.original_size, self.model.mask_threshold
        upsampler = self.upsampler(embedding)
        masks = np.zeros((len(low_res_masks), *size), dtype=bool)
        for mask, logits in zip(masks, low_res_masks.float().cpu().numpy(), strict=True):
            window, left, top = upsampler(logits, threshold)
            height, width = window.shape
            mask[top : top + height, left : left + width] = window > threshold
        return masks

    def upsampler(self, embedding: ImageEmbedding) -> MaskUpsampler:
        """The upsampler from S/4 x S/4 logits to the size of the embedding's image."""
        return _upsampler(
            self.model.config.image_size, embedding.input_size, embedding.original_size
        )


_upsampler: Callable[..., MaskUpsampler] = lru_cache(maxsize=16)(MaskUpsampler)
