"""How counts and long lists are told."""

from collections.abc import Sequence


def pluralize(count: int, thing: str) -> str:
    """A count with its noun, whose plural takes an s: "1 image", "2,000 images"."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def join_first(names: Sequence[object], most: int = 5) -> str:
    """The first few of a list, and how many more there are: "a.png, b.png and 3 more"."""
    told = ", ".join(str(name) for name in names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most:,} more"


def bullet_list(faults: Sequence[str], most: int = 20) -> str:
    """A list with a line for each, cut after some, with the count of the others."""
    told = "".join(f"\n- {fault}" for fault in faults[:most])
    return told if len(faults) <= most else f"{told}\n- and {len(faults) - most:,} more"
