"""Figures as Markdown tables and CSV files."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from samlet.utils.files import atomic_path

Table = dict[str, dict[str, float]]
"""{row: {column: figure}}; a count is an int."""


class Grouped(Protocol):
    """A score that knows the group of its image, "" where images are not grouped."""

    @property
    def kind(self) -> str:
        """The group's name."""


S = TypeVar("S", bound=Grouped)


def by_group(scores: Sequence[S], figures: Callable[[Sequence[S]], dict[str, float]]) -> Table:
    """Sum up all scores in a row "all", and those of each group in a row of its own.

    Args:
        scores: of any number of images.
        figures: sums up a non-empty sequence of scores.

    Returns:
        an empty table where there are no scores.
    """
    if not scores:
        return {}
    kinds = sorted({score.kind for score in scores} - {""})
    return {"all": figures(scores)} | {
        kind: figures([score for score in scores if score.kind == kind]) for kind in kinds
    }


def format_table(table: Table, rows: str = "images") -> str:
    """Write a table as Markdown: counts whole, other figures with three decimals.

    Args:
        table: its columns are those of all rows; a figure that a row lacks stays blank.
        rows: what the rows are, for the head of the first column.
    """
    columns = list(dict.fromkeys(column for figures in table.values() for column in figures))
    lines = [f"| {' | '.join([rows, *columns])} |", "|---" * (len(columns) + 1) + "|"]
    for row, figures in table.items():
        cells = [_cell(figures[column]) if column in figures else "" for column in columns]
        lines.append(f"| {' | '.join([row, *cells])} |")
    return "\n".join(lines)


def _cell(figure: float) -> str:
    return str(figure) if isinstance(figure, int) else f"{figure:.3f}"


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write mappings as the lines of a CSV file, UTF-8, with the first one's keys as the head.

    Raises:
        UserError: the file cannot be written.
    """
    lines = list(rows)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, lines[0] if lines else [])
        writer.writeheader()
        writer.writerows(lines)
