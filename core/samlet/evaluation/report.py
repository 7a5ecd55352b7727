"""Everything that was measured, as tables to read, and as CSV files and plots to keep."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from samlet.evaluation import agreement, clicks, plots
from samlet.evaluation import everything_mode as everything
from samlet.evaluation import single_prompts as prompts
from samlet.evaluation.agreement import AgreementScore
from samlet.evaluation.clicks import TARGETS, ClickScore
from samlet.evaluation.everything_mode import EverythingScore
from samlet.evaluation.single_prompts import ObjectScore
from samlet.evaluation.tables import Table, format_table, write_csv
from samlet.utils.files import atomic_path


@dataclass
class Report:
    """The scores of one model; what was not measured stays empty.

    Attributes:
        prompts: one click, random click and box.
        clicks: corrective clicks.
        everything: everything mode.
        agreement: with a teacher.
        targets: IoUs that corrective clicks should reach.
        notes: paragraphs on the labels: how many images have some, and what was left out.
    """

    prompts: list[ObjectScore] = field(default_factory=list)
    clicks: list[ClickScore] = field(default_factory=list)
    everything: list[EverythingScore] = field(default_factory=list)
    agreement: list[AgreementScore] = field(default_factory=list)
    targets: Sequence[float] = TARGETS
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Write the tables of all that was measured, as Markdown."""
        titles = {
            "prompts": ("Mean IoU for one prompt", "images"),
            "clicks": ("Corrective clicks", "images"),
            "everything": ("Everything mode", "images"),
            "agreement": ("Agreement with the teacher", "prompt"),
        }
        return "\n\n".join(
            f"{titles[name][0]}\n\n{format_table(table, titles[name][1])}"
            for name, table in self.tables().items()
        )

    def tables(self) -> dict[str, Table]:
        """The mean figures of all that was measured, by the name of the measurement."""
        tables = {
            "prompts": prompts.summary(self.prompts),
            "clicks": clicks.summary(self.clicks, self.targets),
            "everything": everything.summary(self.everything),
            "agreement": agreement.summary(self.agreement),
        }
        return {name: table for name, table in tables.items() if table}

    def write(self, folder: Path) -> list[Path]:
        """Write `report.md`, a CSV file for each measurement, and then the plots.

        Returns:
            the files, of those measurements that were made.

        Raises:
            UserError: a file cannot be written, or matplotlib is missing (all but the plots is
                written then; `samlet.evaluation.plots.new_figure` tells before).
        """
        report = folder / "report.md"
        with atomic_path(report) as temporary:
            paragraphs = [self.text(), *self.notes]
            temporary.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
        lines = {
            "prompts": [asdict(score) for score in self.prompts],
            "clicks": [clicks.csv_row(score, self.targets) for score in self.clicks],
            "everything": [everything.csv_row(score) for score in self.everything],
            "agreement": [asdict(score) for score in self.agreement],
        }
        written = [report]
        for name, rows in lines.items():
            if rows:
                written.append(folder / f"{name}.csv")
                write_csv(written[-1], rows)
        return written + self._plot(folder)

    def _plot(self, folder: Path) -> list[Path]:
        figures = {}
        if self.prompts:
            figures["iou.png"] = plots.iou_histograms(self.prompts)
            figures["predicted-iou.png"] = plots.predicted_against_true(self.prompts)
        if self.clicks:
            figures["clicks.png"] = plots.click_curve(self.clicks, self.targets)
        for name, figure in figures.items():
            plots.save_plot(folder / name, figure)
        return [folder / name for name in figures]
