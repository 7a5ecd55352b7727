"""Which URLs are images that Label Studio serves, and how URLs are shown to people."""

import re
from urllib.parse import unquote, urlsplit

from samlet_labelstudio.hosts import host_of

_SIGNING = r"/(?:tasks|projects)/[0-9]+/(?:presign|resolve)/"
_LOCAL = r"/data/local-files/?"
_SERVED = rf"/data/upload/.+|{_LOCAL}|/storage-data/uploaded/?|{_SIGNING}"
"""Paths by which Label Studio serves images, in its urls.py: uploads, local files, uploads that it
keeps in cloud storage, and cloud storage of projects."""
_BELOW_SUB_PATH = re.compile(rf"(?:/[A-Za-z0-9_.~-]+)*?(?P<served>{_SERVED})")


def served_path(url: str, label_studio: str) -> str | None:
    """What a URL requests of a Label Studio that serves images: path and query; None if nothing.

    Args:
        url: as it is sent.
        label_studio: its own address.
    """
    requested, own = urlsplit(url), urlsplit(label_studio)
    sub_path = own.path.rstrip("/")
    if requested.scheme != own.scheme.lower() or host_of(url) != host_of(label_studio):
        return None
    path = requested.path.removeprefix(sub_path)
    is_below = requested.path.startswith(sub_path)
    if not is_below or not re.fullmatch(_SERVED, path) or _leaves_folder(path):
        return None
    return f"{path}?{requested.query}" if requested.query else path


def without_sub_path(path: str) -> str | None:
    """A path by which Label Studio serves images, without the sub-path that browsers see it below.

    Args:
        path: of a URL, from its slash on, without the query.

    Returns:
        The path, or None if Label Studio serves no images there.
    """
    found = _BELOW_SUB_PATH.fullmatch(path)
    return found["served"] if found else None


def is_local_files_path(served: str) -> bool:
    """Whether what `served_path` gives is a local file."""
    return re.fullmatch(_LOCAL, served.partition("?")[0]) is not None


def is_signing_path(served: str) -> bool:
    """Whether what `served_path` gives is redirected to signed cloud storage."""
    return re.match(_SIGNING, served) is not None


def display_url(url: str) -> str:
    """A URL for people: without what may be secret in it (user, query), and not endless."""
    # A data URI holds the image itself.
    url = re.split("[?#,]" if url.startswith("data:") else "[?#]", url, maxsplit=1)[0]
    scheme, slashes, rest = url.rpartition("//")
    url = scheme + slashes + rest.rpartition("@")[2]
    return url if len(url) <= 100 else f"{url[:97]}..."


def _leaves_folder(path: str) -> bool:
    """Whether a server may take a path for one of another folder, however often it decodes it."""
    while not {".", ".."} & set(re.split(r"[/\\]", path)):
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True
