"""Which images a command works on: one, those in a folder, or those in a list, here or by URL."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from samlet.errors import UserError
from samlet.images.finding import (
    ALL_SUFFIXES,
    check_exists,
    find,
    holds_no_image,
    is_folder_of_images,
    is_result,
)
from samlet.images.slice_paths import SliceChoice, SlicePath, split_slice
from samlet.images.slices import PLAIN_SUFFIXES, list_slices
from samlet.images.stacks import SliceAxis
from samlet.storage.locations import Location, Url, parse_location
from samlet.storage.remote import list_files
from samlet.storage.staging import staged_files, staged_image

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


SlicesOf = Callable[[Sequence[Location]], Sequence[Location]]
"""Gives the slices in files."""


def list_images(
    source: Location, results: Location, slices_of: SlicesOf = lambda paths: paths
) -> ImageList:
    """Find the images of a command.

    Args:
        source: an image; a folder, see `samlet.images.find`; or a text file with one path or URL
            per line, relative to the file's folder. The results of a list's images are in folders
            of the same names as the images' if these are below the list's own folder, and
            otherwise in folders of all names of the path.
        results: the folder of all results, whose files are no images.
        slices_of: gives the slices in files, see `list_slices_at`.

    Raises:
        UserError: there is no image.
    """
    is_folder = isinstance(source, Path) and is_folder_of_images(source)
    if source.suffix.lower() == LIST_SUFFIX and not is_folder:
        return _in_list(source, results, slices_of)
    if isinstance(source, Url):
        source = parse_slice(source)
        if source.suffix.lower() not in ALL_SUFFIXES:
            return _below(source, slices_of(find_at_url(source, results)), results)
    elif is_folder:
        own = results if isinstance(results, Path) else None
        return _below(source, slices_of(find(source, own)), results)
    else:
        check_exists(source)
    paths = slices_of([source])
    return ImageList([*paths], [results] * len(paths))


def list_slices_at(
    paths: Iterable[Location],
    choice: SliceChoice | None = None,
    *,
    channels: Sequence[int] | None = None,
    along: SliceAxis | str | None = None,
    note: Callable[[str], object] = lambda text: None,
    opened: Collection[Location] = (),
) -> list[Location]:
    """As `samlet.images.list_slices`, which see, also for files at URLs.

    Such a file is brought here only if slices are chosen, or if it is among `opened` and may be a
    stack; otherwise it is listed as a whole.
    """
    found: list[Location] = []
    for path in paths:
        if isinstance(path, Path):
            found += list_slices([path], choice, channels=channels, along=along, note=note)
        elif choice in (None, SliceChoice()) and (
            split_slice(path)[0] not in opened or path.suffix.lower() in PLAIN_SUFFIXES
        ):
            found.append(path)
        else:
            found += _slices_of_url(
                path, partial(list_slices, choice=choice, channels=channels, along=along), note
            )
    return found


def _slices_of_url(
    url: Url, slices_of: Callable[..., list[Path]], note: Callable[[str], object]
) -> list[Url]:
    with ExitStack() as staging:
        try:
            here = staging.enter_context(staged_image(url, Path())).path
        except UserError:
            # Reading it tells why.
            return [url]
        slices = slices_of([here], note=lambda text: note(text.replace(str(here), str(url))))
        return [Url(url.text, SlicePath.of_name(one).ending) for one in slices]


def parse_slice(url: Url) -> Url:
    """Take a URL apart if it names a slice in a file; see `samlet.images.slice_paths`."""
    parsed = SlicePath.of_name(url.name)
    if parsed.file.suffix.lower() not in ALL_SUFFIXES:
        return url
    return Url(url.text.removesuffix(parsed.ending), parsed.ending)


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


def find_at_url(folder: Url, results: Location | None = None) -> list[Url]:
    """All image files below a folder; see `samlet.images.find`.

    Raises:
        UserError: there is none, or the server does not answer.
    """
    inside = f"{results}/" if results not in (None, folder) else None
    files = list_files(folder)
    found = images_among(file for file in files if not (inside and file.text.startswith(inside)))
    if not found:
        raise holds_no_image(folder)
    return found


def images_among(files: Iterable[Url]) -> list[Url]:
    """Those that are images, by their names, and none of samlet's results; sorted."""
    return sorted(
        file
        for file in files
        if file.suffix.lower() in ALL_SUFFIXES and not is_result(PurePosixPath(file.name))
    )


def _in_list(source: Location, results: Location, slices_of: SlicesOf) -> ImageList:
    names = read_list(source)
    places = [place_in_list(source.parent, name) for name in dict.fromkeys(names)]
    # Usually the first one exists, and the others are not looked at before their turn.
    if not any(isinstance(each, Url) or SlicePath.parse(each).file.exists() for each in places):
        raise UserError(
            f"{source} is read as a list of images, and none of its lines, such as {names[0]}, is "
            "the path of a file: write one path or URL per line."
        )
    paths = slices_of(places)
    return ImageList([*paths], [results / _own_folder(path, source.parent) for path in paths])


def read_list(source: Location) -> list[str]:
    """The lines of a text file (UTF-8) without those that are empty or begin with #.

    Raises:
        UserError: it cannot be read, or has none.
    """
    with staged_files(source.parent, [source.name]) as here:
        try:
            text = (here / source.name).read_text(encoding="utf-8-sig")
        except FileNotFoundError as error:
            raise UserError(f"{source} does not exist: check the path.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{source} cannot be read as a list of images ({error}): give a UTF-8 text file."
            ) from error
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise UserError(f"{source} lists no image: write one path or URL per line.")
    return names


def place_in_list(folder: Location, name: str) -> Location:
    """Where the file of a line is, in a list in this folder."""
    given = parse_location(name)
    place = folder / name if isinstance(given, Path) else given
    return parse_slice(place) if isinstance(place, Url) else place


def _own_folder(path: Location, folder: Location) -> PurePath:
    """Names that do not depend on what else is in the list."""
    below = _folder_below(path, folder)
    if below is not None:
        return below
    if isinstance(path, Url):
        return PurePosixPath(path.text.partition("://")[2]).parent
    return Path(*path.resolve().parent.parts[1:])
