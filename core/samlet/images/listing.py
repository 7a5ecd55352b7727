"""Which images a command works on: one, those in a folder, or those in a list, here or by URL."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from samlet.errors import UserError
from samlet.images.finding import (
    ALL_SUFFIXES,
    find,
    holds_no_image,
    is_folder_of_images,
    is_result,
)
from samlet.storage.locations import READ_ONLY, Location, Url, parse_location
from samlet.storage.remote import list_files
from samlet.storage.staging import staged_files

LIST_SUFFIX = ".txt"
"""Of a text file with the path or URL of an image per line."""


class ImageList(NamedTuple):
    """Images, and where the results of each go.

    Attributes:
        paths: the images.
        folders: for each the folder of its results.
    """

    paths: list[Location]
    folders: list[Location]

    def only(self, wanted: Collection[Location]) -> "ImageList":
        """Those that are among others."""
        pairs = zip(self.paths, self.folders, strict=True)
        kept = [(path, folder) for path, folder in pairs if path in wanted]
        return ImageList([path for path, _ in kept], [folder for _, folder in kept])


def list_images(
    source: Location,
    results: Location,
    slices_of: Callable[[list[Path]], list[Path]] = lambda paths: paths,
) -> ImageList:
    """Find the images of a command.

    Args:
        source: an image; a folder, see `samlet.images.find`; or a text file with one path or URL
            per line, relative to the file's folder. The results of a list's images are in folders
            of the same names as the images' if these are below the list's own folder, and
            otherwise in folders of all names of the path.
        results: the folder of all results, whose files are no images.
        slices_of: gives the slices in files of this machine, see `samlet.images.list_slices`.

    Raises:
        UserError: there is no image, or results cannot be written there.
    """
    if isinstance(results, Url) and results.protocol in READ_ONLY:
        raise UserError(
            f"Results cannot be written to {results}: give a folder, or a URL of object storage "
            "such as s3://bucket/folder."
        )
    is_folder = isinstance(source, Path) and is_folder_of_images(source)
    if source.suffix.lower() == LIST_SUFFIX and not is_folder:
        return _in_list(source, results, slices_of)
    if isinstance(source, Url):
        if source.suffix.lower() in ALL_SUFFIXES:
            return ImageList([source], [results])
        return _below(source, _find_remote(source, results), results)
    if is_folder:
        own = results if isinstance(results, Path) else None
        return _below(source, slices_of(find(source, own)), results)
    paths = slices_of([source])
    return ImageList([*paths], [results] * len(paths))


def _below(root: Location, paths: Sequence[Location], results: Location) -> ImageList:
    folders = [results / (_folder_below(path, root) or "") for path in paths]
    return ImageList(list(paths), folders)


def _folder_below(path: Location, root: Location) -> PurePath | None:
    """The folder of a path, relative to another; None if it is not below."""
    if isinstance(path, Url) != isinstance(root, Url):
        return None
    try:
        inside: PurePath = path.relative_to(root)  # type: ignore[arg-type]
    except ValueError:
        return None
    return None if ".." in inside.parts else inside.parent


def _find_remote(folder: Url, results: Location) -> list[Url]:
    inside = f"{results}/" if results != folder else None
    found = sorted(
        file
        for file in list_files(folder)
        if file.suffix.lower() in ALL_SUFFIXES
        and not is_result(PurePosixPath(file.name))
        and not (inside and file.text.startswith(inside))
    )
    if not found:
        raise holds_no_image(folder)
    return found


def _in_list(
    source: Location, results: Location, slices_of: Callable[[list[Path]], list[Path]]
) -> ImageList:
    folder = source.parent
    with staged_files(folder, [source.name]) as here:
        try:
            text = (here / source.name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise UserError(f"{source} does not exist: check the path.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{source} cannot be read as a list of images ({error}).") from error
    names = [line.strip() for line in text.splitlines()]
    paths: list[Location] = []
    for name in dict.fromkeys(filter(None, names)):
        listed = _listed(folder, name)
        paths += [listed] if isinstance(listed, Url) else slices_of([listed])
    if not paths:
        raise UserError(f"{source} lists no image: write one path or URL per line.")
    return ImageList(paths, [results / _own_folder(path, folder) for path in paths])


def _listed(folder: Location, name: str) -> Location:
    given = parse_location(name)
    return given if isinstance(given, Url) or given.is_absolute() else folder / name


def _own_folder(path: Location, folder: Location) -> PurePath:
    """Names that do not depend on what else is in the list."""
    below = _folder_below(path, folder)
    if below is not None:
        return below
    if isinstance(path, Url):
        return PurePosixPath(path.text.partition("://")[2]).parent
    return Path(*path.resolve().parent.parts[1:])
