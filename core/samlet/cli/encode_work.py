"""What `samlet encode` does with each image, in this process or in workers on Ray."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import Progress

import samlet
from samlet import Predictor, images
from samlet.cli.common import parse_channels
from samlet.cluster.run import RayRun, check_same_model, died_message
from samlet.cluster.workers import Died
from samlet.errors import UserError
from samlet.everything.tiling import UNTILED_RATIO
from samlet.images.rgb import PERCENTILES
from samlet.modeling.fingerprint import model_fingerprint
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.storage.locations import Location
from samlet.storage.staging import staged_image
from samlet.utils.prefetch import prefetch

FULL_RANGE = (0.0, 100.0)
"""Percentiles with which an image goes from its lowest to its highest value."""


class Encoded(NamedTuple):
    """What became of an image.

    Attributes:
        is_new: whether it had to be encoded.
        is_large: whether napari would not take it as a whole.
        removed: number of embeddings that made room for its own.
        failure: why it could not be read, in a sentence; empty if it could.
    """

    is_new: bool = False
    is_large: bool = False
    removed: int = 0
    failure: str = ""


@dataclass
class EncodeTotals:
    """What became of all images."""

    encoded: int = 0
    large: int = 0
    removed: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, one: Encoded) -> None:
        """Count an image."""
        self.encoded += one.is_new
        self.large += one.is_large
        self.removed += one.removed
        if one.failure:
            self.failed.append(one.failure)


class ImageEncoder:
    """Reads images and encodes them, with the model in memory.

    Args:
        predictor: with the model.
        read: from a path to RGB uint8, H x W x 3; raises UserError for a bad file.
        embeddings: where they go.
    """

    def __init__(
        self,
        predictor: Predictor,
        read: Callable[[Path], np.ndarray],
        embeddings: EmbeddingCache,
    ) -> None:
        self.predictor, self.embeddings = predictor, embeddings
        self.longest = UNTILED_RATIO * predictor.model.config.image_size
        self._read = read

    def load(self, path: Location) -> np.ndarray | Encoded:
        """The pixels of an image; a failure if it cannot be read."""
        try:
            with staged_image(path, self.embeddings.folder) as here:
                return self._read(here.path)
        except UserError as error:
            return Encoded(failure=str(error))

    def encode(self, pixels: np.ndarray) -> Encoded:
        """Put the embedding of an image in the cache, unless it is there.

        Raises:
            UserError: it cannot be written.
        """
        before = self.embeddings.removed
        is_new = self.embeddings.fill(self.predictor, pixels)
        is_large = max(pixels.shape) > self.longest
        return Encoded(is_new, is_large, self.embeddings.removed - before)


@dataclass(frozen=True)
class EncodeWork:
    """The options of `samlet encode`, which see, as they were given."""

    model: str
    engine: str
    precision: str
    channels: str | None
    full_range: bool
    folder: Path
    limit: int
    max_pixels: int

    def open(self, device: str = "cpu") -> ImageEncoder:
        """Load the model.

        Raises:
            UserError: there is no such model, or it cannot run on this device.
        """
        model = samlet.load(self.model, device)
        read = partial(
            images.read,
            channels=parse_channels(self.channels),
            max_pixels=self.max_pixels,
            percentiles=FULL_RANGE if self.full_range else PERCENTILES,
        )
        predictor = samlet.Predictor(model, self.engine, precision=self.precision)
        return ImageEncoder(predictor, read, EmbeddingCache(self.folder, 0, self.limit))


@dataclass(frozen=True)
class EncodeWorker:
    """Encodes images in a worker; is sent there, and then opened.

    Attributes:
        work: the options.
        weights: fingerprint of the model where the run was started.
    """

    work: EncodeWork
    weights: str

    def open(self, device: str) -> Callable[[Location, Callable[[], None]], Encoded]:
        """Load the model; see `samlet.cluster.run.RayRun`."""
        encoder = self.work.open(device)
        check_same_model(self.weights, model_fingerprint(encoder.predictor.model))
        computing = threading.Lock()

        def encode(path: Location, check: Callable[[], None]) -> Encoded:
            pixels = encoder.load(path)
            if isinstance(pixels, Encoded):
                return pixels
            # Other threads of this worker read the next images.
            with computing:
                check()
                return encoder.encode(pixels)

        return encode


def encode_images(
    encoder: ImageEncoder, paths: Sequence[Location], totals: EncodeTotals, progress: Progress
) -> None:
    """Encode images, while a thread reads the next one.

    Args:
        encoder: does it.
        paths: the images.
        totals: are counted.
        progress: gets a task.

    Raises:
        UserError: an embedding cannot be written.
    """
    task = progress.add_task("", total=len(paths))
    loaded = prefetch(paths, encoder.load, threads=1, depth=2)
    for path, pixels in zip(paths, loaded, strict=True):
        progress.update(task, description=path.name)
        totals.add(pixels if isinstance(pixels, Encoded) else encoder.encode(pixels))
        progress.advance(task)


def encode_on_ray(
    work: EncodeWork,
    encoder: ImageEncoder,
    paths: Sequence[Location],
    totals: EncodeTotals,
    run: RayRun,
    progress: Progress,
) -> None:
    """Encode images in workers.

    Args:
        work: the options.
        encoder: the same, with the model in this process.
        paths: the images.
        totals: are counted.
        run: the workers.
        progress: gets a task.

    Raises:
        UserError: no worker can work, or an embedding cannot be written.
    """
    fixed = replace(work, **run.choices(encoder.predictor, work.engine))
    worker = EncodeWorker(fixed, model_fingerprint(encoder.predictor.model))
    with closing(run.process(worker, paths, paths[0], work.folder, progress, "Encoding")) as made:
        for path, one in made:
            totals.add(Encoded(failure=died_message(path, one)) if isinstance(one, Died) else one)
    totals.failed.sort()
