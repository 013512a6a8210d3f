"""What the command-line scripts share: options, logging, errors, and the `tomohet <command>` dispatch."""

import os
import sys
from pathlib import Path

# Read when PyTorch loads its OpenMP: threads that wait shall sleep. Spinning, they take the cores from those
# that work, and a training on a machine that does something else besides becomes three times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# `python workflow/scripts/x.py` puts that folder first on the module path, where the command `select.py`
# would hide the standard library's `select` (and with it subprocess, asyncio, multiprocessing).
sys.path[:] = [entry for entry in sys.path if entry == "" or Path(entry).resolve() != SCRIPTS]

from tomohet.cli import options  # noqa: E402
from tomohet.cli.dispatch import commands, main  # noqa: E402
from tomohet.cli.logs import log_to  # noqa: E402
from tomohet.cli.outputs import take_output  # noqa: E402
from tomohet.cli.run import command  # noqa: E402

__all__ = ["SCRIPTS", "command", "commands", "log_to", "main", "options", "take_output"]
