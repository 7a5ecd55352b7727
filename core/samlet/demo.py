"""The demonstration: bundled images, the bundled model, pictures beside the ground truth."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from samlet import images, samples
from samlet.checkpoints import load
from samlet.everything import SamAutomaticMaskGenerator, default_settings
from samlet.files import atomic_path
from samlet.masks import box_xyxy, deepest_point, from_label_map, iou
from samlet.outputs import read_label_map
from samlet.overlay import overlay
from samlet.predictor import Predictor

CLICKS = 8
"""Objects that are clicked on in each image: the largest would be too easy, so evenly by size."""

EVERYTHING = ("fluorescence_2", "fluorescence_3", "stained_2")


def run(out: Path) -> None:
    """Click on objects, draw a box around them, and let everything mode find them.

    Args:
        out: folder for one picture an image: clicks, boxes, everything (for some), ground truth.

    Raises:
        UserError: the folder cannot be written.
    """
    console = Console(soft_wrap=True, highlight=False)
    started = time.perf_counter()
    model = load("nuclei")
    predictor = Predictor(model)
    generator = SamAutomaticMaskGenerator(model, **default_settings(model))
    console.print(f"Model nuclei loaded in {time.perf_counter() - started:.1f} s")
    table = Table("image", "pixels", "encode", "a click", "IoU of each click", "box", "everything")
    for name in samples.NAMES:
        image = images.read(samples.IMAGES / f"{name}.png")
        truth = [m for _, m in from_label_map(read_label_map(samples.LABELS / f"{name}.png"))]
        chosen = _spread(truth, CLICKS)

        began = time.perf_counter()
        embedding = predictor.encode(image)
        encode_time = time.perf_counter() - began
        points = [deepest_point(mask) for mask in chosen]
        began = time.perf_counter()
        clicked = [predictor.segment(embedding, [point], [1]).best for point in points]
        click_time = (time.perf_counter() - began) / len(chosen)
        boxes = [box_xyxy(mask) for mask in chosen]
        boxed = [predictor.segment(embedding, box=b, multimask_output=False).best for b in boxes]

        shown = stretched(image)
        panels = [
            overlay(shown, clicked, points=points),
            overlay(shown, boxed, boxes=boxes),
            overlay(shown, truth),
        ]
        everything_told = ""
        if name in EVERYTHING:
            began = time.perf_counter()
            records = generator.generate(image)
            everything_time = time.perf_counter() - began
            everything_told = f"{len(records)} of {len(truth)}, {everything_time:.1f} s"
            panels.insert(2, overlay(shown, [record["segmentation"] for record in records]))
        with atomic_path(out / f"{name}.png") as path:
            Image.fromarray(side_by_side([shown, *panels])).save(path)
        table.add_row(
            name,
            f"{image.shape[1]} x {image.shape[0]}",
            f"{encode_time * 1e3:.0f} ms",
            f"{click_time * 1e3:.0f} ms",
            _told(clicked, chosen),
            f"{np.mean([iou(a, b) for a, b in zip(boxed, chosen, strict=True)]):.2f}",
            everything_told,
        )
    console.print(table)
    console.print(
        f"Done in {time.perf_counter() - started:.0f} s. Look at the pictures in {out}: "
        "image, clicks, boxes, everything (where made), ground truth."
    )


def _spread(masks: list[np.ndarray], count: int) -> list[np.ndarray]:
    by_size = sorted(masks, key=np.count_nonzero)
    steps = np.linspace(len(by_size) * 0.1, len(by_size) - 1, count).round().astype(int)
    return [by_size[i] for i in dict.fromkeys(steps.tolist())]


def _told(predicted: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> str:
    scores = [iou(a, b) for a, b in zip(predicted, truth, strict=True)]
    return (
        f"{' '.join(f'{s:.2f}'[1:] if s < 1 else '1' for s in scores)}  mean {np.mean(scores):.2f}"
    )


def stretched(image: np.ndarray) -> np.ndarray:
    """Brighten a dark image for people's eyes; the model sees it as it is. uint8, H x W x 3."""
    return images.to_rgb(image.astype(np.float32), percentiles=(0.5, 99.5))


def side_by_side(panels: list[np.ndarray], gap: int = 6) -> np.ndarray:
    """Join pictures of one size, uint8 H x W x 3, with white gaps."""
    height = panels[0].shape[0]
    white = np.full((height, gap, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, white)]
    return np.concatenate(parts[:-1], axis=1)
