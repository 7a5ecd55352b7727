"""Which image file a path or URL in a file of labels means.

The longest matching end of a path decides, with either slash and in any normal form of Unicode;
if folders do not help, a base name that only one file has.

Label Studio puts eight hexadecimal digits and a dash before the names of uploaded files, and as
Django does, underscores for spaces; other characters than letters, digits, ".", "-" and "_" go.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from samlet.images import IMAGE_SUFFIXES

_PREFIX = re.compile(r"[0-9a-f]{8}-")


@dataclass
class Matches:
    """What `match` finds.

    Attributes:
        paths: the image file of each reference that has one of its own.
        unmatched: references without a file.
        faults: a sentence for each reference, or group of them, that is ambiguous.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """An image file under one of the names that may mean it, and how free that reading is."""

    path: Path
    parts: tuple[str, ...]
    freedom: int


def match(images: Path, paths: Sequence[Path], references: Mapping[str, str]) -> Matches:
    """Find the image files that paths or URLs mean.

    Args:
        images: the folder of the images.
        paths: image files below it.
        references: path or URL, with what names it, to start a sentence.
    """
    found = Matches()
    by_name: dict[str, list[_File]] = defaultdict(list)
    for path in paths:
        parts = _parts(str(path.absolute()))
        for name, freedom in _names(parts[-1]).items():
            by_name[name].append(_File(path, parts, freedom))
    claims: dict[Path, list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    for reference, where in references.items():
        ranked = _ranked(reference, by_name, _parts(str(images.absolute())))
        best = max(ranked.values(), default=None)
        chosen = [path for path, rank in ranked.items() if rank == best]
        if best is None:
            found.unmatched.append(reference)
        elif len(chosen) > 1:
            found.faults.append(
                f"{where} labels {reference}, which may be {chosen[0]} or {chosen[1]}: "
                "give the images different names, or leave one out."
            )
        else:
            claims[chosen[0]].append((best, reference))
    for path, claimed in claims.items():
        best = max(rank for rank, _ in claimed)
        closest = [reference for rank, reference in claimed if rank == best]
        found.unmatched += [reference for rank, reference in claimed if rank != best]
        if len(closest) == 1:
            found.paths[closest[0]] = path
            continue
        first, second = closest[:2]
        found.faults.append(
            f"{references[first]} and {references[second]} label {first} and {second}, and "
            f"{path} may be either: give the folder that these paths begin in."
        )
    return found


def is_image(reference: str) -> bool:
    """Tell whether a path or URL ends in the suffix of an image."""
    return any(Path(parts[-1]).suffix.lower() in IMAGE_SUFFIXES for parts in _readings(reference))


def _ranked(
    reference: str, by_name: Mapping[str, Sequence[_File]], root: tuple[str, ...]
) -> dict[Path, tuple[int, ...]]:
    """How well each file fits: folders in common at the end, whether that is all, and freedom."""
    ranked: dict[Path, tuple[int, ...]] = {}
    for way, parts in enumerate(_readings(reference)):
        for name, freedom in _names(parts[-1]).items():
            for file in by_name.get(name, ()):
                if not _may_be_one(parts[-1], file.parts[-1]):
                    continue
                shared = _shared(parts[:-1], file.parts[:-1])
                is_whole = parts == file.parts[len(root) :]
                rank = (shared, int(is_whole), -freedom - file.freedom, -way)
                ranked[file.path] = max(rank, ranked.get(file.path, rank))
    return ranked


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _may_be_one(name: str, other: str) -> bool:
    """False of two uploads whose digits differ."""
    digits = [_PREFIX.match(n) for n in (name, other)]
    return not all(digits) or name[:9] == other[:9]


def _readings(reference: str) -> Iterator[tuple[str, ...]]:
    """The paths that a reference may mean, each in its parts, the likelier first."""
    paths = [reference]
    try:
        url = urlsplit(reference.replace("\\", "/"))
    except ValueError:
        pass
    else:
        # Local storage: /data/local-files/?d=folder/name.png
        paths += [unquote(url.path), *parse_qs(url.query).get("d", [])]
    for path in dict.fromkeys(paths):
        if parts := _parts(path):
            yield parts


def _parts(path: str) -> tuple[str, ...]:
    written = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return tuple(part for part in written if part not in ("", ".", ".."))


def _names(name: str) -> dict[str, int]:
    """The names under which a file may be known, each with how free that reading is."""
    original = _PREFIX.sub("", name, count=1)
    uploaded = re.sub(r"[^-\w.]", "", original.strip().replace(" ", "_"))
    names: dict[str, int] = {}
    for freedom, known in enumerate((name, original, uploaded, uploaded.casefold())):
        names.setdefault(known, freedom)
    return names
