"""The last lines of the log, in memory, for the status page."""

import logging
from collections import deque
from dataclasses import dataclass

LINES = 200
LOGGERS = ("samlet", "samlet_labelstudio")


@dataclass(frozen=True)
class LogLine:
    """A line of the log.

    Attributes:
        text: with its time and level.
        is_problem: whether it is a warning about a request, or an error.
    """

    text: str
    is_problem: bool


class RecentLog(logging.Handler):
    """Keeps the last lines; only those that are logged after `attach`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._lines: deque[LogLine] = deque(maxlen=LINES)

    def attach(self) -> None:
        """Begin to listen."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; a traceback stays in the log."""
        stamp = self.formatter.formatTime(record) if self.formatter else ""
        text = f"{stamp} {record.levelname} {record.getMessage()}"
        is_request = record.name.startswith("samlet_labelstudio.server")
        self._lines.append(LogLine(text, record.levelno >= logging.ERROR or is_request))

    def lines(self) -> list[LogLine]:
        """The last lines, the newest first."""
        return list(reversed(self._lines))

    def last_problem(self) -> str | None:
        """The newest error, or refused request; None if there is none."""
        return next((line.text for line in self.lines() if line.is_problem), None)
