"""Agreement of a student with its teacher: IoU of their masks for the same prompts, without labels.

Prompts start from a grid of points over each image:

- "point": the points of the grid. Both models give three candidate masks. The teacher's candidate
  with the highest predicted IoU is compared with the student's candidate of the same index: a
  student with the same decoder has whole, part and subpart at the same indices, so this measures
  whether the masks agree, and not whether both models prefer the same candidate.
- "box": the boxes of those masks of the teacher, each box once; one mask each.
- "100 px", ..., "500 px": a foreground point of the grid and a background point at this distance
  (in pixels of the image) in a random direction; one mask each. Points around which no direction
  stays within the image are skipped.

The last are the setting of MobileSAM's README ("mIoU with two prompt points (with different pixel
distances)", 0.71 to 0.74 between MobileSAM and SAM ViT-H; the paper is arXiv 2306.14289). It does
not say which images, where the points are, or which of several masks counts, and its repository
has no code for it; that they are a foreground and a background point is from its author's comment
in FastSAM's issue 31. So compare these figures with each other, and with MobileSAM's only roughly.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samlet.evaluation.object_batches import BATCH_SIZE
from samlet.evaluation.tables import Table
from samlet.everything.crops import point_grid
from samlet.masks import box_xyxy, iou
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor

DISTANCES = (100, 200, 300, 400, 500)
"""Between the two points of a pair, in pixels."""

_Models = Sequence[tuple[Predictor, ImageEmbedding]]


@dataclass(frozen=True)
class AgreementScore:
    """Agreement of teacher and student for one prompt.

    Attributes:
        image: name of the image.
        prompt: "point", "box", or "100 px" for two points at this distance.
        x: of the grid point that the prompt comes from, in pixels of the image.
        y: of the same point.
        iou: of the two masks, in the size of the image; 1 if both are empty.
    """

    image: str
    prompt: str
    x: float
    y: float
    iou: float


def evaluate_agreement(
    teacher: Predictor,
    student: Predictor,
    images: Iterable[tuple[str, np.ndarray]],
    points_per_side: int = 8,
    distances: Sequence[int] = DISTANCES,
    seed: int = 0,
) -> Iterator[list[AgreementScore]]:
    """Give both models the same prompts on each image, and compare their masks; see this module.

    Args:
        teacher: the reference.
        student: what is compared with it; its input size may differ.
        images: name and RGB uint8, H x W x 3.
        points_per_side: the grid has points_per_side x points_per_side points.
        distances: between the points of a pair, in pixels of the image.
        seed: of the random directions.

    Yields:
        the scores of one image after another.
    """
    rng = np.random.default_rng(seed)
    for name, image in images:
        models = [(predictor, predictor.encode(image)) for predictor in (teacher, student)]
        size = models[0][1].original_size
        grid = point_grid(points_per_side) * size[::-1]
        scores = []
        boxes: dict[tuple[int, int, int, int], np.ndarray] = {}
        clicks = {"point_coords": grid[:, None], "point_labels": np.ones((len(grid), 1))}
        for point, (score, mask) in zip(
            grid, _compare(models, name, "point", grid, clicks, True), strict=True
        ):
            scores.append(score)
            if mask.any():
                boxes.setdefault(box_xyxy(mask), point)
        corners = {"boxes": np.array(list(boxes))}
        scores += [s for s, _ in _compare(models, name, "box", list(boxes.values()), corners)]
        for distance in distances:
            pairs = point_pairs(grid, distance, size, rng)
            both = {"point_coords": pairs, "point_labels": np.tile([1, 0], (len(pairs), 1))}
            prompt = f"{distance} px"
            scores += [s for s, _ in _compare(models, name, prompt, pairs[:, 0], both)]
        yield scores


def _compare(
    models: _Models,
    name: str,
    prompt: str,
    origins: Sequence[np.ndarray] | np.ndarray,
    arguments: Mapping[str, np.ndarray],
    multimask: bool = False,
) -> Iterator[tuple[AgreementScore, np.ndarray]]:
    """Yield the score of each of N prompts, and the teacher's mask.

    Args:
        models: teacher and student.
        name: of the image.
        prompt: name of the kind of prompt; see `AgreementScore`.
        origins: N x 2, (x, y) of the grid points.
        arguments: of `Predictor.segment_batch`, N rows each.
        multimask: three candidate masks, or one.
    """
    for start in range(0, len(origins), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        batch: dict[str, Any] = {key: values[part] for key, values in arguments.items()}
        teacher, student = (
            predictor.segment_batch(embedding, **batch, multimask_output=multimask)
            for predictor, embedding in models
        )
        for (x, y), expected, predicted in zip(origins[part], teacher, student, strict=True):
            index = expected.best_index
            agreement = iou(expected.masks[index], predicted.masks[index])
            yield AgreementScore(name, prompt, float(x), float(y), agreement), expected.best


def point_pairs(
    points: np.ndarray, distance: float, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Pair each point with one at a distance, in a random direction (of 360) within the image.

    Args:
        points: N x 2, (x, y) in pixels.
        distance: in pixels.
        size: (H, W) of the image.
        rng: of the directions.

    Returns:
        float64, M x 2 x 2: (x, y) of each point and of the one that it is paired with. Points
        around which no direction stays within the image are skipped.
    """
    angles = np.deg2rad(np.arange(360))
    steps = distance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pairs = []
    for point in points:
        ends = point + steps
        inside = ((ends >= 0) & (ends <= np.array(size[::-1]) - 1)).all(axis=1)
        if inside.any():
            pairs.append((point, rng.choice(ends[inside])))
    return np.array(pairs).reshape(-1, 2, 2)


def summarize_agreement(scores: Sequence[AgreementScore]) -> Table:
    """Mean figures: {prompt: {"mIoU": ..., "prompts": n}}, over all prompts of all images."""
    table: Table = {}
    for prompt in dict.fromkeys(score.prompt for score in scores):
        ious = [score.iou for score in scores if score.prompt == prompt]
        table[prompt] = {"mIoU": float(np.mean(ious)), "prompts": len(ious)}
    return table
