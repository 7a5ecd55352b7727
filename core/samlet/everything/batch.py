"""Everything mode over many image files: progress, skipping finished ones, resuming."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.progress import Progress, TaskID

from samlet.errors import UserError
from samlet.outputs.results import (
    check_owner,
    image_source,
    is_done,
    read_results,
    write_results,
)
from samlet.utils.messages import pluralize
from samlet.utils.prefetch import prefetch


class StackFile(NamedTuple):
    """A file with several slices.

    Attributes:
        path: the file.
        folder: where its results go.
        info: how they are made.
    """

    path: Path
    folder: Path
    info: dict[str, Any]


class Examples(NamedTuple):
    """Objects of an image to which others are to be alike.

    Attributes:
        masks: bool, H x W each.
        digest: changes with them.
    """

    masks: Sequence[np.ndarray]
    digest: str


@dataclass
class Outcome:
    """How a batch ended.

    Attributes:
        skipped: number of images that the same model and settings had finished before.
        kept: images whose results hold objects made by prompts, and were not replaced.
        failed: one sentence per image that could not be read, or whose results could not.
        stacks: files that are stacks and were left out, for `samlet.stacks.batch.segment_stacks`.
    """

    skipped: int = 0
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stacks: list[StackFile] = field(default_factory=list)


def segment_images(
    paths: Sequence[Path],
    folders: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    segment: Callable[..., list[dict[str, Any]]],
    info: Mapping[str, Any],
    progress: Progress,
    replace: bool = False,
    is_stack: Callable[[Path], bool] = lambda path: False,
    read_examples: Callable[[Path], Examples] | None = None,
) -> Outcome:
    """Find all objects of each image and write them; see `samlet.outputs.results.write_results`.

    While one image is segmented, a thread reads the next, and another writes the previous one.

    Args:
        paths: the images.
        folders: for each, where its results go.
        read: from a path to RGB uint8, H x W x 3; raises UserError for a bad file.
        segment: from an image, with `progress=` as in `samlet.segment_everything`, to its records.
        info: model and settings; images with such results of the same file are skipped.
        progress: gets a task that advances within an image as well.
        replace: write over results that hold objects made by prompts, too.
        is_stack: whether a file is left out as a stack; raises UserError for a bad file.
        read_examples: from a path to what `segment` gets as `examples=`; raises UserError if there
            are none that can be used.

    Raises:
        UserError: results cannot be written.
    """
    outcome = Outcome()
    task = progress.add_task("", total=len(paths))
    places = list(zip(paths, folders, strict=True))

    def load(
        place: tuple[Path, Path],
    ) -> _Loaded | StackFile | UserError | Literal["done", "kept"]:
        path, folder = place
        try:
            source = image_source(path)
            own = {**info, **source}
            if is_stack(path):
                return StackFile(path, folder, own)
            arguments: dict[str, Any] = {}
            if read_examples is not None:
                examples = read_examples(path)
                own["examples"] = examples.digest
                arguments["examples"] = examples.masks
            before = None if replace else read_results(folder, path)
            if before is not None and is_done(folder, path, before, own):
                return "done"
            if before is not None:
                check_owner(before.info, source, path, folder)
            if before is not None and before.info.get("prompts"):
                return "kept"
            return _Loaded(path, folder, read(path), own, arguments)
        except UserError as error:
            return error

    def find() -> Iterator[tuple[_Loaded, list[dict[str, Any]]]]:
        images = prefetch(places, load, threads=1, depth=2)
        for number, ((path, _), image) in enumerate(zip(places, images, strict=True)):
            progress.update(task, completed=number, description=path.name)
            if image == "done":
                outcome.skipped += 1
            elif image == "kept":
                outcome.kept.append(str(path))
            elif isinstance(image, StackFile):
                outcome.stacks.append(image)
            elif isinstance(image, UserError):
                outcome.failed.append(str(image))
            else:
                advance = _advance(progress, task, number)
                yield image, segment(image.pixels, progress=advance, **image.arguments)

    def write(found: tuple[_Loaded, list[dict[str, Any]]]) -> None:
        (path, folder, pixels, own, _), records = found
        write_results(folder, path, pixels, records, own)
        progress.console.print(f"{path.name}: {pluralize(len(records), 'object')}")

    for _ in prefetch(find(), write, threads=1, depth=2):
        pass
    # Stacks get a bar of their own each.
    progress.update(task, completed=len(paths), visible=len(outcome.stacks) < len(paths))
    return outcome


class _Loaded(NamedTuple):
    """An image to segment, where its results go, how they are made, and further arguments."""

    path: Path
    folder: Path
    pixels: np.ndarray
    info: dict[str, Any]
    arguments: dict[str, Any]


def _advance(progress: Progress, task: TaskID, number: int) -> Callable[[float], None]:
    return lambda share: progress.update(task, completed=number + share)
