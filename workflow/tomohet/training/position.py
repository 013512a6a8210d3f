"""How far a training has come, and the losses of the epochs behind it."""

from dataclasses import dataclass, field
from pathlib import Path

from tomohet.files.digests import is_there
from tomohet.files.tables import read_csv
from tomohet.training.optimiser_step import LOSSES


@dataclass
class Position:
    """How far a training has come.

    epoch, step : `step` steps of `epoch` are done
    sums, seconds : summed losses of the epoch, and the time that it has taken
    history : losses of the epochs before
    ended : why the training has ended before its last epoch, "" if it goes on
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(LOSSES))
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    ended: str = ""


def losses_until(weights: Path, last: int) -> list[dict]:
    """Read the losses of the epochs up to `last` from the loss.csv beside the weights, if there is one."""
    table = weights.parent / "loss.csv"
    if not is_there(table):
        return []
    losses = read_csv(table, dict.fromkeys(("epoch", *LOSSES), "numbers"))
    return losses[losses["epoch"] <= last].to_dict("records")
