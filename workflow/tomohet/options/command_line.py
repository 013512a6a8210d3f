"""Command lines from the models of options: flags, the parser, and the values that a user gave."""

import argparse
from collections.abc import Sequence
from inspect import get_annotations
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from tomohet.errors import InputError
from tomohet.options.annotations import kind_of
from tomohet.options.base import CONFIG_ONLY, POSITIONAL, Options, words_of

EXPECTED = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "True or False",
    "literal_error": "{expected}",
}


def flags_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Return the flags of a field; none of a positional argument."""
    flags = words_of(field).flags
    if flags in ((POSITIONAL,), (CONFIG_ONLY,)):
        return ()
    return flags or ("--" + name.replace("_", "-"),)


def parser_of(model: type[Options], command: str, description: str) -> argparse.ArgumentParser:
    """Build the parser of a command."""
    epilog = getattr(model, "epilog", None)
    parser = argparse.ArgumentParser(prog=f"tomohet {command}", description=description, epilog=epilog)
    groups: dict[str, Any] = {"": parser}
    alternatives = {}
    for rules, required in ((model.exclusive, False), (model.one_of, True)):
        for names in rules:
            group = parser.add_mutually_exclusive_group(required=required)
            alternatives |= dict.fromkeys(names, group)
    for name, section in _in_order(model):
        field = model.model_fields[name]
        if words_of(field).flags == (CONFIG_ONLY,):
            continue
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        _add(alternatives.get(name, groups[section]), name, field)
    return parser


def _in_order(model: type[Options]) -> list[tuple[str, str]]:
    """Name and section of every field: the command's own first, then those of the groups, in their order."""
    sections: dict[str, str] = {}
    for cls in model.__mro__:
        if issubclass(cls, Options):
            for name in get_annotations(cls):
                if name in model.model_fields:
                    own = words_of(model.model_fields[name]).section
                    sections.setdefault(name, own if own is not None else vars(cls).get("section", ""))
    return list(sections.items())


def _add(group: Any, name: str, field: FieldInfo) -> None:
    kind, flags = kind_of(field), flags_of(name, field)
    one = kind.types[0] if len(kind.types) == 1 else str
    metavar = words_of(field).metavar
    words: dict[str, Any] = {"help": _help(field), "default": argparse.SUPPRESS}
    if one is bool and metavar is None:
        words["action"] = argparse.BooleanOptionalAction if field.default is True else "store_true"
    elif one is bool:
        words |= {"nargs": "?", "const": True, "metavar": metavar}
    else:
        words |= {"type": one if one in (int, float, Path) else str}
        words |= {"choices": kind.choices} if kind.choices else {}
        if isinstance(kind.count, int):
            words["nargs"] = kind.count
        elif kind.count is ...:
            words["nargs"] = "+"
        if metavar is not None:
            several = isinstance(kind.count, int) and " " in metavar
            words["metavar"] = tuple(metavar.split()) if several else metavar
    if not flags:
        del words["default"]
        group.add_argument(name, **words)
    else:
        required = {"required": True} if field.is_required() else {}
        group.add_argument(*flags, dest=name, **words, **required)


def _help(field: FieldInfo) -> str:
    meaning = (field.description or "").removesuffix(".").replace("%", "%%")
    unit = words_of(field).unit
    meaning += f", {unit}" if unit else ""
    default = field.default
    if field.is_required() or default is None or isinstance(default, bool) or default == ():
        return meaning
    between = "/" if "/" in (words_of(field).metavar or "") else " "
    shown = between.join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{meaning} (default: {shown})"


def parsed(model: type[Options], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> Options:
    """Read the options from command-line words (default: those of the process).

    Raises InputError for values outside of their range; exits with status 2 as argparse does.
    """
    return checked(model, vars(parser.parse_args(argv)))


def checked(model: type[Options], values: dict) -> Options:
    """Make the options; raises InputError that names each flag, what was found and what was expected."""
    try:
        return model(**values)
    except ValidationError as error:
        raise InputError("; ".join(_mistakes(model, error))) from None


def _mistakes(model: type[Options], error: ValidationError) -> list[str]:
    expected: dict[str, list[str]] = {}
    found: dict[str, object] = {}
    rules = []
    for one in error.errors():
        context = one.get("ctx", {})
        if not one["loc"]:  # a rule about several options
            rules.append(str(context["error"]))
            continue
        name = str(one["loc"][0])
        words = EXPECTED.get(one["type"], "")
        text = words.format(**context) if words else one["msg"].removeprefix("Value error, ")
        expected.setdefault(name, []).append(text.removeprefix("expected "))
        found[name] = one["input"]
    lines = []
    for name, texts in expected.items():
        flags = flags_of(name, model.model_fields[name]) if name in model.model_fields else ()
        lines.append(f"{flags[-1] if flags else name} {found[name]}: expected {' or '.join(texts)}")
    return lines + rules
