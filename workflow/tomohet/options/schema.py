"""The configuration's JSON schema, made from the models of options.

Beside the words of JSON Schema a key carries `unit` (of its number), `flag` (the command-line option that it
becomes; None where the workflow itself reads it), `off_flag` (what false becomes), `path` (it names a file
or folder, which must be there), and `words` (values that name no file).
"""

from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from tomohet.options.annotations import Kind, kind_of
from tomohet.options.base import CONFIG_ONLY, Options, words_of
from tomohet.options.command_line import flags_of
from tomohet.options.configuration import NAME, STAGES, WORKFLOW_DEFAULTS, Dataset, Round, Stage
from tomohet.options.kinds import OR_NUMBER, FileUnless

CLOSED = {"additionalProperties": False}
TYPES = {bool: "boolean", int: "integer", float: "number"}
LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
    "min_length": "minItems",
}


@cache
def read_schema() -> dict:
    """Return the schema of the whole configuration as a dictionary."""
    sections = {name: _section(name, stage) for name, stage in STAGES.items()}
    of_rounds = {name: sections[name] for name, stage in STAGES.items() if stage.of_rounds}
    one_round = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": _keys(Round) | of_rounds,
    }
    rounds = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME},
        "description": "The tree of rounds, each trained on its own particles.",
        "additionalProperties": one_round,
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["dataset", "rounds"],
        "properties": _keys(Dataset) | sections | {"rounds": rounds},
    }


def _section(name: str, stage: Stage) -> dict:
    keys = {}
    for word in stage.keys.split():
        key, _, field_name = word.partition("=")
        field_name = field_name or key
        field = stage.model.model_fields[field_name]
        default = WORKFLOW_DEFAULTS.get(name, {}).get(key, field.default)
        keys[key] = _node(field, default) | _flags(field_name, field)
    keys |= _keys(stage.own) if stage.own else {}
    return {
        "type": "object",
        "description": stage.meaning,
        "properties": keys,
    } | CLOSED


def _keys(model: type[Options]) -> dict[str, dict]:
    """Return the schema of the keys that the workflow itself reads."""
    return {name: _node(field, field.default) | {"flag": None} for name, field in model.model_fields.items()}


def _flags(name: str, field: FieldInfo) -> dict[str, str | None]:
    if words_of(field).flags == (CONFIG_ONLY,):
        return {"flag": None}
    flag = flags_of(name, field)[-1]
    off: dict[str, str | None] = {"off_flag": flag.replace("--", "--no-", 1)} if field.default is True else {}
    return {"flag": flag} | off


def _node(field: FieldInfo, default: Any) -> dict:
    """Type, range, default and meaning of one key."""
    kind = kind_of(field)
    one: dict[str, Any] = _value(kind)
    if kind.count is not None:
        fixed = {} if kind.count is ... else dict.fromkeys(("minItems", "maxItems"), kind.count)
        one = {"type": ["array"], "items": _plain(one)} | fixed | _limits(kind.whole)
    if kind.optional:
        one["type"] = [*one["type"], "null"]
        if "enum" in one:
            one["enum"] = [*one["enum"], None]
    node = _plain(one) | _paths(kind) | {"description": field.description}
    if not field.is_required():
        node["default"] = list(default) if isinstance(default, tuple) else default
    if unit := words_of(field).unit:
        node["unit"] = unit
    return node


def _value(kind: Kind) -> dict:
    """Return the schema of a single value; its `type` is a list."""
    first = kind.types[0]
    if isinstance(first, type) and is_dataclass(first):
        schema = TypeAdapter(first).json_schema()
        return {"type": ["object"]} | {key: schema[key] for key in ("properties", "required")} | CLOSED
    types = list(dict.fromkeys(TYPES.get(one, "string") for one in kind.types))
    if OR_NUMBER in kind.marks:
        types = ["number", "string"]
    choices = list(kind.choices)
    if "off" in choices:  # YAML reads a bare `off` as false
        types, choices = [*types, "boolean"], [*choices, False]
    return {"type": types} | ({"enum": choices} if choices else {}) | _limits(kind.marks)


def _limits(marks: tuple) -> dict:
    return {
        word: getattr(mark, name)
        for mark in marks
        for name, word in LIMITS.items()
        if getattr(mark, name, None) is not None
    }


def _paths(kind: Kind) -> dict:
    words = [word for mark in kind.marks if isinstance(mark, FileUnless) for word in mark.words]
    if words:
        return {"path": True, "words": words}
    return {"path": True} if Path in kind.types else {}


def _plain(node: dict) -> dict:
    """Write a list of one type as that type."""
    types = node.get("type")
    return node | {"type": types[0]} if isinstance(types, list) and len(types) == 1 else node
