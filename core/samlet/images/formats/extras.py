"""Readers of formats that not everybody needs, from the extra `samlet[formats]`."""

import importlib
from pathlib import Path
from typing import Any

from samlet.errors import UserError


def import_reader(module: str, path: Path) -> Any:
    """Import what reads a format.

    Args:
        module: its name.
        path: the file that needs it.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path} needs {error.name}, which is not installed: get it with "
            'pip install "samlet[formats]".'
        ) from error
