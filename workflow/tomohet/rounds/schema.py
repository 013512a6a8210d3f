"""What the schema says of a section and its keys, and the defaults it holds."""

from tomohet.options.configuration import STAGES
from tomohet.options.schema import read_schema


def stages() -> list[str]:
    """Return the names of the sections whose keys become options of one command each, in the order of use."""
    return list(STAGES)


def keys_of(stage: str) -> dict[str, dict]:
    """Return the schema of every key of one section."""
    return read_schema()["properties"][stage]["properties"]


def with_defaults(config: dict) -> dict:
    """Return a copy of `config` with every key of the schema present; rounds stay as written."""
    complete = {}
    for name, node in read_schema()["properties"].items():
        given = config.get(name)
        if name in STAGES:
            defaults = {key: value.get("default") for key, value in keys_of(name).items()}
            complete[name] = {**defaults, **(given or {})}
        else:
            complete[name] = node.get("default") if given is None else given
    complete["rounds"] = {name: dict(options or {}) for name, options in complete["rounds"].items()}
    return complete
