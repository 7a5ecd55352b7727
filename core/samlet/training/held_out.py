"""Which images are held out: decided only by the hash of their names.

However many images are added later, a model is never evaluated on images that it was trained on.
With few images one side may happen to have none, and gets one from the other:

- Where no name falls into the share that is held out, the name with the smallest hash does. As
  images are added, it stays until one falls into the share, and joins the training images then.
- Where all do, the name with the largest hash is trained on, and so is a single image. That is the
  one case in which a later run may be evaluated on a training image.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Mapping

from samlet.images import split_slice
from samlet.storage.locations import Location

MAX_EVALUATED = 50
"""The most images that a model is measured on; a larger share is held out all the same."""


def held_out_names(names: Collection[str], share: float) -> list[str]:
    """Choose the names of the images that are held out.

    Args:
        names: of all images; they count once each, in any normal form of Unicode.
        share: of the images, 0 to 1.

    Returns:
        names, by rising hash; at least one and not all of them, but none of a single name.
    """
    ranked = sorted(set(names), key=hash_position)
    chosen = [name for name in ranked if hash_position(name) < share]
    return (chosen or ranked[:1])[: len(ranked) - 1]


def held_out_slices(paths: Mapping[str, Location], share: float) -> list[str]:
    """The same for images of which some are slices of stacks.

    Neighbouring slices are alike, so that all slices of a stack are on one side, unless there is
    nothing but one stack.

    Args:
        paths: of all images, by name; the name of a slice ends like its path.
        share: of the images, 0 to 1.

    Returns:
        names, by rising hash of the file's name.
    """
    files = {name: name.removesuffix(split_slice(path)[1]) for name, path in paths.items()}
    if len({*files.values()}) == 1:
        return held_out_names(paths, share)
    ranks = {file: rank for rank, file in enumerate(held_out_names(files.values(), share))}
    return sorted((n for n in paths if files[n] in ranks), key=lambda n: ranks[files[n]])


def hash_position(name: str) -> float:
    """Where a name lies between 0 and 1, evenly spread."""
    written = unicodedata.normalize("NFC", name).encode()
    return int.from_bytes(hashlib.sha256(written).digest()[:8], "big") / 2**64
