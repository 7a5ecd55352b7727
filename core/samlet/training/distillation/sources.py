"""Where training images come from: a folder, a list of files, or tar shards like SA-1B's."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from itertools import starmap
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from samlet import images
from samlet.errors import UserError
from samlet.images.formats.decoded_image import MICROSCOPE_SUFFIXES
from samlet.images.listing import (
    LIST_SUFFIX,
    images_among,
    list_slices_at,
    place_in_list,
    read_list,
)
from samlet.storage.locations import Location, Url, parse_location
from samlet.storage.remote import list_files
from samlet.storage.staging import staged_image
from samlet.training.distillation.shards import (
    check_shard,
    count_images,
    is_shard,
    read_shard,
    shard_name,
)
from samlet.training.stream import Position
from samlet.utils.messages import join_first, pluralize
from samlet.utils.progress import print_status

SHUFFLE_WITHIN = 256
"""Images of a shard that are mixed with each other; shards come in random order besides."""


@dataclass(frozen=True)
class Item:
    """One image file, not yet decoded.

    Attributes:
        key: what names it within its source, the same in every run.
        read: gives the file's bytes; raises OSError.
        stamp: size and time of change of the file: as long as they stay, so does its content. ""
            where it is none.
    """

    key: str
    read: Callable[[], bytes]
    stamp: str = ""


class Source(Protocol):
    """Images that can be read once, or endlessly in random order.

    With several processes, each (of number `rank` among `world`) reads its own part.
    """

    @property
    def name(self) -> str:
        """What the user gave."""

    def count(self) -> int | None:
        """How many images there are, or None where only reading everything would tell."""

    def holds(self, key: str) -> bool:
        """Whether an image of that key (`Item.key`) belongs to it."""

    def once(self, rank: int = 0, world: int = 1) -> Iterator[Item]:
        """Every image once, in the order in which they are stored."""

    def shuffled(
        self, seed: int, position: Position, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Item, Position]]:
        """Images endlessly, each with the position after it; the same seed gives the same order."""


def open_source(
    name: str,
    results: Path | None = None,
    slices: images.SliceChoice | None = None,
    channels: Sequence[int] | None = None,
) -> Source:
    """Find out what kind of source is meant.

    Args:
        name: a folder of images or of tar shards, a tar file, the URL of one of these, or a text
            file with one path or URL of an image or a shard per line (relative to the text file).
        results: the folder of the run, whose files are not training images where it lies in `name`.
        slices: of stacks; None for all of the first series of a file. At a URL, a stack is listed
            only if slices are chosen.
        channels: of images there to show, see `samlet.images.read`.

    Raises:
        UserError: there is nothing of the sort.
    """
    if is_shard(name):
        return TarShards(name, [check_shard(name)])
    place = parse_location(name)
    files: Sequence[tuple[str, Location]]
    if isinstance(place, Path) and place.is_dir():
        shards = sorted(str(p) for p in place.rglob("*.tar"))
        if shards:
            return TarShards(name, shards)
        files = [(str(p.relative_to(place)), p) for p in images.find(place, results)]
    elif place.suffix.lower() in (LIST_SUFFIX, ".lst", ".list"):
        names = read_list(place)
        shards = [listed for listed in names if is_shard(listed)]
        if shards and len(shards) < len(names):
            raise UserError(f"{name} mixes tar shards and images: make a list of each kind.")
        if shards:
            located = [s if "://" in s else str(place.parent / s) for s in shards]
            return TarShards(name, [check_shard(shard) for shard in located])
        files = _listed_files(place, names)
    elif isinstance(place, Url):
        found = list(list_files(place))
        shards = sorted(file.text for file in found if is_shard(file.text))
        if shards:
            return TarShards(name, shards)
        files = [(str(url.relative_to(place)), url) for url in images_among(found) if url != place]
    else:
        files = []
    if not files:
        raise UserError(
            f"{name} is not a source of images: give a folder, a text file of paths, or tar "
            "shards (.tar files or URLs of them)."
        )
    return ImageFiles(
        name,
        [
            (f"{key}{one.name.removeprefix(file.name)}", one)
            for key, file in files
            for one in list_slices_at([file], slices, channels=channels, note=print_status)
        ],
        channels,
    )


def _listed_files(source: Location, names: Sequence[str]) -> list[tuple[str, Location]]:
    files = [(name, _located(source.parent, name)) for name in names]
    missing = [
        name
        for name, file in files
        if isinstance(file, Path) and not images.SlicePath.parse(file).file.exists()
    ]
    if missing:
        raise UserError(
            f"{source} lists {pluralize(len(missing), 'file')} that cannot be found: "
            f"{join_first(missing)}. Paths are relative to the list."
        )
    return files


def _located(folder: Location, name: str) -> Location:
    """The file of a line, whichever slash and normal form of Unicode the list was written in."""
    if isinstance(place := place_in_list(folder, name), Url) or isinstance(folder, Url):
        return place
    forms = (name, name.replace("\\", "/"))
    ways = [
        folder / written
        for form in forms
        for written in (form, *(unicodedata.normalize(f, form) for f in ("NFC", "NFD")))
    ]
    return next((way for way in ways if way.is_file()), ways[0])


@dataclass(frozen=True)
class ImageFiles:
    """Image files that can be read in any order.

    Args:
        name: what the user gave.
        files: keys and places; also of slices, see `samlet.images.slice_path`.
        channels: to show, see `samlet.images.read`.
    """

    name: str
    files: Sequence[tuple[str, Location]]
    channels: Sequence[int] | None = None

    def count(self) -> int:
        """How many there are."""
        return len(self.files)

    def holds(self, key: str) -> bool:
        """See `Source`."""
        return key in self._keys

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(key for key, _ in self.files)

    def without(self, keys: set[str]) -> "ImageFiles":
        """The same source with some keys left out."""
        files = [file for file in self.files if file[0] not in keys]
        return ImageFiles(self.name, files, self.channels)

    def once(self, rank: int = 0, world: int = 1) -> Iterator[Item]:
        """See `Source`."""
        for key, path in self.files[rank::world]:
            yield Item(key, partial(_content, path, self.channels), _stamp_of(path))

    def shuffled(
        self, seed: int, position: Position, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Item, Position]]:
        """See `Source`. Each turn of the processes takes the next `world` images of one order.

        So any number of processes sees the same images in the same batches.
        """
        rounds = len(self.files) // world
        if rounds == 0:
            raise UserError(f"{self.name} has fewer images than there are processes.")
        epoch, sample = position.get("epoch", 0), position.get("sample", 0)
        while True:
            order = np.random.default_rng((seed, epoch)).permutation(len(self.files))
            for i in range(sample, rounds):
                key, path = self.files[order[i * world + rank]]
                after = {"epoch": epoch, "sample": i + 1}
                yield Item(key, partial(_content, path, self.channels)), after
            epoch, sample = epoch + 1, 0


@dataclass(frozen=True)
class TarShards:
    """Tar files of images, read from front to back: `sa_1.jpg`, `sa_1.json`, `sa_2.jpg`, ...

    Args:
        name: what the user gave.
        shards: paths or URLs.
    """

    name: str
    shards: Sequence[str]

    def count(self) -> int | None:
        """How many images there are; None where a shard is not a local file."""
        return self._count

    @cached_property
    def _count(self) -> int | None:
        if any("://" in shard for shard in self.shards):
            return None
        return sum(map(count_images, self.shards))

    def holds(self, key: str) -> bool:
        """See `Source`."""
        return key.partition("/")[0] in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(shard_name(shard) for shard in self.shards)

    def once(self, rank: int = 0, world: int = 1) -> Iterator[Item]:
        """See `Source`."""
        for shard in self.shards[rank::world]:
            yield from starmap(Item, read_shard(shard))

    def shuffled(
        self, seed: int, position: Position, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Item, Position]]:
        """See `Source`. Shards come in random order, and images are mixed with those near them.

        Nothing is mixed across shards, so that resuming needs only the current shard.
        """
        if len(self.shards) < world:
            raise UserError(
                f"{self.name} has {len(self.shards)} shards for {world} processes: give each "
                "process at least one."
            )
        epoch, shard = position.get("epoch", 0), position.get("shard", 0)
        sample = position.get("sample", 0)
        while True:
            order = np.random.default_rng((seed, epoch)).permutation(len(self.shards))
            own = order[rank::world]
            for place in range(shard, len(own)):
                rng = np.random.default_rng((seed, epoch, int(own[place])))
                mixed = _mixed(starmap(Item, read_shard(self.shards[own[place]])), rng)
                for i, item in enumerate(mixed):
                    if i >= sample:
                        yield item, {"epoch": epoch, "shard": place, "sample": i + 1}
                sample = 0
            epoch, shard = epoch + 1, 0


def _content(image: Location, channels: Sequence[int] | None) -> bytes:
    """The bytes of a file, or of a slice or chosen channels as a file of their own."""
    with staged_image(image, Path()) as here:
        is_microscope = here.path.suffix.lower() in MICROSCOPE_SUFFIXES
        if channels is None and here.path.is_file() and not is_microscope:
            return here.path.read_bytes()
        pixels = images.read(here.path, channels=channels)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PPM")
    return stream.getvalue()


def _stamp_of(image: Location) -> str:
    if isinstance(image, Url):
        return ""
    try:
        status = images.SlicePath.parse(image).file.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _mixed(items: Iterator[Item], rng: np.random.Generator) -> Iterator[Item]:
    buffer: list[Item] = []
    for item in items:
        buffer.append(item)
        if len(buffer) == SHUFFLE_WITHIN:
            yield buffer.pop(int(rng.integers(len(buffer))))
    yield from (buffer[i] for i in rng.permutation(len(buffer)))
