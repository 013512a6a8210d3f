"""Schedules over a training: the weight beta of the KL term, and the learning rate."""

import math

# (first value, last value, first iteration, last iteration); an iteration is one particle seen.
_LINEAR = {
    "a": (0.001, 15.0, 0, 1_000_000),
    "b": (5.0, 15.0, 200_000, 800_000),
    "c": (5.0, 18.0, 200_000, 800_000),
    "d": (5.0, 18.0, 1_000_000, 5_000_000),
}
_CYCLES = 4
BETA_LETTERS = (*_LINEAR, "e")


def beta_at(schedule: str | float, seen: int, total: int) -> float:
    """beta after `seen` of `total` particles (epochs times particles).

    A number is constant. a-d rise linearly between fixed particle counts; e repeats four cycles over the
    training, each rising from 0 to 1 over its first half (Fu et al. 2019, cyclical annealing).
    """
    if schedule in _LINEAR:
        first, last, start, end = _LINEAR[schedule]
        share = min(max((seen - start) / (end - start), 0.0), 1.0)
        return first + share * (last - first)
    if schedule == "e":
        period = max(total // _CYCLES, 1)
        if seen >= period * _CYCLES:
            return 1.0
        return min((seen % period) / (period * 0.5), 1.0)
    return float(schedule)


def learning_rate_factor(schedule: str, warmup: float, progress: float) -> float:
    """Factor on the base learning rate at `progress` (0 to 1) of the training.

    It rises linearly over the first `warmup` share; then `constant`, or `cosine` down to 0 (Loshchilov and
    Hutter 2017).
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
