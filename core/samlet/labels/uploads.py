"""Which image file a path or URL of Label Studio means.

Label Studio puts eight hexadecimal digits and a dash before the names of uploaded files, and as
Django does, underscores for spaces; other characters than letters, digits, ".", "-" and "_" go.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from samlet.errors import UserError
from samlet.image_files import SUFFIXES

_PREFIX = re.compile(r"[0-9a-f]{8}-")


class Uploads:
    """Image files by the names under which Label Studio may know them.

    Args:
        paths: the image files.
    """

    def __init__(self, paths: Sequence[Path]):
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_upload_name: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            self._by_name[path.name].append(path)
            self._by_upload_name[_upload_name(path.name)].append(path)

    def find(self, reference: str, where: str) -> Path | None:
        """Find the one file whose name a path or URL ends in, or None.

        Args:
            reference: path or URL.
            where: names what refers to it, to start a sentence.

        Raises:
            UserError: several files have this name.
        """
        for name in _names(reference):
            for candidate in (name, _PREFIX.sub("", name, count=1)):
                for index in (self._by_name, self._by_upload_name):
                    paths = index.get(candidate, [])
                    if len(paths) > 1:
                        raise UserError(
                            f"{where} labels {reference}, which may be {paths[0]} or {paths[1]}: "
                            "give the images different names, or leave one out."
                        )
                    if paths:
                        return paths[0]
        return None


def is_image(reference: str) -> bool:
    """Tell whether a path or URL ends in the suffix of an image."""
    return any(Path(name).suffix.lower() in SUFFIXES for name in _names(reference))


def _names(reference: str) -> Iterator[str]:
    """Base names that a path or URL may mean, the likelier first."""
    reference = reference.replace("\\", "/")
    yield reference.rpartition("/")[2]
    try:
        url = urlsplit(reference)
    except ValueError:
        return
    yield unquote(url.path).rpartition("/")[2]
    # Local storage: /data/local-files/?d=folder/name.png
    for path in parse_qs(url.query).get("d", []):
        yield path.replace("\\", "/").rpartition("/")[2]


def _upload_name(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
