"""A report of all that was measured: tables to read, and JSON, CSV files and plots to keep."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from samlet.evaluation import everything_mode, number_of_clicks, plots
from samlet.evaluation.agreement import AgreementScore, summarize_agreement
from samlet.evaluation.everything_mode import EverythingScore, summarize_everything
from samlet.evaluation.number_of_clicks import ClickScore, summarize_clicks
from samlet.evaluation.single_prompts import ObjectScore, summarize_prompts
from samlet.evaluation.tables import Table, format_table
from samlet.utils.csv_files import write_csv
from samlet.utils.files import atomic_path


class _Section(NamedTuple):
    """How one kind of measurement is reported.

    Attributes:
        title: above its table.
        first_column: heading of the column that names the rows.
        summarize: makes the table of mean figures from the scores.
        csv_row: lays out one score as a line of the CSV file.
    """

    title: str
    first_column: str
    summarize: Callable[[Sequence[Any]], Table]
    csv_row: Callable[[Any], dict[str, Any]]


_SECTIONS = {
    "prompts": _Section("Mean IoU for one prompt", "images", summarize_prompts, asdict),
    "clicks": _Section("Corrective clicks", "images", summarize_clicks, number_of_clicks.csv_row),
    "everything": _Section(
        "Everything mode", "images", summarize_everything, everything_mode.csv_row
    ),
    "agreement": _Section("Agreement with the teacher", "prompt", summarize_agreement, asdict),
    "same_objects": _Section(
        "Everything mode, with what the teacher finds as the objects",
        "images",
        summarize_everything,
        everything_mode.csv_row,
    ),
}
"""By the name of the attribute of `Report` that has the scores."""


@dataclass
class Report:
    """The scores of one model; what was not measured stays empty.

    Attributes:
        prompts: one click, random click and box.
        clicks: corrective clicks.
        everything: everything mode.
        agreement: agreement with a teacher.
        same_objects: everything mode against what it finds with the teacher.
        notes: paragraphs about the labels: how many images have labels, and what was left out.
        made_with: "model", "weights" (`model_fingerprint`) and "precision" (of the image encoder),
            as far as they are known.
    """

    prompts: list[ObjectScore] = field(default_factory=list)
    clicks: list[ClickScore] = field(default_factory=list)
    everything: list[EverythingScore] = field(default_factory=list)
    agreement: list[AgreementScore] = field(default_factory=list)
    same_objects: list[EverythingScore] = field(default_factory=list)
    notes: Sequence[str] = ()
    made_with: dict[str, str] = field(default_factory=dict)

    def tables(self) -> dict[str, Table]:
        """The mean figures of all that was measured, by the name of the measurement."""
        return {
            name: section.summarize(getattr(self, name))
            for name, section in _SECTIONS.items()
            if getattr(self, name)
        }

    def text(self) -> str:
        """Write the tables of all that was measured, as Markdown."""
        return "\n\n".join(
            f"{_SECTIONS[name].title}\n\n{format_table(table, _SECTIONS[name].first_column)}"
            for name, table in self.tables().items()
        )

    def write(self, folder: Path) -> list[Path]:
        """Write the report into a folder, which is created if it is missing.

        - report.md: `text`, `made_with` and the notes.
        - figures.json: `tables`, as {measurement: {row: {figure: number}}}; a figure that is not
          defined is null. `made_with` is under "made with".
        - prompts.csv, clicks.csv, everything.csv, agreement.csv, same_objects.csv: one line per
          score.
        - iou.png, predicted-iou.png, clicks.png: plots.

        Returns:
            the files that were written; there are none for measurements that were not made.

        Raises:
            UserError: a file cannot be written; or matplotlib is missing, in which case all but
                the plots has been written.
        """
        report, figures = folder / "report.md", folder / "figures.json"
        made_with = ", ".join(f"{name} {value}" for name, value in self.made_with.items())
        paragraphs = [self.text(), *([f"Made with {made_with}."] if made_with else []), *self.notes]
        _write_text(report, "\n\n".join(paragraphs) + "\n")
        content = _without_nan(self.tables()) | {"made with": self.made_with}
        _write_text(figures, json.dumps(content, indent=1) + "\n")
        written = [report, figures]
        for name, section in _SECTIONS.items():
            if scores := getattr(self, name):
                written.append(folder / f"{name}.csv")
                write_csv(written[-1], map(section.csv_row, scores))
        return written + self._write_plots(folder)

    def _write_plots(self, folder: Path) -> list[Path]:
        figures = {}
        if self.prompts:
            figures["iou.png"] = plots.iou_histograms(self.prompts)
            figures["predicted-iou.png"] = plots.predicted_against_true(self.prompts)
        if self.clicks:
            figures["clicks.png"] = plots.click_curve(self.clicks)
        for name, figure in figures.items():
            plots.save_plot(folder / name, figure)
        return [folder / name for name in figures]


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _without_nan(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Tables as JSON has them, which knows no NaN."""
    return {
        name: {
            row: {column: None if math.isnan(value) else value for column, value in figures.items()}
            for row, figures in table.items()
        }
        for name, table in tables.items()
    }
