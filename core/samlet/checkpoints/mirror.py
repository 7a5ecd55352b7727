"""A site's own source of the published models: SAMLET_MODELS.

The environment variable names a folder, from which files are used where they are, or an address
(http or https) below which they are downloaded into the cache folder. Either takes the place of the
publishers: what it does not have is not fetched from them. Checksums are verified as ever.
"""

import os
from pathlib import Path

from samlet.errors import UserError

VARIABLE = "SAMLET_MODELS"


def mirror() -> Path | str | None:
    """The folder, or the address without a slash at its end; None if the variable is not set.

    Raises:
        UserError: it names no folder, or an address of another kind.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return None
    if value.lower().startswith(("http://", "https://")):
        return value.rstrip("/")
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{VARIABLE} must name a folder, or an address that begins with https:// or http://: "
            f"{value} is neither."
        )
    return folder.absolute()
