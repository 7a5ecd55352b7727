"""All objects of the images of a folder that nobody has touched, one image after another."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from threading import Event

import numpy as np
from napari.layers import Labels

from samlet import images
from samlet.errors import UserError
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.predictor import Predictor
from samlet.utils.cache_folder import cache_dir
from samlet.utils.messages import format_duration, pluralize
from samlet.utils.progress import progress_of_part
from samlet_napari.folder.image_folder import ImageFolder, State
from samlet_napari.folder.layer_files import layers_of
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.everything import find_linked_objects, find_objects
from samlet_napari.labels import pyramid
from samlet_napari.labels.label_store import LabelStore
from samlet_napari.labels.labels_file import write_labels
from samlet_napari.labels.object_metadata import KEY, ObjectMetadata
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane
from samlet_napari.session.label_writer import LabelWriter

POLL_SECONDS = 0.05


class StoppedError(Exception):
    """The user has stopped the search."""


@dataclass(frozen=True, eq=False)
class FoundInImage:
    """The objects of an image.

    Attributes:
        index: of the image in its folder.
        labels: the objects, in a layer that is in no viewer.
    """

    index: int
    labels: Labels

    def write(self, folder: ImageFolder) -> bool:
        """Write the labels file; not if somebody has the image, or it has one."""
        with folder.untouched(self.index) as is_untouched:
            if is_untouched:
                data, meta, _ = self.labels.as_layer_data_tuple()
                write_labels(folder.labels_path(self.index), data, meta)
        return is_untouched

    def put_into(self, labels: Labels) -> None:
        """Put the objects into the image's own layer, which is empty."""
        labels.metadata[KEY] = self.labels.metadata.get(KEY, {})
        labels.data = self.labels.data


@dataclass
class SearchProgress:
    """How far a search is.

    Attributes:
        total: images that it began with.
        done: images that are finished, with or without objects.
        fraction: done of the image that is being searched, 0 to 1.
        seconds: spent so far.
        objects: how many were found.
        left_out: one sentence per image that could not be searched.
    """

    total: int
    done: int = 0
    fraction: float = 0.0
    seconds: float = 0.0
    objects: int = 0
    left_out: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of all images, 0 to 1."""
        return (self.done + self.fraction) / self.total if self.total else 1.0

    def describe(self) -> str:
        """How many images are finished, how long one takes, and how much time is left."""
        text = f"Everything: {self.done} of {pluralize(self.total, 'image')}"
        if self.done and self.done < self.total:
            each = self.seconds / (self.done + self.fraction)
            left = each * (self.total - self.done - self.fraction)
            text += f", {each:.1f} s each, {format_duration(left)} left"
        return f"{text}."

    def describe_result(self) -> str:
        """What was found in all, and what was left out."""
        searched = pluralize(self.done - len(self.left_out), "image")
        text = f"Found {pluralize(self.objects, 'object')} in {searched}."
        if self.left_out:
            text += f" {pluralize(len(self.left_out), 'image')} left out: {self.left_out[0]}"
        return text


def search_folder(
    folder: ImageFolder,
    predictor: Predictor,
    channel: int | None,
    report: Callable[[SearchProgress], None],
    stopped: Event,
    is_waiting: Callable[[], bool],
) -> Generator[FoundInImage | int, None, SearchProgress]:
    """Find all objects of each untouched image, and write them beside it.

    The model sees images scaled by percentiles, as on the command line. An image that is touched
    while it is searched keeps what it has.

    Args:
        folder: the folder.
        predictor: what predicts.
        channel: that the model sees of images with several; None for all, blended.
        report: called with the progress, several times per image.
        stopped: ends the search when it is set; what was written is kept.
        is_waiting: whether the user waits for the model; the search pauses meanwhile.

    Yields:
        the index of each image that is finished; or its objects if somebody has it open.

    Raises:
        UserError: labels cannot be written.
        StoppedError: it was stopped.
    """
    untouched = [i for i in range(len(folder)) if folder.state(i) is State.UNTOUCHED]
    progress = SearchProgress(len(untouched))
    start = time.monotonic()

    def on_fraction(fraction: float) -> None:
        while is_waiting() and not stopped.is_set():
            time.sleep(POLL_SECONDS)
        if stopped.is_set():
            raise StoppedError
        progress.fraction, progress.seconds = fraction, time.monotonic() - start
        report(progress)

    for index in untouched:
        on_fraction(0.0)
        folder.look_at_labels(index)
        if folder.state(index) is State.UNTOUCHED:
            try:
                found = _find(folder, index, predictor, channel, on_fraction)
            except UserError as error:
                progress.left_out.append(str(error))
                yield index
            else:
                progress.objects += len(ObjectMetadata(found.labels).labels)
                yield index if found.write(folder) else found
        progress.done, progress.fraction = progress.done + 1, 0.0
    progress.seconds = time.monotonic() - start
    return progress


def _find(
    folder: ImageFolder,
    index: int,
    predictor: Predictor,
    channel: int | None,
    progress: Callable[[float], None],
) -> FoundInImage:
    path, name = folder.images[index], folder.name(index)
    file = images.open_image(path)
    surely, perhaps = (file.slice_axes(None, are_pages_slices=taken) for taken in (False, True))
    if surely != perhaps:
        file.close()
        raise UserError(
            f"{path} has pages that may be channels: open it, and use Everything in the widget "
            "Segment."
        )
    channels = layers_of(file, name)
    seen = channels
    if channel is not None and len(channels) > 1:
        if channel >= len(channels):
            raise UserError(
                f"{path} has no channel {channel}: open it, and use Everything in the widget "
                "Segment."
            )
        seen = channels[channel : channel + 1]
    snapshot = LayerSnapshot.of(seen, as_shown=False)
    # Everything mode encodes by itself: nothing is kept here.
    embeddings = EmbeddingProvider(predictor, snapshot, EmbeddingCache(cache_dir(), 0, 0))
    *counts, height, width = shape = snapshot.shape
    labels = pyramid.make_labels_layer(channels[0], pyramid.empty_labels(shape))
    labels.name = f"{name} objects"
    writer = LabelWriter()
    writer.set_store(LabelStore(labels, shape, is_empty=True))
    box, axes = (0, 0, width, height), (len(counts), len(counts) + 1)
    if not counts:
        writer.write_objects(find_objects(embeddings, Plane(axes, (0, 0)), box, progress))
        return FoundInImage(index, labels)
    # Slices are linked along the last axis, which is depth where there is time as well.
    stacks = list(np.ndindex(*counts[:-1]))
    for number, place in enumerate(stacks):
        within = progress_of_part(progress, number, len(stacks))
        planes = [Plane(axes, (*place, slice_, 0, 0)) for slice_ in range(counts[-1])]
        tracks: dict[int, int] = {}
        for found in find_linked_objects(embeddings, planes, box, within):
            writer.write_objects(found, track_labels=tracks)
    return FoundInImage(index, labels)
