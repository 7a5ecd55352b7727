"""Files of other machines, on this one for as long as something works on them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from samlet.errors import UserError
from samlet.storage import remote
from samlet.storage.locations import Location, Url


class StagedImage(NamedTuple):
    """An image and the folder of its results, as paths on this machine.

    Attributes:
        path: of the image; it has the name of the original.
        folder: for its results.
        origin: where the image really is, for records: an absolute path or a URL.
    """

    path: Path
    folder: Path
    origin: str


@contextmanager
def staged_image(
    image: Location, results: Location, also: Sequence[str] = (), last: Sequence[str] = ()
) -> Iterator[StagedImage]:
    """Bring an image and its earlier results here; afterwards bring new results there.

    On this machine nothing is copied. Elsewhere those files of a folder count as results whose
    names begin with the image's name and a dot. When the block ends without an error, files that
    are new or were changed are uploaded, each as a whole.

    Args:
        image: the file, or a slice in it.
        results: the folder of its results.
        also: further names of its results.
        last: suffixes of files that are uploaded after the others, as they mark that these are
            there.

    Raises:
        UserError: a file cannot be read or written there. UserErrors of the block name the
            originals in place of the copies.
    """
    if isinstance(image, Path) and isinstance(results, Path):
        yield StagedImage(image, results, str(image.absolute()))
        return
    with _temporary_folder() as place, _naming_originals() as originals:
        path, origin = _here(image, place / "image", originals)
        if isinstance(results, Path):
            yield StagedImage(path, results, origin)
            return
        names = remote.names_beginning(results, f"{image.name}.")
        names += [name for name in also if remote.exists(results / name)]
        originals[place / "results"] = str(results)
        with _synchronised(results, place / "results", names, last) as folder:
            yield StagedImage(path, folder, origin)


@contextmanager
def staged_files(folder: Location, names: Sequence[str]) -> Iterator[Path]:
    """Bring files of a folder here, if they exist; afterwards bring there what was changed.

    Args:
        folder: on this machine nothing is copied.
        names: of the files.

    Yields:
        the folder with the files on this machine.

    Raises:
        UserError: a file cannot be read or written there.
    """
    if isinstance(folder, Path):
        yield folder
        return
    with _temporary_folder() as place, _naming_originals() as originals:
        originals[place / "files"] = str(folder)
        present = [name for name in names if remote.exists(folder / name)]
        with _synchronised(folder, place / "files", present, ()) as here:
            yield here


def exists(origin: str) -> bool:
    """Whether there is still a file where a record says that one was."""
    return remote.exists(Url(origin)) if "://" in origin else Path(origin).exists()


def _here(image: Location, folder: Path, originals: dict[Path, str]) -> tuple[Path, str]:
    if isinstance(image, Path):
        return image, str(image.absolute())
    folder.mkdir()
    file = folder / image.name.removesuffix(image.ending)
    originals[file] = image.text
    remote.download(image, file)
    return folder / image.name, str(image)


@contextmanager
def _synchronised(
    there: Url, here: Path, names: Sequence[str], last: Sequence[str]
) -> Iterator[Path]:
    here.mkdir()
    for name in names:
        remote.download(there / name, here / name)
    before = _versions(here)
    yield here
    after = _versions(here)
    changed = [name for name, version in after.items() if before.get(name) != version]
    # One that marks the others as complete must not be there before them, nor outlive them.
    for name in sorted(changed, key=lambda name: (name.endswith(tuple(last)), name)):
        remote.upload(here / name, there / name)
    for name in before.keys() - after.keys():
        remote.remove(there / name)


def _versions(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What changes when a file is written anew or appended to."""
    found = {}
    for path in folder.iterdir():
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="samlet-", ignore_cleanup_errors=True) as place:
        yield Path(place)


@contextmanager
def _naming_originals() -> Iterator[dict[Path, str]]:
    """Put URLs in place of the paths of their copies in the message of a UserError."""
    originals: dict[Path, str] = {}
    try:
        yield originals
    except UserError as error:
        text = str(error)
        for copy, original in originals.items():
            text = text.replace(str(copy), original)
        if text == str(error):
            raise
        raise UserError(text) from error
