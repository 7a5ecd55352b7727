"""The folder where downloads, converted models and embeddings are cached."""

import os
from pathlib import Path

import platformdirs

from samlet.errors import UserError

EMBEDDINGS_MB = 5000
"""Limit of the embeddings on disk in megabytes, unless SAMLET_DISK_MB sets another."""


def cache_dir() -> Path:
    """The folder that the environment variable SAMLET_CACHE names, or the user's cache folder."""
    chosen = os.environ.get("SAMLET_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("samlet"))


def embeddings_dir() -> Path:
    """The folder of the embeddings that napari, the Label Studio backend and `samlet encode` share.

    Each of them can be given another.
    """
    return cache_dir() / "embeddings"


def embeddings_limit() -> int:
    """Limit of the embeddings on disk in bytes; see `EMBEDDINGS_MB`.

    Raises:
        UserError: the environment variable is not a number of megabytes.
    """
    chosen = os.environ.get("SAMLET_DISK_MB") or str(EMBEDDINGS_MB)
    if not chosen.isdecimal() or int(chosen) < 1:
        raise UserError(f"SAMLET_DISK_MB is {chosen!r}: set it to a number of megabytes, from 1.")
    return int(chosen) * 1_000_000
