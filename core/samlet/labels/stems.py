"""Files that belong to images because they are named alike."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from samlet.errors import UserError


def pairs(
    images: Path, paths: Sequence[Path], labels: Path, suffixes: tuple[str, ...]
) -> list[tuple[Path, Path]]:
    """Match images with the files of a folder by relative path without suffix.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder to look in, nested folders included, hidden files left out.
        suffixes: in lower case, with the dot.

    Returns:
        (image, file) for each image that has one.

    Raises:
        UserError: two files for one image, or two images for one file.
    """
    files = _by_stem(
        labels, (path for path in labels.rglob("*") if path.suffix.lower() in suffixes)
    )
    found = []
    for stem, same in _by_stem(images, paths).items():
        candidates = files.get(stem, [])
        for several in (same, candidates):
            if candidates and len(several) > 1:
                raise UserError(
                    f"{several[0]} and {several[1]} differ in their suffix alone, so that images "
                    "and labels cannot be matched by name: rename or remove one."
                )
        found += [(same[0], candidate) for candidate in candidates]
    return found


def _by_stem(root: Path, paths: Iterable[Path]) -> dict[Path, list[Path]]:
    stems = defaultdict(list)
    for path in sorted(paths):
        stem = path.relative_to(root).with_suffix("")
        if stem.suffix == ".labels":
            # samlet's own label maps are called IMAGE.png.labels.png.
            stem = stem.with_suffix("").with_suffix("")
        if not any(part.startswith(".") for part in stem.parts) and path.is_file():
            stems[stem].append(path)
    return stems
