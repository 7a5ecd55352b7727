"""How good the masks are: IoU with labelled objects, a prompt type at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from samlet.distill.data import Example, kind_of
from samlet.masks import box_xyxy, deepest_point, from_label_map, iou
from samlet.predictor import Masks, Predictor

MIN_AREA = 20
"""Objects with fewer pixels are not counted."""

PROMPTS = ("click", "random click", "box")
CHUNK = 32


@dataclass(frozen=True)
class ObjectScore:
    """How one object came out.

    Attributes:
        image: name of its image.
        kind: kind of the image, as `kind_of` tells it.
        prompt: one of `PROMPTS`.
        iou: of the mask with the object, 0 to 1.
        predicted_iou: what the model thought it was.
    """

    image: str
    kind: str
    prompt: str
    iou: float
    predicted_iou: float


def evaluate(
    predictor: Predictor,
    examples: list[Example],
    prompts: tuple[str, ...] = PROMPTS,
    seed: int = 0,
) -> Iterator[list[ObjectScore]]:
    """Prompt for every labelled object of whole images, and compare.

    A click gives three candidates, of which the model's own predicted IoU chooses; a box gives one
    mask.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        prompts: "click" (the object's deepest point), "random click" (any of its pixels, evenly),
            "box" (its bounding box).
        seed: decides the random clicks.

    Yields:
        the scores of one image after another.
    """
    rng = np.random.default_rng(seed)
    for example in examples:
        embedding = predictor.encode(example.image)
        objects = [mask for _, mask in from_label_map(example.labels) if mask.sum() >= MIN_AREA]
        kind = kind_of(example.image)
        scores = []
        for prompt in prompts:
            for start in range(0, len(objects), CHUNK):
                chunk = objects[start : start + CHUNK]
                if prompt == "box":
                    # A label's last pixel is part of it, so the box ends at that pixel's far edge.
                    boxes = [box_xyxy(mask) for mask in chunk]
                    answers = predictor.segment_batch(
                        embedding, boxes=boxes, multimask_output=False
                    )
                else:
                    points = [
                        [deepest_point(m) if prompt == "click" else _random_point(m, rng)]
                        for m in chunk
                    ]
                    labels = np.ones((len(chunk), 1))
                    answers = predictor.segment_batch(embedding, points, labels)
                scores += [
                    _score(example.name, kind, prompt, answer, mask)
                    for answer, mask in zip(answers, chunk, strict=True)
                ]
        yield scores


def _random_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    ys, xs = np.nonzero(mask)
    i = rng.integers(len(xs))
    return int(xs[i]), int(ys[i])


def _score(image: str, kind: str, prompt: str, answer: Masks, mask: np.ndarray) -> ObjectScore:
    return ObjectScore(
        image=image,
        kind=kind,
        prompt=prompt,
        iou=iou(answer.best, mask),
        predicted_iou=float(answer.iou_predictions[answer.best_index]),
    )


def summary(scores: list[ObjectScore]) -> dict[str, dict[str, float]]:
    """Mean figures: {kind or "all": {prompt: mean IoU, ..., "objects": n, "iou error": ...}}.

    "iou error" is the mean absolute difference of predicted and true IoU over all prompts.
    """
    table = {}
    for kind in ["all", *sorted({s.kind for s in scores})]:
        rows = [s for s in scores if kind in ("all", s.kind)]
        figures: dict[str, float] = {}
        for prompt in dict.fromkeys(s.prompt for s in rows):
            figures[prompt] = float(np.mean([s.iou for s in rows if s.prompt == prompt]))
            figures["objects"] = sum(s.prompt == prompt for s in rows)
        figures["iou error"] = float(np.mean([abs(s.iou - s.predicted_iou) for s in rows]))
        table[kind] = figures
    return table


def format_table(table: dict[str, dict[str, float]]) -> str:
    """`summary` as a Markdown table."""
    columns = list(table["all"])
    lines = [f"| images | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for kind, figures in table.items():
        cells = [f"{figures[c]:.0f}" if c == "objects" else f"{figures[c]:.3f}" for c in columns]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)
