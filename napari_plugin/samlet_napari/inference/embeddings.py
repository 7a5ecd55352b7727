"""Embeddings of an image's regions of interest, made once each."""

from dataclasses import replace

from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import EmbeddingCache, bytes_in_use
from samlet.predict.predictor import Predictor
from samlet.utils.single_flight import SingleFlightCache
from samlet_napari.inference.roi import Roi
from samlet_napari.layers.layer_reader import LayerSnapshot

MEMORY_BYTES = 1 << 30
"""Memory for embeddings, with what the predictor keeps beside each."""


class EmbeddingProvider:
    """Embeddings of the ROIs of an image; safe to use from any thread.

    Args:
        predictor: whose encoder.
        snapshot: the image.
        cache: where embeddings are looked up and kept, by their pixels.
    """

    def __init__(
        self, predictor: Predictor, snapshot: LayerSnapshot, cache: EmbeddingCache
    ) -> None:
        self.predictor = predictor
        self.snapshot = snapshot
        self._cache = cache
        self._in_memory = SingleFlightCache[ImageEmbedding](MEMORY_BYTES, bytes_in_use)

    @property
    def input_size(self) -> int:
        """Side of the model's input, in pixels."""
        return self.predictor.model.config.image_size

    def is_ready(self, roi: Roi) -> bool:
        """Whether an embedding can be had without waiting."""
        return self._in_memory.is_ready(str(roi))

    def get(self, roi: Roi) -> ImageEmbedding:
        """Give an ROI's embedding; `original_size` is that of the ROI.

        Raises:
            UserError: the pixels cannot be shown to a model.
        """
        return self._in_memory.get(str(roi), lambda: self._encode(roi))

    def set_cache(self, cache: EmbeddingCache) -> None:
        """Look embeddings up, and keep them, elsewhere from now on; also those in memory."""
        self._cache = cache
        self._in_memory = SingleFlightCache(MEMORY_BYTES, bytes_in_use)

    def _encode(self, roi: Roi) -> ImageEmbedding:
        pixels = self.snapshot.read(roi.plane, roi.box, self.input_size)
        embedding = self._cache.get(self.predictor, None, lambda: pixels)
        # What was read of a pyramid may be smaller, and yet masks must be as large as the ROI.
        return replace(embedding, original_size=roi.size)
