"""`samlet demo`: the bundled model on the bundled images, in pictures beside the ground truth."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from samlet import images, samples
from samlet.checkpoints.loading import load
from samlet.everything.segment import segment_everything
from samlet.masks import box_xyxy, deepest_point, from_label_map, from_rle, iou
from samlet.outputs import overlay, read_label_map
from samlet.predict.predictor import Predictor
from samlet.utils.files import atomic_path

CLICKS = 8
"""Objects per image that are clicked on, spread evenly over their sizes."""


def run(out: Path) -> None:
    """Segment objects by clicks, by boxes and in everything mode.

    Args:
        out: folder for one picture per image: clicks, boxes, everything, ground truth.

    Raises:
        UserError: the folder cannot be written.
    """
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    started = time.perf_counter()
    model = load("microscopy")
    predictor = Predictor(model)
    console.print(f"Model microscopy loaded in {time.perf_counter() - started:.1f} s")
    for name in samples.NAMES:
        _show(name, predictor, out, console)
    console.print(
        f"Done in {time.perf_counter() - started:.0f} s. Look at the pictures in {out}: "
        "image, clicks, boxes, everything, ground truth."
    )


def _show(name: str, predictor: Predictor, out: Path, console: Console) -> None:
    image = images.read(samples.IMAGES / f"{name}.png")
    truth = [m for _, m in from_label_map(read_label_map(samples.LABELS / f"{name}.png"))]
    chosen = _spread(truth, CLICKS)
    points = [deepest_point(mask) for mask in chosen]
    boxes = [box_xyxy(mask) for mask in chosen]

    began = time.perf_counter()
    embedding = predictor.encode(image)
    encoded = time.perf_counter()
    clicked = [predictor.segment(embedding, [point], [1]).best for point in points]
    click_seconds = (time.perf_counter() - encoded) / len(points)
    boxed = [predictor.segment(embedding, box=b, multimask_output=False).best for b in boxes]
    console.print(
        f"{name}: {image.shape[1]} x {image.shape[0]}, encoded in {encoded - began:.2f} s, "
        f"{click_seconds * 1e3:.0f} ms per click\n"
        f"  IoU of clicks {_formatted_ious(clicked, chosen)}, mean of the boxes "
        f"{np.mean([iou(a, b) for a, b in zip(boxed, chosen, strict=True)]):.2f}"
    )

    began = time.perf_counter()
    found = [from_rle(one["segmentation"]) for one in segment_everything(predictor, image)]
    seconds = time.perf_counter() - began
    matched = sum(any(iou(mask, one) >= 0.5 for one in found) for mask in truth)
    console.print(
        f"  everything: {len(found)} masks in {seconds:.1f} s; "
        f"{matched} of {len(truth)} objects found (IoU at least 0.5)"
    )
    bright = stretched(image)
    panels = [
        bright,
        overlay(bright, clicked, points=points),
        overlay(bright, boxed, boxes=boxes),
        overlay(bright, found),
        overlay(bright, truth),
    ]
    with atomic_path(out / f"{name}.png") as path:
        Image.fromarray(side_by_side(panels)).save(path)


def _spread(masks: list[np.ndarray], count: int) -> list[np.ndarray]:
    by_size = sorted(masks, key=np.count_nonzero)
    steps = np.linspace(len(by_size) * 0.1, len(by_size) - 1, count).round().astype(int)
    return [by_size[i] for i in dict.fromkeys(steps.tolist())]


def _formatted_ious(predicted: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> str:
    scores = [iou(a, b) for a, b in zip(predicted, truth, strict=True)]
    return f"{' '.join(f'{s:.2f}' for s in scores)}, mean {np.mean(scores):.2f}"


def stretched(image: np.ndarray) -> np.ndarray:
    """Brighten a dark image for display: uint8, H x W x 3. The model gets it as it is."""
    return images.to_rgb(image.astype(np.float32), percentiles=(0.5, 99.5))


def side_by_side(panels: list[np.ndarray], gap: int = 6) -> np.ndarray:
    """Join pictures of one size, uint8 H x W x 3, with white gaps."""
    height = panels[0].shape[0]
    white = np.full((height, gap, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, white)]
    return np.concatenate(parts[:-1], axis=1)
