"""The images of a folder, and how far each is: in their labels files and in one small JSON file."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from samlet import images
from samlet.errors import UserError
from samlet.utils.files import atomic_path
from samlet_napari.labels.labels_file import SUFFIX

STATES_FILE = "samlet-folder.json"
"""In the folder: `{"version": 1, "done": ["cells.png", ...]}`."""

LOCK_FILE = ".samlet-folder.lock"

_VERSION = 1


class State(Enum):
    """How far an image is."""

    UNTOUCHED = "untouched"
    IN_PROGRESS = "in progress"
    DONE = "done"
    UNREADABLE = "cannot be opened"


class ImageFolder:
    """The images and stacks of a folder, nested folders included, for one user at a time.

    An image is in progress if it has a labels file, and done if it has one and is marked. What is
    not on disk is forgotten with this object: which images could not be opened.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        images: paths of its images, numbers in their names sorted by value; of each series of a
            file with several, see `samlet.images.slice_path`.

    Raises:
        UserError: no folder, no images in it, in use by another napari, or not to be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.images = sorted(images.list_series(images.find(self.path)), key=_natural_key)
        self._errors: dict[int, str] = {}
        self._claims = threading.Lock()
        self._open: tuple[int, ...] = ()
        # It may be released in another thread.
        self._lock = FileLock(self.path / LOCK_FILE, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f"{self.path} is open in another napari: close it there, or choose another folder."
            ) from error
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}), and labels are saved there: "
                "change its permissions, or copy the images to a folder of your own."
            ) from error
        try:
            self._done = self._read_done()
            self._labelled = {i for i in range(len(self)) if self.labels_path(i).exists()}
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.images)

    def close(self) -> None:
        """Let others open the folder."""
        self._lock.release()

    def name(self, index: int) -> str:
        """An image's path within the folder, with forward slashes."""
        return self.images[index].relative_to(self.path).as_posix()

    def file(self, index: int) -> Path:
        """The file or OME-Zarr folder that an image is in."""
        return images.SlicePath.parse(self.images[index]).file

    def labels_path(self, index: int) -> Path:
        """Where the labels of an image are kept: IMAGE.samlet.tif beside it."""
        path = self.images[index]
        return path.with_name(path.name + SUFFIX)

    def state(self, index: int) -> State:
        """How far an image is, as far as this object knows."""
        if index in self._errors:
            return State.UNREADABLE
        if index not in self._labelled:
            return State.UNTOUCHED
        return State.DONE if self.name(index) in self._done else State.IN_PROGRESS

    def error(self, index: int) -> str:
        """Why an image cannot be opened, as a sentence; "" if it can, as far as is known."""
        return self._errors.get(index, "")

    def count(self, state: State) -> int:
        """How many images are in a state."""
        return sum(self.state(index) is state for index in range(len(self)))

    def set_error(self, index: int, sentence: str) -> None:
        """Note why an image cannot be opened; "" if it can."""
        if sentence:
            self._errors[index] = sentence
        else:
            self._errors.pop(index, None)

    def look_at_labels(self, index: int) -> None:
        """Bring an image's state to what is on disk."""
        found = self.labels_path(index).exists()
        (self._labelled.add if found else self._labelled.discard)(index)

    def set_done(self, index: int, is_done: bool) -> None:
        """Mark an image that has a labels file as done or not, on disk.

        Raises:
            UserError: the file of marks cannot be written, or is damaged.
        """
        # Another program may have marked others meanwhile.
        done = self._read_done()
        (done.add if is_done else done.discard)(self.name(index))
        with atomic_path(self.path / STATES_FILE) as temporary:
            content = {"version": _VERSION, "done": sorted(done)}
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        self._done = done
        self.look_at_labels(index)

    def neighbour(self, index: int | None, step: int, skip_done: bool = False) -> int | None:
        """The next image that is known to be no waste of time; None if there is none.

        Args:
            index: of the image to start from; None to start before the first, or after the last.
            step: 1 for those after it, or -1 for those before.
            skip_done: whether images that are done are left out.
        """
        start = (-1 if step > 0 else len(self)) if index is None else index
        left_out = {State.UNREADABLE, *([State.DONE] if skip_done else [])}
        rest = range(start + step, len(self) if step > 0 else -1, step)
        return next((i for i in rest if self.state(i) not in left_out), None)

    def set_open(self, *indices: int) -> None:
        """Tell which images a user works on: `untouched` leaves them alone from then on."""
        with self._claims:
            self._open = indices

    @contextmanager
    def untouched(self, index: int) -> Iterator[bool]:
        """Whether labels of an image may be written by a machine; nobody opens it inside.

        They may not if a user works on it, or if it has labels.
        """
        with self._claims:
            self.look_at_labels(index)
            yield index not in self._open and index not in self._labelled
            self.look_at_labels(index)

    def _read_done(self) -> set[str]:
        path = self.path / STATES_FILE
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != _VERSION:
                raise ValueError("another version")
            return set(map(str, content["done"]))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}): check its permissions."
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged, so it is not known which images are done: repair or delete it."
            ) from error


def _natural_key(path: Path) -> list[Any]:
    # Text and numbers take turns, so that like is compared with like.
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
