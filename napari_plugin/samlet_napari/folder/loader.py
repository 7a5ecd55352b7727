"""Reading images and their labels in a thread, the next image before it is wanted."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from napari.layers import Image, Labels

from samlet.errors import UserError
from samlet_napari.folder.autosave import LabelsFile, file_signature
from samlet_napari.folder.image_folder import ImageFolder
from samlet_napari.folder.layer_files import read_labels_for, read_layers


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image of a folder, not yet in a viewer.

    Attributes:
        index: of the image in the folder.
        name: the image's, see `ImageFolder.name`.
        channels: its pixels, in a layer for each channel; of grey and colour images in one.
        labels: its labels, empty if it has no file of them.
        file: where the labels are saved.
    """

    index: int
    name: str
    channels: tuple[Image, ...]
    labels: Labels
    file: LabelsFile


@dataclass(frozen=True, eq=False)
class _ReadAhead:
    index: int
    signature: tuple[int, ...] | None
    channels: Future[tuple[Image, ...]]


class Loader:
    """Reads one image at a time, and holds at most one that nobody has asked for yet.

    Args:
        folder: whose images.
        on_loaded: called from a thread with what was asked for, or with why it cannot be had.
        on_read_ahead: called from a thread with the index of an image that was read ahead, and why
            it cannot be read; "" if it was.
    """

    def __init__(
        self,
        folder: ImageFolder,
        on_loaded: Callable[[int, LoadedImage | UserError], object],
        on_read_ahead: Callable[[int, str], object],
    ) -> None:
        self._folder = folder
        self._on_loaded = on_loaded
        self._on_read_ahead = on_read_ahead
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="samlet-read")
        self._ahead: _ReadAhead | None = None

    def load(self, index: int) -> None:
        """Read an image and its labels, and call back."""
        ahead, self._ahead = self._ahead, None
        path = self._folder.images[index]
        signature = file_signature(self._folder.file(index))
        if ahead is not None and (ahead.index, ahead.signature) != (index, signature):
            ahead = None

        def work() -> None:
            try:
                channels = None if ahead is None else ahead.channels.result()
                self._on_loaded(index, self._load(index, channels))
            except UserError as error:
                self._on_loaded(index, error)
            # Layers, and libraries that read files, may raise anything.
            except Exception as error:
                sentence = f"{path} cannot be opened ({error}): export it as PNG or TIFF."
                self._on_loaded(index, UserError(sentence))

        self._pool.submit(work)

    def read_ahead(self, index: int) -> None:
        """Read an image that will probably be wanted, in place of the one that was."""
        if self._ahead is not None and self._ahead.index == index:
            return
        folder = self._folder
        channels = self._pool.submit(read_layers, folder.images[index], folder.name(index))
        self._ahead = _ReadAhead(index, file_signature(folder.file(index)), channels)
        channels.add_done_callback(lambda _: self._on_read_ahead(index, _sentence(channels)))

    def image_read_ahead(self) -> tuple[Image, ...] | None:
        """The channels of the image that was read ahead; None without it, or if it is unreadable.

        They are the same tuple as long as it is the same image.
        """
        ahead = self._ahead
        if ahead is None or not ahead.channels.done() or ahead.channels.exception() is not None:
            return None
        return ahead.channels.result()

    def close(self) -> None:
        """Read nothing more; what is being read is waited for by the interpreter only."""
        self._ahead = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, index: int, channels: tuple[Image, ...] | None) -> LoadedImage:
        folder, name = self._folder, self._folder.name(index)
        if channels is None:
            channels = read_layers(folder.images[index], name)
        path = folder.labels_path(index)
        signature = file_signature(path)
        labels = read_labels_for(channels[0], path)
        labels.name = f"{name} objects"
        return LoadedImage(index, name, channels, labels, LabelsFile(labels, path, signature))


def _sentence(read: Future[tuple[Image, ...]]) -> str:
    if read.cancelled():
        return ""
    error = read.exception()
    return str(error) if isinstance(error, UserError) else ""
