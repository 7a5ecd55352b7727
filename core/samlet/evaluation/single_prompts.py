"""One prompt per object, a click or a box: the IoU of the predicted mask with the object."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samlet.datasets.examples import Example
from samlet.errors import UserError
from samlet.evaluation.object_batches import MIN_AREA, object_batches
from samlet.evaluation.tables import GroupOf, Table, group_name, summarize_by_group
from samlet.masks import box_xyxy, deepest_point, iou
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import MaskPrediction, Predictor

PROMPTS = ("click", "random click", "box")


@dataclass(frozen=True)
class ObjectScore:
    """The result of one prompt for one object.

    Attributes:
        image: name of its image.
        group: group of the image; "" if images are not grouped.
        label: the object's number in the label map.
        prompt: one of `PROMPTS`.
        iou: of the mask with the object, 0 to 1.
        predicted_iou: the model's own estimate of it.
    """

    image: str
    group: str
    label: int
    prompt: str
    iou: float
    predicted_iou: float


def evaluate_prompts(
    predictor: Predictor,
    examples: Iterable[Example],
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
    group_of: GroupOf | None = None,
    min_area: int = MIN_AREA,
) -> Iterator[list[ObjectScore]]:
    """Prompt for every labelled object of each image, and compare the masks with the labels.

    A click gives three candidates, of which the one with the highest predicted IoU counts; a box
    gives one mask.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        prompts: "click" (the object's deepest point), "random click" (any of its pixels, equally
            likely), "box" (its bounding box).
        seed: of the random clicks.
        group_of: names an image's group; None does not group.
        min_area: objects with fewer pixels are skipped.

    Yields:
        the scores of one image after another.

    Raises:
        UserError: unknown prompt.
    """
    for prompt in prompts:
        if prompt not in PROMPTS:
            raise UserError(f"Unknown prompt {prompt!r}: choose from {', '.join(PROMPTS)}.")
    rng = np.random.default_rng(seed)
    for example in examples:
        embedding = predictor.encode(example.image)
        group = group_name(example, group_of)
        scores = []
        for batch in object_batches(example.labels, min_area):
            masks = [mask for _, mask in batch]
            for prompt in prompts:
                predictions = _predict(predictor, embedding, prompt, masks, rng)
                scores += [
                    ObjectScore(
                        example.name, group, label, prompt, iou(prediction.best, mask),
                        float(prediction.iou_predictions[prediction.best_index]),
                    )
                    for prediction, (label, mask) in zip(predictions, batch, strict=True)
                ]  # fmt: skip
        yield scores


def _predict(
    predictor: Predictor,
    embedding: ImageEmbedding,
    prompt: str,
    masks: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> list[MaskPrediction]:
    if prompt == "box":
        # A label's last pixel is part of it, so the box ends at that pixel's far edge.
        boxes = [box_xyxy(mask) for mask in masks]
        return predictor.segment_batch(embedding, boxes=boxes, multimask_output=False)
    points = [[deepest_point(m) if prompt == "click" else _random_point(m, rng)] for m in masks]
    return predictor.segment_batch(embedding, points, np.ones((len(masks), 1)))


def _random_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    ys, xs = np.nonzero(mask)
    i = rng.integers(len(xs))
    return int(xs[i]), int(ys[i])


def summarize_prompts(scores: Sequence[ObjectScore]) -> Table:
    """Mean figures: {"all" or group: {prompt: mean IoU, ..., "objects": n, "IoU error": ...}}.

    "IoU error" is the mean absolute difference of predicted and true IoU over all prompts.
    """
    return summarize_by_group(scores, _figures)


def _figures(scores: Sequence[ObjectScore]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for prompt in dict.fromkeys(s.prompt for s in scores):
        figures[prompt] = float(np.mean([s.iou for s in scores if s.prompt == prompt]))
        figures["objects"] = sum(s.prompt == prompt for s in scores)
    figures["IoU error"] = float(np.mean([abs(s.iou - s.predicted_iou) for s in scores]))
    return figures
