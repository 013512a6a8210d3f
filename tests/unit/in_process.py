"""A command run in the test's own process, which takes a fraction of a second instead of several."""

import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"


def run_here(monkeypatch, name: str, *arguments) -> int:
    """Run a command as `tomohet NAME ARGUMENTS`; its exit status."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    try:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    except SystemExit as ended:
        return ended.code or 0
    return 0
