"""One verdict of the pre-flight check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "look", "stop"]
SEVERITY: tuple[Verdict, ...] = ("pass", "look", "stop")


@dataclass(frozen=True)
class Check:
    """One verdict with its reason and the remedy (empty when all is well).

    Verdicts: "pass"; "look": unusual, the user should look; "stop": cannot be right.
    """

    name: str
    verdict: Verdict
    message: str
    remedy: str = ""


def overall(checks: Sequence[Check]) -> Verdict:
    """Return the most severe verdict."""
    return SEVERITY[max(SEVERITY.index(check.verdict) for check in checks)]
