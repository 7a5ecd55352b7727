"""Everything mode over many images: progress, skipping what is done, going on after a bad file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress, TaskID

from samlet.ahead import ahead
from samlet.errors import UserError
from samlet.results import is_done, write_results
from samlet.tiles import TiledMaskGenerator


@dataclass
class Outcome:
    """What became of the images.

    Attributes:
        skipped: how many the same model and settings had done before.
        unreadable: one sentence for each image that could not be read.
    """

    skipped: int = 0
    unreadable: list[str] = field(default_factory=list)


def segment_images(
    paths: Sequence[Path],
    folders: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    generator: TiledMaskGenerator,
    info: Mapping[str, Any],
    progress: Progress,
) -> Outcome:
    """Find all masks of each image and write them; see `samlet.results.write_results`.

    While one image is worked on, a thread reads the next, and another writes the one before.

    Args:
        paths: the images.
        folders: for each, where its results go.
        read: from a path to RGB uint8, H x W x 3; raises UserError for a bad file.
        generator: everything mode.
        info: model and settings; images whose results name the same are skipped.
        progress: gets a task that advances within an image as well.

    Raises:
        UserError: results cannot be written.
    """
    outcome = Outcome()
    task = progress.add_task("", total=len(paths))
    places = list(zip(paths, folders, strict=True))

    def load(place: tuple[Path, Path]) -> np.ndarray | UserError | None:
        path, folder = place
        if is_done(folder, path, info):
            return None
        try:
            return read(path)
        except UserError as error:
            return error

    def find() -> Iterator[tuple[Path, Path, np.ndarray, list[dict[str, Any]]]]:
        images = ahead(places, load, threads=1, depth=2)
        for number, ((path, folder), image) in enumerate(zip(places, images, strict=True)):
            progress.update(task, completed=number, description=path.name)
            if image is None:
                outcome.skipped += 1
            elif isinstance(image, UserError):
                outcome.unreadable.append(str(image))
            else:
                advance = _advance(progress, task, number)
                yield path, folder, image, generator.generate(image, progress=advance)

    def write(found: tuple[Path, Path, np.ndarray, list[dict[str, Any]]]) -> None:
        path, folder, image, records = found
        write_results(folder, path, image, records, info)
        progress.console.print(f"{path.name}: {len(records)} objects")

    for _ in ahead(find(), write, threads=1, depth=2):
        pass
    progress.update(task, completed=len(paths))
    return outcome


def _advance(progress: Progress, task: TaskID, number: int) -> Callable[[float], None]:
    return lambda share: progress.update(task, completed=number + share)
