"""What the scripts that take the guides' pictures share."""

from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parents[1] / "docs" / "images"
COLOURS = 256


def make_small(path: Path, colours: int = COLOURS) -> None:
    """Reduce a screenshot, a PNG, to few colours."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
