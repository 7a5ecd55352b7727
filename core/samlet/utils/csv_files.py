"""Writing tables as CSV files, and reading those that people have made."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from samlet.errors import UserError
from samlet.utils.files import atomic_path

DELIMITERS = ",;\t"


class CsvLine(NamedTuple):
    """A line of a CSV file.

    Attributes:
        where: its place in the file, to start a sentence with.
        values: without spaces around them, by the name of the column in lower case.
    """

    where: str
    values: dict[str, str]


def read_csv(file: Path, faults: list[str]) -> tuple[list[str], Iterator[CsvLine]]:
    """Read a CSV file (UTF-8) with commas, semicolons or tabs; empty lines are left out.

    Args:
        file: its path.
        faults: gets a sentence about each line that has too many values.

    Returns:
        names of the columns, in lower case; and the lines, which raise UserError when one is not
        CSV.

    Raises:
        UserError: the file cannot be read, or two columns have one name.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: save it as CSV in UTF-8.") from error
    header = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=header.count))
    columns = [name.strip().lower() for name in next(rows, [])]
    if twice := [name for name in dict.fromkeys(columns) if columns.count(name) > 1]:
        raise UserError(f"{file} has several columns called {twice[0]}: leave one.")

    def lines() -> Iterator[CsvLine]:
        try:
            for row in rows:
                where = f"{file}, line {rows.line_num}"
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) > len(columns):
                    faults.append(f"{where} has more values than there are columns: correct it.")
                    continue
                values = {n: cell.strip() for n, cell in zip(columns, row, strict=False)}
                yield CsvLine(where, values)
        except csv.Error as error:
            raise UserError(
                f"{file}, line {rows.line_num} is not CSV ({error}): correct it."
            ) from error

    return columns, lines()


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write mappings as the lines of a CSV file (UTF-8); see `print_csv`.

    Raises:
        UserError: the file cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        print_csv(file, rows)


def print_csv(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write mappings as lines of CSV.

    The header has the keys of all of them, in the order in which they first occur; what a line
    lacks is left empty.
    """
    lines = list(rows)
    header = dict.fromkeys(key for line in lines for key in line)
    writer = csv.DictWriter(file, list(header))
    writer.writeheader()
    writer.writerows(lines)
