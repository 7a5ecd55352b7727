"""Where downloads, converted models and embeddings are kept."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return `SAMLET_CACHE` if it is set, or else the user's cache folder for samlet."""
    chosen = os.environ.get("SAMLET_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("samlet"))
