"""Masks of many image files: progress, skipping finished ones, resuming."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.progress import Progress, TaskID

from samlet.errors import UserError
from samlet.outputs.further_formats import name_in_format
from samlet.outputs.results import (
    COCO_SUFFIX,
    Results,
    add_formats,
    check_owner,
    further_formats,
    has_prompts,
    image_source,
    is_done,
    read_earlier,
    write_results,
)
from samlet.storage.locations import Location
from samlet.storage.staging import StagedImage, staged_image
from samlet.utils.messages import pluralize
from samlet.utils.prefetch import prefetch


class StackFile(NamedTuple):
    """A file with several slices.

    Attributes:
        path: the file.
        folder: where its results go.
        info: how they are made.
    """

    path: Location
    folder: Location
    info: dict[str, Any]


class ImageInput(NamedTuple):
    """What the segmentation of an image takes beside its pixels.

    Attributes:
        arguments: of `segment`, by name.
        info: what tells how they were chosen; results with other values are not finished.
    """

    arguments: dict[str, Any]
    info: dict[str, Any]


class ImageResult(NamedTuple):
    """What became of an image.

    Attributes:
        status: "found", "done" before by the same model and settings, "kept" since there are other
            results that are not to be replaced, or "failed".
        message: "found": what is printed of it; "kept": its name; "failed": why, in a sentence.
        formats: further ones in which it was written now.
    """

    status: Literal["found", "done", "kept", "failed"]
    message: str = ""
    formats: Sequence[str] = ()


@dataclass
class Outcome:
    """How a batch ended.

    Attributes:
        skipped: number of images that the same model and settings had finished before.
        kept: images with other results that are not to be replaced.
        failed: one sentence per image that could not be read or segmented, or whose results could
            not be read.
        stacks: files that are stacks and were left out, for `samlet.stacks.batch.segment_stacks`.
        formats: further ones in which images are written now, also because they were before.
    """

    skipped: int = 0
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stacks: list[StackFile] = field(default_factory=list)
    formats: set[str] = field(default_factory=set)

    def add(self, result: ImageResult | StackFile) -> None:
        """Count what became of an image."""
        if isinstance(result, StackFile):
            self.stacks.append(result)
            return
        self.skipped += result.status == "done"
        self.formats.update(result.formats)
        if result.status in ("kept", "failed"):
            (self.kept if result.status == "kept" else self.failed).append(result.message)


class LoadedImage(NamedTuple):
    """An image to segment.

    Attributes:
        path: the file, as it was given.
        here: the file and the folder of its results on this machine.
        staging: closing it takes the results to their place.
        pixels: RGB uint8, H x W x 3.
        info: how the results are made.
        arguments: further ones of `segment`.
    """

    path: Location
    here: StagedImage
    staging: ExitStack
    pixels: np.ndarray
    info: dict[str, Any]
    arguments: dict[str, Any]


class ImageBatch:
    """What is done with each image of a batch: `load`, `find`, `write`, from any threads.

    Args:
        read: from a path to RGB uint8, H x W x 3; raises UserError for a bad file.
        segment: from an image, with `progress=` as in `samlet.segment_everything`, to its records.
        info: model and settings; images with such results of the same file are skipped.
        replace: write over all results.
        is_stack: whether a file is left out as a stack; raises UserError for a bad file.
        prepare: gives what `segment` takes beside an image, which it gets as it was given and as a
            file on this machine; raises UserError if it cannot be used.
        is_kept: whether results that differ are not replaced; by default those that hold objects
            made by prompts.
        categories: see `samlet.outputs.write_coco`.
        formats: further ones, see `samlet.outputs.further_formats`; finished images get them
            without being segmented again.
    """

    def __init__(
        self,
        read: Callable[[Path], np.ndarray],
        segment: Callable[..., list[dict[str, Any]]],
        info: Mapping[str, Any],
        replace: bool = False,
        is_stack: Callable[[Path], bool] = lambda path: False,
        prepare: Callable[[Location, Path], ImageInput] | None = None,
        is_kept: Callable[[Results], bool] = has_prompts,
        categories: Sequence[str] = (),
        formats: Sequence[str] = (),
    ) -> None:
        self.formats = formats
        self._read = read
        self._segment = segment
        self._info = info
        self._replace = replace
        self._is_stack = is_stack
        self._prepare = prepare
        self._is_kept = is_kept
        self._categories = categories

    def load(self, path: Location, folder: Location) -> LoadedImage | StackFile | ImageResult:
        """Read an image, unless it is a stack, is done, or cannot be used.

        Args:
            path: the file.
            folder: where its results go.
        """
        also = [name_in_format(name, path) for name in self.formats]
        try:
            with ExitStack() as staging:
                here = staging.enter_context(staged_image(path, folder, also, (COCO_SUFFIX,)))
                source = image_source(here.path, here.origin)
                own = {**self._info, **source}
                if self._is_stack(here.path):
                    return StackFile(path, folder, own)
                more = ImageInput({}, {})
                if self._prepare is not None:
                    more = self._prepare(path, here.path)
                own |= more.info
                before = read_earlier(here.folder, here.path, self._replace)
                own |= further_formats(self.formats, before)
                before = None if self._replace else before
                if before is not None and is_done(here.folder, here.path, before, own):
                    add_formats(here.folder, here.path, before, self.formats, self._categories)
                    return ImageResult("done")
                if before is not None:
                    check_owner(before.info, source, here.path, here.folder)
                if before is not None and self._is_kept(before):
                    return ImageResult("kept", str(path))
                pixels = self._read(here.path)
                return LoadedImage(path, here, staging.pop_all(), pixels, own, more.arguments)
        except UserError as error:
            return ImageResult("failed", str(error))

    def find(
        self, image: LoadedImage, progress: Callable[[float], None]
    ) -> list[dict[str, Any]] | ImageResult:
        """Segment an image; a result if that fails."""
        try:
            return self._segment(image.pixels, progress=progress, **image.arguments)
        except UserError as error:
            image.staging.close()
            return ImageResult("failed", f"{image.path}: {error}")

    def write(self, image: LoadedImage, records: list[dict[str, Any]]) -> ImageResult:
        """Write an image's results.

        Raises:
            UserError: they cannot be written.
        """
        with image.staging:
            path, folder, _ = image.here
            write_results(folder, path, image.pixels, records, image.info, self._categories)
        found = f"{image.path.name}: {pluralize(len(records), 'object')}"
        return ImageResult("found", found, image.info.get("also", ()))


def segment_images(
    paths: Sequence[Location],
    folders: Sequence[Location],
    batch: ImageBatch,
    progress: Progress,
) -> Outcome:
    """Find objects of each image and write them; see `samlet.outputs.results.write_results`.

    While one image is segmented, a thread reads the next, and another writes the previous one.

    Args:
        paths: the images.
        folders: for each, where its results go.
        batch: does it.
        progress: gets a task that advances within an image as well.

    Raises:
        UserError: results cannot be written.
    """
    outcome = Outcome(formats={*batch.formats})
    task = progress.add_task("", total=len(paths))
    places = list(zip(paths, folders, strict=True))

    def find() -> Iterator[tuple[LoadedImage, list[dict[str, Any]]]]:
        images = prefetch(places, lambda place: batch.load(*place), threads=1, depth=2)
        for number, ((path, _), image) in enumerate(zip(places, images, strict=True)):
            progress.update(task, completed=number, description=path.name)
            if not isinstance(image, LoadedImage):
                outcome.add(image)
                continue
            found = batch.find(image, _advance(progress, task, number))
            if isinstance(found, ImageResult):
                outcome.add(found)
            else:
                yield image, found

    def write(found: tuple[LoadedImage, list[dict[str, Any]]]) -> ImageResult:
        result = batch.write(*found)
        progress.console.print(result.message)
        return result

    for result in prefetch(find(), write, threads=1, depth=2):
        outcome.add(result)
    # Stacks get a bar of their own each.
    progress.update(task, completed=len(paths), visible=len(outcome.stacks) < len(paths))
    return outcome


def _advance(progress: Progress, task: TaskID, number: int) -> Callable[[float], None]:
    return lambda share: progress.update(task, completed=number + share)
