"""The end of a training that goes wrong: its message, and the rise of the loss that counts as divergence."""

from typing import NoReturn

from tomohet.errors import InputError

DIVERGED = 10.0  # times the smallest epoch loss so far


def refuse_rise(plan, position, gen: float) -> None:
    """Raise InputError when an epoch's reconstruction loss is far above the best epoch's.

    The loss depends on which frequencies are fitted, so only epochs with the same limit compare.
    """
    alike = plan.frequency(position.epoch)
    past = [row["gen"] for row in position.history if plan.frequency(row["epoch"]) == alike]
    best = min(past, default=gen)
    if gen > DIVERGED * best:
        give_up(plan, position, f"the reconstruction loss rose to {gen:.3g}, from {best:.3g} at its best")


def give_up(plan, position, reason: str) -> NoReturn:
    """Raise the InputError of a training that diverged: where, why, and what to try."""
    done = [row["epoch"] for row in position.history]
    last = f"the last good weights are those of epoch {done[-1]}" if done else "no epoch was completed"
    raise InputError(
        f"training diverged in epoch {position.epoch}, step {position.step}: {reason}; {last}. "
        f"Try a lower --lr (now {plan.learning_rate:.3g} per step) or look for broken images with "
        "`tomohet validate`"
    )
