"""Draw a sheet of scenes with the outlines of their objects, to look at.

    python -m recipes.scenes.sheet sheet.jpg --sprites data/sprites

With `--width 230 --seed 191` it is docs/developers/synthetic-scenes.jpg.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from skimage.segmentation import find_boundaries

from recipes.scenes.dataset import STYLES, Scenes, draw_scene
from samlet.outputs.drawing import colours
from samlet.utils.console import run_app
from samlet.utils.files import atomic_path

JPEG_QUALITY = 80

app = typer.Typer(add_completion=False)


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image with a coloured outline of each object: uint8, H x W x 3.

    Args:
        image: uint8, H x W x 3.
        labels: int32, L x H x W.
    """
    drawn = image.copy()
    palette = colours(int(labels.max()) + 1)
    for layer in labels:
        edge = find_boundaries(layer, mode="inner")
        drawn[edge] = palette[layer[edge]]
    return drawn


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="The picture to write, .jpg or .png.")],
    sprites: Annotated[
        Path | None, typer.Option(help="Folder of rendered objects; none for outlines only.")
    ] = None,
    count: Annotated[int, typer.Option(help="Number of scenes.")] = 20,
    columns: Annotated[int, typer.Option(help="Scenes per row.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
    style: Annotated[str | None, typer.Option(help=f"One of {', '.join(STYLES)}.")] = None,
    width: Annotated[int, typer.Option(help="Of one scene on the sheet, pixels.")] = 320,
    plain: Annotated[bool, typer.Option("--plain", help="Without outlines.")] = False,
) -> None:
    """Draw a sheet of scenes with the outlines of their objects."""
    scenes = Scenes(sprites, count=count, seed=seed)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * width, rows * width))
    for number in range(count):
        if style is None:
            image, labels = scenes[number].image, scenes[number].labels
        else:
            rng = np.random.default_rng((seed, number))
            image, labels = draw_scene(rng, style, (scenes.side,) * 2, scenes.sprites)
        drawn = Image.fromarray(image if plain else outlined(image, labels))
        place = (number % columns * width, number // columns * width)
        sheet.paste(drawn.resize((width, width), Image.Resampling.LANCZOS), place)
    with atomic_path(out) as path:
        sheet.save(path, quality=JPEG_QUALITY)


if __name__ == "__main__":
    run_app(app)
