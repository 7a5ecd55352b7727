"""Whether there is room on the disk for what a run is going to write."""

import shutil
from pathlib import Path

from samlet.errors import UserError


def check_room(folder: Path, need: int, what: str, remedy: str) -> str:
    """Compare what is going to be written with what is free.

    Args:
        folder: where to; it need not exist yet.
        need: bytes.
        what: names it, to start a sentence, with its verb: "Its state needs".
        remedy: what else may help than freeing space, to end a sentence.

    Returns:
        a sentence without its full stop that tells both.

    Raises:
        UserError: there is less free than needed.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    message = f"{what} {need / 1e9:.2g} GB in {folder}"
    if need > free:
        raise UserError(f"{message}, and {free / 1e9:.2g} GB are free: free some, {remedy}.")
    return f"{message} ({free / 1e9:.3g} GB free)"
