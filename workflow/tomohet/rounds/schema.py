"""The configuration's schema: where it is, what it says of a key, and the defaults it holds.

Beside JSON-Schema's own words a key may carry `unit` (of the number), `flag` (the command-line option it
becomes when that is not the key's own name; null: none).
"""

from functools import cache
from pathlib import Path

import yaml

SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "config.schema.yaml"


@cache
def read_schema() -> dict:
    """The schema as a dictionary."""
    return yaml.safe_load(SCHEMA.read_text())


def resolve(node: dict) -> dict:
    """The schema `node` itself, or the definition its `$ref` points to, with the node's own words added."""
    if "$ref" not in node:
        return node
    target = read_schema()
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def stages() -> list[str]:
    """Names of the config's sections that become options of one command each, in the order of the schema."""
    return [
        name
        for name, node in read_schema()["properties"].items()
        if resolve(node).get("type") == "object" and name != "rounds"
    ]


def keys_of(stage: str) -> dict[str, dict]:
    """Schema of every key of one stage."""
    return {
        name: resolve(node)
        for name, node in resolve(read_schema()["properties"][stage])["properties"].items()
    }


def with_defaults(config: dict) -> dict:
    """A copy of `config` with every key of the schema present; rounds stay as written."""
    complete = {}
    for name, node in read_schema()["properties"].items():
        node = resolve(node)
        given = config.get(name)
        if node.get("type") == "object" and name != "rounds":
            defaults = {key: value.get("default") for key, value in keys_of(name).items()}
            complete[name] = {**defaults, **(given or {})}
        else:
            complete[name] = node.get("default") if given is None else given
    complete["rounds"] = {name: dict(options or {}) for name, options in complete["rounds"].items()}
    return complete
