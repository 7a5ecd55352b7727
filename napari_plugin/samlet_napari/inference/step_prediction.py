"""A request's prompts, run through the model step by step."""

from collections import OrderedDict
from collections.abc import Hashable

import numpy as np

from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import MaskPrediction, Predictor
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.prompts import Steps, all_points, last_box
from samlet_napari.inference.requests import Request, chosen_index

REMEMBERED_BYTES = 1 << 28
"""Memory for the predictions of earlier steps; the latest is kept in any case."""

StepPredictions = OrderedDict[Hashable, MaskPrediction]
"""Predictions that later steps of the same object continue from, the oldest first."""


def predict_steps(
    embeddings: EmbeddingProvider, request: Request, predictions: StepPredictions
) -> MaskPrediction:
    """Predict step by step, as the model was trained: each step refines the mask before.

    Args:
        embeddings: of the image.
        request: what is wanted.
        predictions: of earlier steps; for an object, those of this request are added.

    Raises:
        UserError: the pixels cannot be shown to a model.
    """
    embedding = embeddings.get(request.roi)
    low_res_mask: np.ndarray | None = None
    prediction: MaskPrediction | None = None
    for count, step in enumerate(request.steps, start=1):
        steps = request.steps[:count]
        is_ambiguous = step.choice is not None or _is_single_point(steps)
        key = (request.roi, steps[:-1], step.points, step.box, is_ambiguous)
        prediction = predictions.get(key)
        if prediction is None:
            prediction = _predict(
                embeddings.predictor, embedding, request, steps, low_res_mask, is_ambiguous
            )
            if request.kind == "object":
                predictions[key] = prediction
                _shrink(predictions)
        low_res_mask = prediction.low_res_masks[chosen_index(step, prediction)]
    assert prediction is not None
    return prediction


def _shrink(predictions: StepPredictions) -> None:
    while len(predictions) > 1 and sum(map(_bytes, predictions.values())) > REMEMBERED_BYTES:
        predictions.popitem(last=False)


def _is_single_point(steps: Steps) -> bool:
    """Whether one of several masks may be meant."""
    return len(all_points(steps)) == 1 and last_box(steps) is None


def _predict(
    predictor: Predictor,
    embedding: ImageEmbedding,
    request: Request,
    steps: Steps,
    low_res_mask: np.ndarray | None,
    multimask_output: bool,
) -> MaskPrediction:
    left, top, right, bottom = request.roi.box
    points = all_points(steps)
    coords = np.array([[x - left, y - top] for x, y, _ in points]).reshape(-1, 2)
    box = last_box(steps)
    return predictor.segment(
        embedding,
        coords.clip(0, [right - left, bottom - top]) if points else None,
        [int(positive) for _, _, positive in points] if points else None,
        None if box is None else np.array(box) - (left, top, left, top),
        low_res_mask,
        multimask_output=multimask_output,
        zoom=request.kind != "hover",
    )


def _bytes(prediction: MaskPrediction) -> int:
    return prediction.masks.nbytes + prediction.low_res_masks.nbytes
