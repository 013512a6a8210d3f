"""Command line: `tomohet COMMAND`, and scripts named after the commands."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# `python workflow/scripts/x.py` puts that folder first on the module path. The command `select.py` there
# would hide the standard library's `select` (and break subprocess, asyncio and multiprocessing).
sys.path[:] = [entry for entry in sys.path if entry == "" or Path(entry).resolve() != SCRIPTS]

from tomohet.cli.loading import ended_by_interrupts  # noqa: E402

with ended_by_interrupts():
    from tomohet.cli.dispatch import commands, main, options_of, run_command

__all__ = ["SCRIPTS", "commands", "main", "options_of", "run_command"]
