"""Progress of long computations: a bar on a terminal, an occasional log line elsewhere."""

import logging
import os
import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LOG_LINES = 30

log = logging.getLogger(__name__)


class QuietProgress(tqdm):
    """A `tqdm` that writes to the log instead of redrawing a bar."""

    def display(self, *_args, **_kwargs) -> None:
        """Log count, rate and time left, at most once in `SECONDS_BETWEEN_LOG_LINES`."""
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LOG_LINES:
            return
        self._last_line = now
        numbers = self.format_dict
        rate = numbers["rate"] or numbers["n"] / max(numbers["elapsed"], 1e-9)
        left = (numbers["total"] - numbers["n"]) / rate if numbers["total"] and rate else float("nan")
        log.info(
            "%s: %s of %s, %.3g %s/s, %.0f s left",
            self.desc.rstrip(": "),
            numbers["n"],
            numbers["total"],
            rate,
            self.unit,
            left,
        )

    def __init__(self, *args, **kwargs) -> None:
        self._last_line = time.monotonic()
        super().__init__(*args, **kwargs)


def track(iterable=None, *, total: int | None = None, unit: str, description: str) -> tqdm:
    """Track progress over `iterable`, or over `total` units reported with `.update(n)`.

    A terminal gets a bar with rate and time left; a log file gets one line every half minute.
    """
    bar = tqdm if sys.stderr.isatty() else QuietProgress
    return bar(
        iterable,
        total=total,
        unit=f" {unit}" if bar is tqdm else unit,
        desc=description,
        leave=False,
        # Only the first of several processes that train together reports.
        disable=os.environ.get("RANK", "0") != "0",
    )
