"""Writing tables as CSV files."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samlet.utils.files import atomic_path


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write mappings as the lines of a CSV file (UTF-8).

    The header has the keys of all of them, in the order in which they first occur; what a line
    lacks is left empty.

    Raises:
        UserError: the file cannot be written.
    """
    lines = list(rows)
    header = dict.fromkeys(key for line in lines for key in line)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(header))
        writer.writeheader()
        writer.writerows(lines)
