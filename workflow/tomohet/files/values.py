"""Rules for the values of a mapping that was read from a file: checked before anything is built of them."""

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

from tomohet.errors import InputError


class Rule(NamedTuple):
    """What a value must be, in words, and whether one is."""

    words: str
    holds: Callable[[object], bool]


def whole(low: int, high: int) -> Rule:
    """A whole number from `low` to `high`."""

    def holds(value: object) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high

    return Rule(f"a whole number from {low} to {high}", holds)


def number(low: float, high: float) -> Rule:
    """A finite number from `low` to `high`."""

    def holds(value: object) -> bool:
        return (
            isinstance(value, Real)
            and not isinstance(value, bool)
            and low <= value <= high
            and math.isfinite(value)
        )

    return Rule(f"a number from {low:g} to {high:g}", holds)


def one_of(*known: str | bool) -> Rule:
    """One of a few texts."""
    return Rule(
        "one of " + ", ".join(map(str, known)), lambda value: type(value) in (str, bool) and value in known
    )


def maybe(rule: Rule) -> Rule:
    """Nothing, or what `rule` says."""
    return Rule(f"none, or {rule.words}", lambda value: value is None or rule.holds(value))


def kind(words: str, *types: type) -> Rule:
    """A value of one of these types."""
    return Rule(words, lambda value: isinstance(value, types))


FLAG = one_of(True, False)
TEXT, MAPPING, LIST = kind("text", str), kind("a mapping", dict), kind("a list", list, tuple)


def hold_to(values: object, rules: dict[str, Rule], where: str | Path, optional: Iterable[str] = ()) -> None:
    """Raise InputError, naming the first key, unless `values` is a mapping that keeps all the rules.

    optional : keys that may be left out
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, expected a mapping of names to values")
    for key, rule in rules.items():
        if key not in values:
            if key in optional:
                continue
            raise InputError(f"{where}: '{key}' is missing, expected {rule.words}")
        if not rule.holds(values[key]):
            found = repr(values[key])[:60]
            raise InputError(f"{where}: {key} is {found}, expected {rule.words}")
