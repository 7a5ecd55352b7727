"""Pair images with files that have the same name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from samlet.datasets.label_stacks import pair_slices
from samlet.errors import UserError
from samlet.images import SlicePath
from samlet.utils.files import walk_files

_ENDING = re.compile(
    r"[-_ ]((cp[-_ ])?masks?|labels?|lbls?|seg(mentation)?|instances?|gt|object[-_ ]identities)$",
    re.IGNORECASE,
)
"""Endings that Cellpose, MorphoLibJ, ilastik and others add to the names of label maps."""

_OWN_ENDINGS = (".labels", ".rois", ".samlet")
"""Of samlet's own files: IMAGE.png.labels.png, IMAGE.png.rois.zip, IMAGE.png.samlet.tif."""


@dataclass
class PairedFiles:
    """The result of `pair_by_name`.

    Attributes:
        pairs: (image, file) for each image that has exactly one file.
        unmatched: files without an image, by their path within their folder.
        faults: a sentence about each ambiguous name: one file for two images, or two for one image.
    """

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def pair_by_name(
    images: Path, paths: Sequence[Path], labels: Path, suffixes: tuple[str, ...]
) -> PairedFiles:
    """Pair images with the files of a folder by relative path without suffix.

    A file may have an ending such as "_masks", "_cp_masks" or "_labels" after the name of its
    image. In a folder of both, it must have one if it has the suffix of an image.

    Slices of a stack are paired with files that are named like them ("stack.tif.z3.png" or
    "stack.z3_masks.png"), or with the slices of a label stack that is named like the stack.

    Args:
        images: the folder of the images.
        paths: image files below it, and slices of stacks.
        labels: the folder of the files, searched with nested folders and without hidden files.
        suffixes: in lower case, with the dot.
    """
    return pair_files_by_name(images, paths, labels, _files(labels, suffixes))


def pair_files_by_name(
    images: Path, paths: Sequence[Path], labels: Path, found_files: Sequence[Path]
) -> PairedFiles:
    """The same where the files of the labels are known.

    Args:
        images: the folder of the images.
        paths: image files below it, and slices of stacks.
        labels: the folder of the files.
        found_files: files below it, sorted.
    """
    by_key: dict[str, list[Path]] = defaultdict(list)
    stacks: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        name = _name(path.relative_to(images))
        for key in dict.fromkeys((name, _stem(name))):
            by_key[key].append(path)
            if SlicePath.parse(path).numbers:
                stacks[_stack_key(key)].append(path)
    is_same = images.resolve() == labels.resolve()
    both = {SlicePath.parse(path).file.relative_to(images) for path in paths} if is_same else set()
    found = PairedFiles()
    files: dict[Path, list[Path]] = defaultdict(list)
    for file in found_files:
        relative = file.relative_to(labels)
        keys = list(_keys(_name(relative), may_be_same=relative not in both))
        own = next((by_key[key] for key in keys if key in by_key), [])
        of_stack = next((key for key in keys if _stack_key(key) in stacks), None)
        if len(own) > 1:
            found.faults.append(
                f"{own[0]} and {own[1]} differ only in their suffix, so that {file} cannot be "
                "matched by name: rename or remove one."
            )
        elif own:
            files[own[0]].append(file)
        elif of_stack is not None:
            try:
                numbers = SlicePath.of_name(of_stack).numbers
                for path, label_slice in pair_slices(file, stacks[_stack_key(of_stack)], numbers):
                    files[path].append(label_slice)
            except UserError as error:
                found.faults.append(str(error))
        elif relative not in both:
            found.unmatched.append(str(relative))
    for path, candidates in files.items():
        if len(candidates) == 1:
            found.pairs.append((path, candidates[0]))
        else:
            found.faults.append(
                f"{candidates[0]} and {candidates[1]} differ only in their suffix, and both may "
                f"belong to {path}: rename or remove one."
            )
    return found


def slices_named(
    images: Path, paths: Sequence[Path], labels: Path, found_files: Sequence[Path]
) -> list[Path]:
    """The slices of image files that files of labels have the names of ("stack.tif.z3.png").

    Args:
        images: see `pair_files_by_name`, as the others.
        paths: whole files.
        labels: the folder of the files.
        found_files: files below it.
    """
    by_key: dict[str, Path] = {}
    for path in paths:
        name = _name(path.relative_to(images))
        by_key |= {name: path, _stem(name): path}
    found = []
    for file in found_files:
        for key in _keys(_name(file.relative_to(labels)), may_be_same=True):
            named = SlicePath.of_name(key)
            whole = by_key.get(named.file.as_posix())
            if key not in by_key and whole is not None:
                found.append(replace(named, file=whole).path)
    return list(dict.fromkeys(found))


def _files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files below a folder, following links to folders as for images; sorted by path."""
    found = (path for path in walk_files(root) if path.suffix.lower() in suffixes)
    return sorted(path for path in found if path.is_file())


def _keys(name: str, may_be_same: bool) -> Iterator[str]:
    """Names of images, with or without suffix, that a file may belong to; the likelier first."""
    stem = _stem(name)
    if stem.endswith(_OWN_ENDINGS):
        image = stem.rpartition(".")[0]
        yield image
        yield _stem(image)
    elif may_be_same:
        yield stem
    without_ending = _ENDING.sub("", stem)
    if without_ending != stem:
        yield without_ending


def _name(relative: Path) -> str:
    return unicodedata.normalize("NFC", relative.as_posix())


def _stem(name: str) -> str:
    parsed = SlicePath.of_name(name)
    stem = parsed.file.with_suffix("")
    stem = stem.with_suffix("") if stem.suffix.lower() == ".ome" else stem
    return f"{stem.as_posix()}{parsed.ending}"


def _stack_key(key: str) -> str:
    """The name of a stack without the numbers of slices."""
    parsed = SlicePath.of_name(key)
    return SlicePath(parsed.file, parsed.series).path.as_posix()
