"""Smart clicks, boxes and strokes: prompts in, one mask out, or those of all similar objects."""

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from samlet import Predictor
from samlet.masks import CroppedMask, crop_mask
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.predictor import MaskPrediction
from samlet_labelstudio.images.image_resolver import ImageResolver
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.regions.prompts import Prompt, image_of, read_prompt
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.service.request_context import Prediction, RequestContext, Task
from samlet_labelstudio.service.similar_objects import (
    find_similar,
    labelled_objects,
    saved_regions,
    without_prompts,
)

MAX_CACHED_LOGITS = 256
"""Low-resolution masks that are kept, since the next click on the same region refines them."""


class InteractiveSegmenter:
    """Answers prompts; safe to use from any number of threads.

    Args:
        models: see there.
        images: see there.
        embeddings: shared with pre-annotation.
    """

    def __init__(self, models: Models, images: ImageResolver, embeddings: EmbeddingCache) -> None:
        self._models = models
        self._images = images
        self._embeddings = embeddings
        self._logits: OrderedDict[Any, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def segment(self, context: RequestContext, task: Task, results: list[Any]) -> Prediction:
        """Segment what prompts point at; with a label such as "all like cell", all like it.

        Args:
            context: of the request.
            task: with "id" and "data".
            results: Label Studio's `context["result"]`: what was drawn with smart tools.

        Returns:
            A prediction whose score is the predicted IoU of what was pointed at. It has no region
            if the mask is empty, or everything found is labelled already.

        Raises:
            UserError: anything wrong with the request, or its image.
        """
        context = context.for_task(task)
        tag, page = image_of(results, context.config)
        predictor, version = self._models.of_project(context.project)
        image = self._images.resolve(context.image_url(task, tag, page), task.get("id"))
        embedding = self._embeddings.get(predictor, image.hash, image.read)
        prompt = read_prompt(results, context.config, embedding.original_size)
        wanted = context.config.label_to_find(prompt.label)
        label = wanted or prompt.label
        control = context.result_control(tag, label)
        mask, score = self._predict(predictor, embedding, image.hash, prompt)
        objects = [(mask, score)]
        if wanted is not None and mask.mask.any():
            regions = without_prompts(saved_regions(task), results)
            labelled = labelled_objects(
                regions, context.config, tag, page, embedding.original_size, task.get("id")
            )
            objects = find_similar(
                predictor,
                image.read(),
                label,
                labelled,
                context.settings.likeness,
                objects[0],
            )[: context.settings.max_regions]
        item_index = page if tag in context.config.paged else None
        answer = [
            region
            for mask, score in objects
            for region in to_results(
                mask,
                control,
                control.label_or_first(label),
                score,
                context.settings.tolerance,
                item_index,
            )
        ]
        return {"result": answer, "score": score, "model_version": version}

    def _predict(
        self, predictor: Predictor, embedding: ImageEmbedding, image_hash: str, prompt: Prompt
    ) -> tuple[CroppedMask, float]:
        count = len(prompt.points)
        previous = self._previous_logits(predictor, embedding, image_hash, prompt, count - 1)
        masks = _segment(predictor, embedding, prompt, count, previous)
        best = masks.low_res_masks[masks.best_index]
        self._remember(_logits_key(predictor, image_hash, prompt, count), best)
        return crop_mask(masks.best), clipped_score(masks)

    def _previous_logits(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        image_hash: str,
        prompt: Prompt,
        count: int,
    ) -> np.ndarray | None:
        """The low-resolution mask of the first `count` clicks, which the next click refines.

        It is predicted again if it is no longer cached; None without any click or box before.
        """
        if count < 1 and (prompt.box is None or count < 0):
            return None
        key = _logits_key(predictor, image_hash, prompt, count)
        with self._lock:
            logits = self._logits.get(key)
        if logits is None:
            masks = _segment(predictor, embedding, prompt, count)
            logits = masks.low_res_masks[masks.best_index]
            self._remember(key, logits)
        return logits

    def _remember(self, key: Any, logits: np.ndarray) -> None:
        with self._lock:
            self._logits[key] = logits
            self._logits.move_to_end(key)
            while len(self._logits) > MAX_CACHED_LOGITS:
                self._logits.popitem(last=False)


def clipped_score(masks: MaskPrediction) -> float:
    """The predicted IoU of the best mask, clipped to 0 to 1."""
    return min(max(float(masks.iou_predictions[masks.best_index]), 0.0), 1.0)


def _segment(
    predictor: Predictor,
    embedding: ImageEmbedding,
    prompt: Prompt,
    count: int,
    previous: np.ndarray | None = None,
) -> MaskPrediction:
    """Segment by the box and the first `count` clicks of a prompt."""
    return predictor.segment(
        embedding,
        prompt.points[:count] if count else None,
        prompt.point_labels[:count] if count else None,
        prompt.box,
        previous,
        multimask_output=count == 1 and prompt.box is None,
    )


def _logits_key(predictor: Predictor, image_hash: str, prompt: Prompt, count: int) -> Any:
    points = np.asarray(prompt.points[:count], float).tobytes()
    labels = np.asarray(prompt.point_labels[:count], int).tobytes()
    return predictor.model.name, image_hash, points, labels, prompt.box
