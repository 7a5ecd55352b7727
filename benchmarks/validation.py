"""The images of BBBC038 that the bundled model was never trained on."""

from pathlib import Path

LIST = Path(__file__).parents[1] / "recipes" / "nuclei-validation.txt"


def names() -> list[str]:
    """Names of the images without suffix, in the order of the list."""
    return [line for line in LIST.read_text().splitlines() if line and line[0] != "#"]


def spread(count: int) -> set[str]:
    """About this many of the names, evenly spread over the list."""
    all_names = names()
    return set(all_names[:: max(1, len(all_names) // count)][:count])
