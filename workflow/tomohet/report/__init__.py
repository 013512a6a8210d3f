"""One self-contained HTML page about everything in a results folder."""

from tomohet.report.page import write_report

__all__ = ["write_report"]
