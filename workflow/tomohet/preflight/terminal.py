"""The pre-flight check on a terminal."""

from collections.abc import Sequence
from pathlib import Path

from tomohet.preflight.check import Check, overall

COLOURS = {"pass": "32", "look": "33", "stop": "31"}
MEANING = {
    "pass": "all checks passed",
    "look": "look at these before you compute",
    "stop": "this must be corrected first",
}


def summary(checks: Sequence[Check], page: Path, colour: bool) -> str:
    """Format one aligned line per check, then the overall verdict and the location of the page."""
    width = max(len(check.name) for check in checks)
    lines = [
        f"{_painted(check.verdict, colour)}  {check.name:{width}}  {check.message}"
        + (f"  → {check.remedy}" if check.remedy else "")
        for check in checks
    ]
    verdict = overall(checks)
    raised = sum(check.verdict != "pass" for check in checks)
    number = f"{raised} of {len(checks)} checks: " if raised else ""
    return "\n".join([*lines, "", f"{_painted(verdict, colour)}  {number}{MEANING[verdict]}; see {page}"])


def _painted(verdict: str, colour: bool) -> str:
    return f"\033[1;{COLOURS[verdict]}m{verdict}\033[0m" if colour else verdict
