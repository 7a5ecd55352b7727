"""Pieces of an HTML page that needs no file beside it: headings, tables, pictures."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from samlet.evaluation.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 480
"""Of a picture, in pixels."""

FOLDED = 12
"""Rows beyond which a table of facts is folded away."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.lead { font-size: 1.05rem; } .soft { opacity: 0.75; }
table { border-collapse: collapse; } td, th { padding: 0.25rem 0.9rem 0.25rem 0;
  border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
.row { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 0.5rem;
  margin-bottom: 0.8rem; }
figure { margin: 0; } figcaption { font-size: 0.85rem; opacity: 0.75; }
img { max-width: 100%; border-radius: 4px; background: white; }
details { background: var(--soft); padding: 0.5rem 1rem; border-radius: 4px; }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """The whole document."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<body>{''.join(sections)}</body></html>"
    )


def text(value: Any) -> str:
    """Any value as text, with what HTML would take for its own made harmless."""
    return html.escape(str(value))


def section(title: str, *content: str) -> str:
    """A heading and what belongs to it, which is HTML already."""
    return f"<section><h2>{text(title)}</h2>{''.join(content)}</section>"


def note(content: str) -> str:
    """A paragraph of small importance."""
    return f'<p class="soft">{text(content)}</p>'


def facts(values: Mapping[str, Any]) -> str:
    """Names and values; a long list is folded away."""
    if not values:
        return "<p>none</p>"
    rows = "".join(
        f"<tr><td>{text(name)}</td><td>{text(value)}</td></tr>" for name, value in values.items()
    )
    table = f"<table>{rows}</table>"
    return table if len(values) <= FOLDED else f"<details><summary>Show</summary>{table}</details>"


def figures(table: Table, rows: str) -> str:
    """A table of figures: counts whole, others with three decimals.

    Args:
        table: rows of columns.
        rows: what the rows are, for the head of the first column.
    """
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    head = "".join(f'<th class="figure">{text(column)}</th>' for column in columns)
    lines = "".join(
        f"<tr><td>{text(name)}</td>{''.join(_cell(row.get(column)) for column in columns)}</tr>"
        for name, row in table.items()
    )
    return f"<table><tr><th>{text(rows)}</th>{head}</tr>{lines}</table>"


def _cell(figure: float | None) -> str:
    shown = "" if figure is None else str(figure) if isinstance(figure, int) else f"{figure:.3f}"
    return f'<td class="figure">{shown}</td>'


def plot(figure: "Figure", caption: str) -> str:
    """One of matplotlib's figures."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return _embedded(buffer.getvalue(), "png", caption)


def pictures(captioned: Mapping[str, np.ndarray]) -> str:
    """A row of pictures (uint8, H x W x 3) with captions."""
    cells = []
    for caption, pixels in captioned.items():
        picture = Image.fromarray(pixels)
        picture.thumbnail((WIDTH, WIDTH))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        cells.append(_embedded(buffer.getvalue(), "jpeg", caption))
    return f'<div class="row">{"".join(cells)}</div>'


def _embedded(content: bytes, kind: str, caption: str) -> str:
    data = base64.b64encode(content).decode()
    return (
        f'<figure><img alt="{text(caption)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )
