"""Everything mode over many images: progress, skipping what is done, going on after a bad file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress, TaskID

from samlet.errors import UserError
from samlet.everything import SamAutomaticMaskGenerator
from samlet.results import is_done, write_results


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
    generator: SamAutomaticMaskGenerator,
    info: Mapping[str, Any],
    progress: Progress,
) -> Outcome:
    """Find all masks of each image and write them; see `samlet.results.write_results`.

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
    for number, (path, folder) in enumerate(zip(paths, folders, strict=True)):
        progress.update(task, completed=number, description=path.name)
        if is_done(folder, path, info):
            outcome.skipped += 1
            continue
        try:
            image = read(path)
        except UserError as error:
            outcome.unreadable.append(str(error))
            continue
        records = generator.generate(image, progress=_advance(progress, task, number))
        write_results(folder, path, image, records, info)
        progress.console.print(f"{path.name}: {len(records)} objects")
    progress.update(task, completed=len(paths))
    return outcome


def _advance(progress: Progress, task: TaskID, number: int) -> Callable[[float], None]:
    return lambda share: progress.update(task, completed=number + share)
