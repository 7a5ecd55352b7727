"""Where files are: a path, or a URL with the parts of `Path` that batches need."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import urlsplit

from samlet.errors import UserError
from samlet.utils.messages import nearest

PROTOCOLS = ("s3", "gs", "az", "abfs", "https", "http")
"""Object storage of Amazon (or compatible with it), Google and Azure, and web servers."""
READ_ONLY = ("https", "http")
"""Protocols that results cannot be written to."""

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)")


@dataclass(frozen=True, order=True)
class Url:
    """A file or folder outside this machine's file system, or a slice in a file.

    Attributes:
        text: the URL of the file or folder, without a slash at its end.
        ending: of a slice, ".t0.z3", as `samlet.images.slice_paths` adds it to a path; "" for all.
    """

    text: str
    ending: str = ""

    @property
    def protocol(self) -> str:
        """What comes before "://"."""
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part of the path; what follows a "?" at a web server is not part of it."""
        return f"{PurePosixPath(self._path).name}{self.ending}"

    @property
    def parent(self) -> "Url":
        """The folder above; a bucket or server has none, and is its own."""
        text = self.text.partition("?")[0] if self.protocol in READ_ONLY else self.text
        head, _, name = text.rpartition("/")
        return Url(head) if name and not head.endswith("/") else self

    @property
    def suffix(self) -> str:
        """The suffix of the file's name."""
        return PurePosixPath(self._path).suffix

    @property
    def _path(self) -> str:
        # In object storage "?" and "#" are characters of a name.
        if self.protocol in READ_ONLY:
            return urlsplit(self.text).path
        return self.text.partition("://")[2]

    def __truediv__(self, other: str | PurePath) -> "Url":
        part = other.as_posix() if isinstance(other, PurePath) else other
        return self if part in ("", ".") else Url(f"{self.text}/{part}")

    def relative_to(self, folder: "Url") -> PurePosixPath:
        """The path from a folder above.

        Raises:
            ValueError: it is not below that folder.
        """
        return PurePosixPath(f"{self._path}{self.ending}").relative_to(folder._path)

    def __str__(self) -> str:
        return f"{self.text}{self.ending}"


Location = Path | Url
"""A file or folder, on this machine or elsewhere."""


def parse_location(text: str) -> Location:
    """A path, or a URL if the text has a protocol.

    Raises:
        UserError: of a protocol that is not supported.
    """
    match = _URL.fullmatch(text)
    if match is None:
        return Path(text)
    protocol, rest = match[1].lower(), match[2]
    if protocol not in PROTOCOLS:
        raise UserError(
            f"{text} begins with {protocol}://: choose {nearest(protocol, PROTOCOLS)} in its place."
        )
    if not rest.strip("/"):
        raise UserError(f"{text} does not say which bucket or server: add it after ://.")
    return Url(f"{protocol}://{rest.rstrip('/')}")


def parse_writable(text: str) -> Location:
    """As `parse_location`, of a place to write to.

    Raises:
        UserError: of a protocol that is not supported, or that of a web server.
    """
    place = parse_location(text)
    if isinstance(place, Url) and place.protocol in READ_ONLY:
        raise UserError(
            f"Results cannot be written to {text}: give a path here, or a URL of object storage "
            "such as s3://bucket/results."
        )
    return place
