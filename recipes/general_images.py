"""Draw what a model does with four of scikit-image's images.

    python recipes/general_images.py microscopy docs/images/general.png

One row per image: clicks and boxes that were chosen by hand, then everything mode.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import skimage
import typer
from PIL import Image

import samlet
from samlet.cli.demo import side_by_side
from samlet.outputs import overlay
from samlet.utils.files import atomic_path


class Prompts(NamedTuple):
    """The prompts of an image: clicks (x, y) and boxes (x0, y0, x1, y1), in its pixels."""

    points: tuple[tuple[int, int], ...]
    boxes: tuple[tuple[int, int, int, int], ...]


PICTURES = {
    "coins": Prompts(
        ((45, 54), (157, 50), (271, 120), (348, 187)), ((25, 178, 62, 217), (316, 157, 380, 219))
    ),
    "cell": Prompts(((427, 375),), ((355, 303, 499, 447),)),
    "astronaut": Prompts(
        ((220, 110), (403, 447), (417, 91)), ((157, 16, 294, 181), (131, 343, 203, 415))
    ),
    "coffee": Prompts(((291, 158), (118, 205), (365, 287)), ((173, 19, 402, 213),)),
}
HEIGHT = 300


def main(
    model: Annotated[str, typer.Argument(help="A name, or a checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The PNG file to write.")],
) -> None:
    """Draw one row per image: prompts with their masks, everything mode."""
    loaded = samlet.load(model)
    predictor = samlet.Predictor(loaded)
    rows = []
    for name, prompts in PICTURES.items():
        image = samlet.images.to_rgb(getattr(skimage.data, name)())
        embedding = predictor.encode(image)
        clicked = [predictor.segment(embedding, [point], [1]).best for point in prompts.points]
        boxed = [
            predictor.segment(embedding, box=box, multimask_output=False).best
            for box in prompts.boxes
        ]
        found = [record["segmentation"] for record in samlet.segment_everything(predictor, image)]
        print(f"{name}: {len(found)} masks in everything mode")
        rows.append(
            side_by_side(
                [
                    overlay(image, clicked, points=prompts.points),
                    overlay(image, boxed, boxes=prompts.boxes),
                    overlay(image, found),
                ]
            )
        )
    width = max(row.shape[1] * HEIGHT // row.shape[0] for row in rows)
    rows = [_of_width(row, width) for row in rows]
    with atomic_path(out) as path:
        Image.fromarray(np.concatenate(rows)).save(path)


def _of_width(row: np.ndarray, width: int) -> np.ndarray:
    """Scale a row to `HEIGHT`, and pad it with white to a width."""
    scaled = Image.fromarray(row).resize((row.shape[1] * HEIGHT // row.shape[0], HEIGHT))
    padded = np.full((HEIGHT + 6, width, 3), 255, np.uint8)
    padded[:HEIGHT, : scaled.width] = np.asarray(scaled)
    return padded


if __name__ == "__main__":
    typer.run(main)
