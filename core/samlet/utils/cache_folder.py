"""The folder where downloads, converted models and embeddings are cached."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The folder that the environment variable SAMLET_CACHE names, or the user's cache folder."""
    chosen = os.environ.get("SAMLET_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("samlet"))
