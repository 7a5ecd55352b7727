"""Tables of figures: one row per group of images; as Markdown."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from samlet.datasets.examples import Example

Table = dict[str, dict[str, float]]
"""{row: {column: figure}}; a count is an int."""


GroupOf = Callable[[np.ndarray], str]
"""Names the group of an image (RGB uint8, H x W x 3), such as how it was taken."""


class GroupedScore(Protocol):
    """A score that has the name of its image's group, "" if images are not grouped."""

    @property
    def group(self) -> str:
        """The name of the group."""


S = TypeVar("S", bound=GroupedScore)


def group_name(example: Example, group_of: GroupOf | None) -> str:
    """Name the group of an example's image; "" if images are not grouped."""
    return group_of(example.image) if group_of is not None else ""


def summarize_by_group(
    scores: Sequence[S], figures: Callable[[Sequence[S]], dict[str, float]]
) -> Table:
    """Make a table with a row "all" for all scores, and a row for each group.

    Args:
        scores: of any number of images.
        figures: the figures of a non-empty sequence of scores.

    Returns:
        an empty table if there are no scores.
    """
    if not scores:
        return {}
    groups = sorted({score.group for score in scores} - {""})
    return {"all": figures(scores)} | {
        group: figures([score for score in scores if score.group == group]) for group in groups
    }


def format_table(table: Table, first_column: str = "images") -> str:
    """Format a table as Markdown: counts as integers, other figures with three decimals.

    Args:
        table: its columns are those of all rows; a figure that a row lacks stays blank.
        first_column: heading of the column that names the rows.
    """
    columns = list(dict.fromkeys(column for figures in table.values() for column in figures))
    lines = [f"| {' | '.join([first_column, *columns])} |", "|---" * (len(columns) + 1) + "|"]
    for row, figures in table.items():
        cells = [_cell(figures[column]) if column in figures else "" for column in columns]
        lines.append(f"| {' | '.join([row, *cells])} |")
    return "\n".join(lines)


def _cell(figure: float) -> str:
    return str(figure) if isinstance(figure, int) else f"{figure:.3f}"
