"""Pre-annotation: all objects of a task's image, or those in another model's boxes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samlet import Predictor
from samlet.everything.segment import segment_everything
from samlet.masks import CroppedMask, area, crop_mask
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.roi import choose_roi
from samlet.utils.progress import progress_of_part
from samlet_labelstudio.images.image_resolver import ImageResolver, TaskImage
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.regions.prompts import is_box, labels_by_region, read_box
from samlet_labelstudio.service.completion import Completion, completion_of, is_version_of
from samlet_labelstudio.service.interactive import clipped_score
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.service.request_context import Prediction, RequestContext, Task
from samlet_labelstudio.service.similar_objects import labelled_objects
from samlet_labelstudio.settings import Settings

MAX_MASK_BYTES = 64_000_000
"""Of full-size masks, one per box that is segmented in the same batch."""
MAX_BOXES_PER_BATCH = 8
"""The decoder keeps an ROI for each."""

_Object = tuple[CroppedMask, float, str | None]
"""Mask, predicted IoU, and the label if it has one of its own."""


@dataclass(frozen=True)
class PreparedTask:
    """A task to pre-annotate.

    Attributes:
        task: with "id" and "data"; boxes are rectangles of its "predictions" by other models.
        context: of the request, with the task's labels.
        completion: of its annotation; None if the prediction is of the whole image, or of boxes.
    """

    task: Task
    context: RequestContext
    completion: Completion | None


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

    def prepare(self, context: RequestContext, task: Task) -> PreparedTask:
        """Work out what a task's prediction will be of: once, since masks may have to be read.

        Args:
            context: of the request.
            task: see `PreparedTask`.
        """
        context = context.for_task(task)
        image = next(iter(context.config.images))
        return PreparedTask(task, context, completion_of(task, context.config, image))

    def preannotate(
        self,
        prepared: PreparedTask,
        image: TaskImage | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Prediction:
        """Find the objects of a task's first image; or, where it has boxes, the objects in those.

        Where the image has several pages, those of each page. Of a task whose annotation can be
        completed (see `samlet_labelstudio.service.completion`), the prediction is the annotation
        with the rest.

        Args:
            prepared: see `prepare`.
            image: the image, if it need not be fetched.
            progress: called after each batch of prompts with the fraction done, above 0 to 1. What
                it raises ends the work and reaches the caller.

        Returns:
            A prediction whose score is the mean of the regions' that were found.

        Raises:
            UserError: anything wrong with the task, or its image.
        """
        task, context, completion = prepared.task, prepared.context, prepared.completion
        tag = next(iter(context.config.images))
        control = context.result_control(tag, context.settings.label)
        predictor, version = self.models.of_project(context.project)
        boxes = _boxes_of_others(task, tag, self.models.versions_of(context.project))
        pages = [None] if image else context.pages(task, tag)
        found: list[dict[str, Any]] = []
        for i, page in enumerate(pages):
            on_page = image or self._images.resolve(
                context.image_url(task, tag, page), task.get("id")
            )
            of_page = None if progress is None else progress_of_part(progress, i, len(pages))
            if completion is None:
                objects = self._find_objects(
                    predictor, on_page, boxes.on_page(page) if boxes.results else None, of_page
                )
                found += _to_regions(objects, control, context.settings, page)
            else:
                found += _rest_of_annotation(
                    predictor, on_page, completion, context, tag, page, task.get("id"), of_page
                )
        scores = [region["score"] for region in found]
        return {
            "result": found if completion is None else [*completion.regions, *found],
            "score": float(np.mean(scores)) if scores else 0.0,
            "model_version": version if completion is None else version + completion.suffix,
        }

    def version_of(self, prepared: PreparedTask) -> str:
        """The model version of the prediction that a task would get.

        Raises:
            UserError: not a project's number.
        """
        version, completion = self.models.version_of(prepared.context.project), prepared.completion
        return version if completion is None else version + completion.suffix

    def _find_objects(
        self,
        predictor: Predictor,
        image: TaskImage,
        boxes: "_Boxes | None",
        progress: Callable[[float], None] | None,
    ) -> list[_Object]:
        if boxes is not None:
            return self.segment_boxes(predictor, image, boxes.results, progress, boxes.labels)
        return [(*each, None) for each in _all_objects(predictor, image, progress)]

    def segment_boxes(
        self,
        predictor: Predictor,
        image: TaskImage,
        results: Sequence[Mapping[str, Any]],
        progress: Callable[[float], None] | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> list[_Object]:
        """Segment the object in each box.

        Args:
            predictor: with the model.
            image: that the boxes are on.
            results: regions that are rectangles or ellipses.
            progress: see `preannotate`.
            labels: see `samlet_labelstudio.regions.prompts.labels_by_region`.

        Returns:
            For each box its mask, predicted IoU and label, ordered by the ROIs around them.

        Raises:
            UserError: a box that cannot be read, or the image.
        """
        embedding = self._embeddings.get(predictor, image.hash, image.read)
        size, side = embedding.original_size, predictor.model.config.image_size
        boxes = [read_box(result, size, labels) for result in results]
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


def _rest_of_annotation(
    predictor: Predictor,
    image: TaskImage,
    completion: Completion,
    context: RequestContext,
    tag: str,
    page: int | None,
    task: Any,
    progress: Callable[[float], None] | None,
) -> list[dict[str, Any]]:
    pixels = image.read()
    size = (pixels.shape[0], pixels.shape[1])
    labelled = labelled_objects(completion.regions, context.config, tag, page or 0, size, task)
    found = completion.find(predictor, pixels, labelled, context.settings.likeness, progress)
    return [
        region
        for label in completion.labels
        for region in _to_regions(
            [each for each in found if each[2] == label],
            context.result_control(tag, label),
            context.settings,
            page,
        )
    ]


def _to_regions(
    objects: list[_Object], control: Control, settings: Settings, page: int | None
) -> list[dict[str, Any]]:
    """The regions of the objects of one image that the settings let through, the best first."""
    kept = [
        each
        for each in objects
        if each[1] >= settings.min_score and area(each[0].mask) >= max(1, settings.min_area)
    ]
    kept.sort(key=lambda each: -each[1])
    return [
        region
        for mask, score, label in kept[: settings.max_regions]
        for region in to_results(
            mask,
            control,
            control.label_or_first(label or settings.label),
            score,
            settings.tolerance,
            page,
        )
    ]


@dataclass(frozen=True)
class _Boxes:
    """Rectangles that other models have predicted.

    Attributes:
        results: the regions.
        labels: of those whose label is in an entry of its own.
    """

    results: list[Mapping[str, Any]]
    labels: Mapping[str, Any]

    def on_page(self, page: int | None) -> "_Boxes":
        """Those of one page; all if there are no pages."""
        if page is None:
            return self
        kept = [each for each in self.results if (each.get("item_index") or 0) == page]
        return _Boxes(kept, self.labels)


def _boxes_of_others(task: Task, image: str, own: Sequence[str]) -> _Boxes:
    """Rectangles that other models than our own have predicted for an image of a task."""
    predictions = task.get("predictions")
    results = [
        result
        for prediction in (predictions if isinstance(predictions, list) else [])
        if isinstance(prediction, Mapping)
        and not is_version_of(prediction.get("model_version"), own)
        and isinstance(prediction.get("result"), list)
        for result in prediction["result"]
        if isinstance(result, Mapping) and result.get("to_name") == image
    ]
    return _Boxes([each for each in results if is_box(each)], labels_by_region(results))
