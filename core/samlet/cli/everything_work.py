"""What `samlet everything` does with each image, in this process or in workers on Ray."""

import io
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from rich.console import Console
from rich.progress import Progress

import samlet
from samlet import Predictor, images
from samlet.cli.common import parse_channels
from samlet.cli.example_objects import Examples
from samlet.cluster.run import RayRun, check_same_model, died_message
from samlet.cluster.workers import Died
from samlet.everything.batch import ImageBatch, ImageResult, Outcome, StackFile
from samlet.everything.segment import open_generator, segment_everything
from samlet.everything.settings import EverythingSettings, complete_settings
from samlet.everything.similar import segment_similar, similar_settings
from samlet.images.listing import ImageList
from samlet.images.stacks import ImageStack, parse_axis
from samlet.modeling.fingerprint import model_fingerprint
from samlet.stacks.batch import segment_stacks
from samlet.storage.locations import Location

Check = Callable[[], None]
Result = ImageResult | StackFile


class OpenedWork(NamedTuple):
    """With the model in memory.

    Attributes:
        predictor: with the model.
        batch: segments single images.
        segment: see `ImageBatch`.
        open_stack: see `samlet.stacks.batch.segment_stacks`.
        info: how results are made.
    """

    predictor: Predictor
    batch: ImageBatch
    segment: Callable[..., list[dict[str, Any]]]
    open_stack: Callable[[Path], ImageStack]
    info: dict[str, Any]


@dataclass(frozen=True)
class EverythingWork:
    """The options of `samlet everything`, which see, as they were given.

    Attributes:
        settings: those of everything mode that were given, by their names in Python.
        examples: those of --like; None without.
    """

    model: str
    engine: str
    precision: str
    settings: dict[str, Any]
    tile: int | None
    overlap: int | None
    examples: Examples | None
    likeness: float
    channels: str | None
    axis: str
    max_pixels: int
    replace: bool
    out: Location
    categories: list[str]
    formats: list[str]

    def open(self, device: str = "cpu") -> OpenedWork:
        """Load the model.

        Args:
            device: where it runs.

        Raises:
            UserError: there is no such model, or the settings are wrong.
        """
        model = samlet.load(self.model, device)
        predictor = samlet.Predictor(model, self.engine, precision=self.precision)
        given = cast(EverythingSettings, self.settings)
        tiling: dict[str, Any] = {"tile": self.tile, "overlap": self.overlap}
        segment: Callable[..., list[dict[str, Any]]]
        if self.examples is None:
            settings = complete_settings(model, given)
            # Wrong settings are refused before the first image is read.
            open_generator(predictor, self.tile, self.overlap, **settings)
            segment = partial(segment_everything, predictor, **tiling, **settings)
        else:
            settings = similar_settings(model, given)
            settings["likeness"] = self.likeness
            segment = partial(
                segment_similar, predictor, likeness=self.likeness, **tiling, **self.settings
            )
        info = {
            "model": self.model,
            "weights": model_fingerprint(model),
            "precision": predictor.engine.precision,
            "settings": settings | tiling,
            "channels": self.channels,
        }
        axis, channels = parse_axis(self.axis), parse_channels(self.channels)
        batch = ImageBatch(
            partial(images.read, channels=channels, max_pixels=self.max_pixels),
            segment,
            info,
            self.replace,
            partial(images.is_stack, axis=axis, channels=channels),
            None if self.examples is None else self.examples.read,
            categories=self.categories,
            formats=self.formats,
        )
        open_stack = partial(
            images.open_stack, axis=axis, channels=channels, max_pixels=self.max_pixels
        )
        return OpenedWork(predictor, batch, segment, open_stack, info)


@dataclass(frozen=True)
class EverythingWorker:
    """Segments images in a worker; is sent there, and then opened.

    Attributes:
        work: the options.
        weights: of the model where the run was started.
    """

    work: EverythingWork
    weights: str

    def open(self, device: str) -> "Callable[[tuple[Location, Location], Check], list[Result]]":
        """Load the model; see `samlet.cluster.run.RayRun`."""
        opened = self.work.open(device)
        check_same_model(self.weights, opened.info["weights"])
        computing = threading.Lock()

        def segment(place: tuple[Location, Location], check: Check) -> list[Result]:
            loaded = opened.batch.load(*place)
            if isinstance(loaded, ImageResult):
                return [loaded]
            if isinstance(loaded, StackFile):
                is_refused = self.work.examples is not None
                with computing:
                    return [loaded] if is_refused else self._segment_stack(opened, loaded, check)
            # Other threads of this worker read the next image and write the previous one.
            with computing:
                found = opened.batch.find(loaded, lambda share: check())
            return [found if isinstance(found, ImageResult) else opened.batch.write(loaded, found)]

        return segment

    def _segment_stack(self, opened: OpenedWork, stack: StackFile, check: Check) -> list[Result]:
        def segment(image: np.ndarray, progress: Callable[[float], None]) -> list[dict[str, Any]]:
            return opened.segment(image, progress=lambda share: check())

        outcome = Outcome(stacks=[stack])
        messages = io.StringIO()
        plain = Console(file=messages, highlight=False, markup=False, emoji=False, soft_wrap=True)
        silent = Progress(console=plain, disable=True)
        segment_stacks(outcome, opened.open_stack, segment, silent, self.work.replace)
        if outcome.failed:
            return [stack, ImageResult("failed", outcome.failed[0])]
        if outcome.skipped:
            return [stack, ImageResult("done")]
        return [stack, ImageResult("found", messages.getvalue().strip())]


def segment_on_ray(
    work: EverythingWork, opened: OpenedWork, images: ImageList, run: RayRun, progress: Progress
) -> Outcome:
    """Segment images in workers, stacks among them as well.

    Args:
        work: the options.
        opened: the same, with the model in this process.
        images: the images.
        run: the workers.
        progress: gets a task.

    Raises:
        UserError: no worker can work, or results cannot be written.
    """
    outcome = Outcome(formats={*opened.batch.formats})
    fixed = replace(work, **run.choices(opened.predictor, work.engine))
    worker = EverythingWorker(fixed, opened.info["weights"])
    places = list(zip(*images, strict=True))
    first = images.paths[0]
    with closing(run.process(worker, places, first, work.out, progress, "Segmenting")) as made:
        for (path, _), results in made:
            if isinstance(results, Died):
                results = [ImageResult("failed", died_message(path, results))]
            for result in results:
                outcome.add(result)
                if isinstance(result, ImageResult) and result.status == "found":
                    progress.console.print(result.message)
    # Not in the order in which the workers have finished them.
    outcome.failed.sort()
    outcome.kept.sort()
    return outcome
