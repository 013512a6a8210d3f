"""Write a self-contained HTML page about all results of a data set."""

import logging
from pathlib import Path

from tomohet.options import ReportOptions
from tomohet.report import write_report
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ReportOptions) -> Path:
    """Collect the results and write the page; return its path."""
    path = write_report(options.results, options.output)
    log.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    return path
