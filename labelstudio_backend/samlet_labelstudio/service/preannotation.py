"""Pre-annotation: all objects of a task's image, or those in another model's boxes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from samlet import Predictor
from samlet.everything.segment import segment_everything
from samlet.masks import CroppedMask, area, crop_mask
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.roi import choose_roi
from samlet_labelstudio.images.image_resolver import ImageResolver, TaskImage
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.regions.prompts import read_box
from samlet_labelstudio.service.interactive import clipped_score
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.service.request_context import Prediction, RequestContext, Task

MAX_MASK_BYTES = 64_000_000
"""Of full-size masks, one per box that is segmented in the same batch."""
MAX_BOXES_PER_BATCH = 8
"""The decoder keeps an ROI for each."""

_Object = tuple[CroppedMask, float, str | None]
"""Mask, predicted IoU, and the label if it has one of its own."""


class Preannotator:
    """Pre-annotates tasks; safe to use from any number of threads.

    Args:
        models: see there.
        images: see there.
        embeddings: shared with interactive prompts.
    """

    def __init__(self, models: Models, images: ImageResolver, embeddings: EmbeddingCache) -> None:
        self.models = models
        self._images = images
        self._embeddings = embeddings

    def preannotate(
        self,
        context: RequestContext,
        task: Task,
        image: TaskImage | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Prediction:
        """Find the objects of a task's first image; or, where it has boxes, the objects in those.

        Args:
            context: of the request.
            task: with "id" and "data"; boxes are rectangles of its "predictions" by other models.
            image: the image, if it need not be fetched.
            progress: called after each batch of prompts with the fraction done, above 0 to 1. What
                it raises ends the work and reaches the caller.

        Returns:
            A prediction whose score is the mean of its regions'.

        Raises:
            UserError: anything wrong with the task, or its image.
        """
        settings = context.settings
        tag = next(iter(context.config.images))
        control = context.result_control(tag, settings.label)
        predictor, version = self.models.of_project(context.project)
        image = image or self._images.resolve(context.image_url(task, tag), task.get("id"))
        boxes = _boxes_of_others(task, tag, self.models.versions_of(context.project))
        if boxes:
            objects = self.segment_boxes(predictor, image, boxes, progress)
        else:
            label = control.label_or_first(settings.label)
            objects = [(*each, label) for each in _all_objects(predictor, image, progress)]
        kept = [
            each
            for each in objects
            if each[1] >= settings.min_score and area(each[0].mask) >= max(1, settings.min_area)
        ]
        kept.sort(key=lambda each: -each[1])
        regions = [
            region
            for mask, score, label in kept[: settings.max_regions]
            for region in to_results(
                mask, control, control.label_or_first(label), score, settings.tolerance
            )
        ]
        scores = [region["score"] for region in regions]
        mean = float(np.mean(scores)) if scores else 0.0
        return {"result": regions, "score": mean, "model_version": version}

    def segment_boxes(
        self,
        predictor: Predictor,
        image: TaskImage,
        results: Sequence[Mapping[str, Any]],
        progress: Callable[[float], None] | None = None,
    ) -> list[_Object]:
        """Segment the object in each box.

        Args:
            predictor: with the model.
            image: that the boxes are on.
            results: regions that are rectangles or ellipses.
            progress: see `preannotate`.

        Returns:
            For each box its mask, predicted IoU and label, ordered by the ROIs around them.

        Raises:
            UserError: a box that cannot be read, or the image.
        """
        embedding = self._embeddings.get(predictor, image.hash, image.read)
        size, side = embedding.original_size, predictor.model.config.image_size
        boxes = [read_box(result, size) for result in results]
        # Those with the same ROI one after another, so that it is encoded once.
        boxes.sort(key=lambda box: choose_roi(box[0], np.empty((0, 2)), size, side) or ())
        batch_size = max(1, min(MAX_BOXES_PER_BATCH, MAX_MASK_BYTES // (size[0] * size[1])))
        objects: list[_Object] = []
        for start in range(0, len(boxes), batch_size):
            batch = boxes[start : start + batch_size]
            predictions = predictor.segment_batch(
                embedding, boxes=[box for box, _ in batch], multimask_output=False
            )
            objects += [
                (crop_mask(masks.best), clipped_score(masks), label)
                for masks, (_, label) in zip(predictions, batch, strict=True)
            ]
            if progress is not None:
                progress(len(objects) / len(boxes))
        return objects


def _all_objects(
    predictor: Predictor, image: TaskImage, progress: Callable[[float], None] | None
) -> list[tuple[CroppedMask, float]]:
    return [
        (crop_mask(record["segmentation"]), min(record["predicted_iou"], 1.0))
        for record in segment_everything(predictor, image.read(), progress=progress)
    ]


def _boxes_of_others(task: Task, image: str, own: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rectangles that other models than our own have predicted for an image of a task."""
    predictions = task.get("predictions")
    return [
        result
        for prediction in (predictions if isinstance(predictions, list) else [])
        if isinstance(prediction, Mapping)
        and str(prediction.get("model_version")) not in own
        and isinstance(prediction.get("result"), list)
        for result in prediction["result"]
        if isinstance(result, Mapping)
        and result.get("type") == "rectanglelabels"
        and result.get("to_name") == image
    ]
