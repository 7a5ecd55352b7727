"""The images of BBBC038 that the bundled model was never trained on."""

from pathlib import Path

LIST = Path(__file__).parents[1] / "recipes" / "nuclei-validation.txt"


def names() -> list[str]:
    """Names of the images without their suffix, in the order of the list."""
    return [line for line in LIST.read_text().splitlines() if line and line[0] != "#"]


def spread(count: int) -> set[str]:
    """About so many of the names, evenly spread over the list."""
    every = names()
    return set(every[:: max(1, len(every) // count)][:count])
