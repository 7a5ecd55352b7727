"""How well a model's proposal head finds objects, without segmenting them."""

from collections.abc import Iterable

from samlet.datasets.examples import Example
from samlet.datasets.layers import iter_objects
from samlet.everything.working_scale import first_input_size, proposals_of
from samlet.predict.predictor import Predictor


def proposal_f1(predictor: Predictor, examples: Iterable[Example]) -> float:
    """F1 score of proposals: one is right if it is the only one whose point lies on an object.

    The image is seen as in everything mode's first look, at half the input size.

    Args:
        predictor: of a model with a proposal head.
        examples: images with their objects.

    Returns:
        0 to 1; nan if there are neither objects nor proposals.
    """
    runner = predictor.runner_at(first_input_size(predictor))
    right = total = 0
    for example in examples:
        proposals = proposals_of(runner, runner.encode(example.image))
        height, width = example.image.shape[:2]
        scale = runner.model.config.image_size / max(height, width)
        columns, rows = (proposals.points / scale).astype(int).clip(0, (width - 1, height - 1)).T
        masks = [mask for _, mask in iter_objects(example.labels)]
        right += sum(int(mask[rows, columns].sum()) == 1 for mask in masks)
        total += len(masks) + len(proposals)
    return 2 * right / total if total else float("nan")
