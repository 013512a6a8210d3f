"""Rules for values that were read from a file, which are checked before anything is built from them."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tomohet.errors import InputError


class Rule(NamedTuple):
    """A requirement on a value, in words and as a test."""

    words: str
    holds: Callable[[object], bool]


def whole(low: int, high: int) -> Rule:
    """Require a whole number from `low` to `high`."""

    def holds(value: object) -> bool:
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            return False
        return bool(low <= value <= high)

    return Rule(f"a whole number from {low} to {high}", holds)


def number(low: float, high: float) -> Rule:
    """Require a finite number from `low` to `high`."""

    def holds(value: object) -> bool:
        if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
            return False
        return bool(low <= value <= high) and math.isfinite(value)

    return Rule(f"a number from {low:g} to {high:g}", holds)


def one_of(*known: str | bool) -> Rule:
    """Require one of a few texts."""
    return Rule(
        "one of " + ", ".join(map(str, known)), lambda value: type(value) in (str, bool) and value in known
    )


def maybe(rule: Rule) -> Rule:
    """Require nothing, or what `rule` requires."""
    return Rule(f"none, or {rule.words}", lambda value: value is None or rule.holds(value))


def kind(words: str, *types: type) -> Rule:
    """Require a value of one of these types."""
    return Rule(words, lambda value: isinstance(value, types))


FLAG = one_of(True, False)
TEXT, MAPPING, LIST = kind("text", str), kind("a mapping", dict), kind("a list", list, tuple)


def hold_to(values: object, rules: dict[str, Rule], where: str | Path, optional: Iterable[str] = ()) -> None:
    """Raise InputError, naming the first key, unless `values` is a mapping that satisfies all the rules.

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


def refuse_vast(value: object, most: int) -> None:
    """Raise ValueError when a value, written out, has more than `most` parts, or contains itself.

    Lists that share their parts may be small in a file and in memory, but endless when they are traversed.
    Each list is visited once.
    """
    parts: dict[int, int] = {}  # number of parts of each value counted so far
    begun: set[int] = set()
    waiting = [value]
    while waiting:
        here = waiting[-1]
        items = _items(here)
        inner = [item for item in items if not isinstance(item, _LEAVES)]
        if id(here) in parts:
            waiting.pop()
        elif id(here) in begun:
            parts[id(here)] = 1 + len(items) + sum(parts[id(item)] for item in inner)
            if parts[id(here)] > most:
                raise ValueError(f"written out it would have more than {most:,} parts")
            waiting.pop()
        else:
            begun.add(id(here))
            if any(id(item) in begun and id(item) not in parts for item in inner):
                raise ValueError("it is a part of itself")
            waiting += inner


def _items(value: object) -> list | tuple | set | frozenset:
    """Return the parts of a value."""
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype.hasobject else []
    return list(getattr(value, "__dict__", {}).values())


_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None), np.generic, np.dtype, type)
