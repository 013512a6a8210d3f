"""Config keys as command-line options: `batch_size: 8` -> `--batch-size 8`, `flip: true` -> `--flip`."""

import shlex

from tomohet.options import SelectOptions
from tomohet.options.command_line import flags_of
from tomohet.options.selection import Selection, is_particle_list
from tomohet.rounds.schema import keys_of


def flag_of(stage: str, key: str) -> str | None:
    """Return the flag that `key` of `stage` becomes, or None if the workflow itself reads the key."""
    return keys_of(stage)[key]["flag"]


def command_line(stage: str, options: dict) -> str:
    """Write the options of a stage as shell words.

    null, false and empty lists are left out, true is the bare flag, other lists are spread. A key that names
    one in its schema (`off_flag`) gives that flag for false.
    """
    words = []
    for key, given in options.items():
        flag = flag_of(stage, key)
        # YAML reads a bare `off` as false.
        is_off = given is False and "off" in keys_of(stage).get(key, {}).get("enum", [])
        value = "off" if is_off else given
        if value is False and "off_flag" in keys_of(stage).get(key, {}):
            words.append(keys_of(stage)[key]["off_flag"])
            continue
        if flag is None or value is None or value is False or value == []:
            continue
        words.append(flag)
        if isinstance(value, list):
            words += [str(entry) for entry in value]
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def selection_line(given: dict) -> str:
    """Write the keys of a round that choose its particles as shell words of `tomohet select`."""
    words = []
    for key, name in {"select": "query", **{name: name for name in Selection.model_fields}}.items():
        value = given.get(key)
        if value is not None:
            words.append(flags_of(name, SelectOptions.model_fields[name])[-1])
            words += [str(entry) for entry in (value if isinstance(value, list) else [value])]
    return shlex.join(words)


def selection_words(given: dict) -> str:
    """Say how a round's particles are chosen, by its query and the other keys; "" for all particles."""
    said = [str(given["select"])] if given.get("select") else []
    for name in Selection.model_fields:
        value = given.get(name)
        if value is not None and (name != "sample_seed" or given.get("sample") is not None):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            said.append(f"{name} {text}")
    return "; ".join(said)


def query_of_all(given: dict) -> str | None:
    """Join the queries that choose a round's particles; None where something else chooses as well.

    What chose the particles of a list or of labels is not known, and confidences come from the images.
    """
    excluded = given.get("exclude")
    if any(given.get(name) is not None for name in ("indices", "labels", "min_confidence")):
        return None
    if not given.get("select") or (excluded and is_particle_list(excluded)):
        return None
    return f"({given['select']}) and not ({excluded})" if excluded else given["select"]
