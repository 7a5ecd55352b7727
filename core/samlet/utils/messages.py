"""Counts, durations and long lists as text for messages."""

from collections.abc import Sequence
from difflib import get_close_matches


def pluralize(count: int, noun: str) -> str:
    """A count with a noun whose plural ends in s: "1 image", "2,000 images"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def format_duration(seconds: float) -> str:
    """A rounded duration: "25 s", "12 min" or "1.5 h"."""
    if seconds < 60:
        return f"{max(1, round(seconds / 5)) * 5} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def join_first(names: Sequence[object], limit: int = 5) -> str:
    """The first names of a list, and how many more there are: "a.png, b.png and 3 more"."""
    text = ", ".join(str(name) for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit:,} more"


def join_and(items: Sequence[object]) -> str:
    """All items of a list: "7", "7 and 8" or "7, 8 and 9"."""
    *others, last = map(str, items)
    return f"{', '.join(others)} and {last}" if others else last


def nearest(word: str, known: Sequence[str]) -> str:
    """Those of `known` that `word` may be a misspelling of, or else all: "one of a, b, c"."""
    return " or ".join(get_close_matches(word, known)) or f"one of {', '.join(known)}"


def bullet_list(items: Sequence[str], limit: int = 20) -> str:
    """One line per item, each after a line break, and how many more there are."""
    text = "".join(f"\n- {item}" for item in items[:limit])
    return text if len(items) <= limit else f"{text}\n- and {len(items) - limit:,} more"
