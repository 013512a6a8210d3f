"""Schedules over a training: the weight beta of the KL term, the learning rate, the highest frequency."""

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
MARCH_FROM = 0.25  # fraction of the highest frequency at which frequency marching starts


def beta_at(schedule: str | float, seen: int, total: int) -> float:
    """Return beta after `seen` of `total` particles (epochs times particles).

    A number is constant. Schedules a-d rise linearly between fixed particle counts. Schedule e repeats four
    cycles over the training, each rising from 0 to 1 over its first half (Fu et al. 2019, cyclical
    annealing).
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
    """Return the factor on the base learning rate at `progress` (0 to 1) of the training.

    It rises linearly over the first `warmup` fraction; then it stays `constant`, or falls as a `cosine` to 0
    (Loshchilov and Hutter 2017).
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def frequency_share(march: float, epoch: int, epochs: int) -> float:
    """Return the highest frequency fitted in an epoch as a fraction of that of the whole training.

    It grows from a quarter, in equal steps, over the first `march` fraction of the epochs (frequency
    marching). The last epoch always fits all frequencies.
    """
    marching = min(round(march * epochs), epochs - 1)
    return MARCH_FROM + (1 - MARCH_FROM) * epoch / marching if epoch < marching else 1.0
