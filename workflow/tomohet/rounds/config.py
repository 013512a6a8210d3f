"""Reads and checks the configuration: every mistake at once, each in plain words with its remedy."""

import difflib
import re
from pathlib import Path

from jsonschema import Draft202012Validator

from tomohet.errors import InputError
from tomohet.files.text import read_yaml
from tomohet.files.values import refuse_vast
from tomohet.options.schema import read_schema
from tomohet.rounds.inputs import WILDCARD, paths_of, selection_files
from tomohet.rounds.machines import machine_mistakes
from tomohet.rounds.network import network_mistakes
from tomohet.rounds.schema import stages, with_defaults
from tomohet.rounds.tree import tree_mistakes

TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section of keys",
    "null": "null",
}
MOST_PARTS = 10**6  # of a configuration, written out
# YAML 1.1 reads 1e-3 as text: its numbers need a point and a signed exponent.
LOOKS_LIKE_A_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_config(path: str | Path) -> dict:
    """Read the configuration in the YAML file `path`, check it, and fill in the defaults.

    Raises InputError naming every mistake in the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such configuration file")
    return complete_config(read_yaml(path) or {}, source=str(path))


def complete_config(config: dict, source: str = "config") -> dict:
    """`config` with the schema's defaults; raises InputError listing every mistake."""
    try:
        refuse_vast(config, MOST_PARTS)  # Snakemake reads its configuration itself
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    mistakes = config_mistakes(config)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise InputError("\n  ".join([f"{source}: {count} (config/README.md explains every key)", *mistakes]))
    return with_defaults(config)


def config_mistakes(config: dict) -> list[str]:
    """One line per mistake: `where: what was found, what is expected, remedy`."""
    if not isinstance(config, dict):
        return [f"found {_quoted(config)}, expected a section of keys such as 'dataset: demo'"]
    errors = Draft202012Validator(read_schema()).iter_errors(config)
    lines = [line for error in errors for line in _explain(error)]
    rounds = config.get("rounds")
    if isinstance(rounds, dict):
        lines += tree_mistakes(rounds)
    lines += network_mistakes(config) + machine_mistakes(config)
    lines += _missing_files(config) + _snakemakes_own(config)
    return sorted(set(lines), key=lines.index)


def _explain(error) -> list[str]:
    where = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = [key for key in error.instance if key not in known]
        return [f"{where}.{key}".lstrip(".") + f": unknown key{_nearest(key, known)}" for key in unknown]
    if error.validator == "required":
        absent = [key for key in error.validator_value if key not in error.instance]
        return [f"{where}.{key}".lstrip(".") + ": this key is required and is missing" for key in absent]
    if error.validator in ("oneOf", "anyOf") and error.context:
        return [line for inner in error.context for line in _explain(inner)][:1]
    return [f"{where}: found {_quoted(error.instance)}, expected {_expected(error)}"]


def _expected(error) -> str:
    if error.validator == "type":
        types = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
        words = " or ".join(TYPE_WORDS[name] for name in types)
        as_text = {"number", "integer"} & set(types) and isinstance(error.instance, str)
        if as_text and LOOKS_LIKE_A_NUMBER.fullmatch(error.instance.strip()):
            number = float(error.instance)
            plain = f"{number:.10f}".rstrip("0").rstrip(".") if abs(number) > 1e-9 else f"{number:.1e}"
            words += f": YAML reads {error.instance} as text, write {plain}"
        return words
    if error.validator == "enum":
        choices = [choice for choice in error.validator_value if choice is not None]
        return f"one of {', '.join(map(str, choices))}{_nearest(error.instance, choices)}"
    bounds = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "more than",
        "exclusiveMaximum": "less than",
        "minItems": "this many entries or more:",
        "maxItems": "this many entries or fewer:",
        "minProperties": "this many entries or more:",
    }
    if error.validator in bounds:
        return f"{bounds[error.validator]} {error.validator_value}"
    if error.validator == "pattern":
        return "letters, digits, '-', '_' or '.', beginning with a letter or digit"
    return error.message


def _missing_files(config: dict) -> list[str]:
    """Input files are looked for before anything runs, relative to the folder snakemake runs in."""
    lines = []
    for key in ("particles", "datadir", "volume_series"):
        name = config.get(key)
        if isinstance(name, str) and not Path(name).exists():
            lines.append(f"{key}: no such file or folder: {name} (looked for from {Path.cwd()})")
    model = config.get("model")
    for name in model if isinstance(model, list) else []:
        if isinstance(name, str) and not Path(name).is_file():
            lines.append(f"model: no such file: {name} (looked for from {Path.cwd()})")
    for round_name, options in (
        (config.get("rounds") or {}).items() if isinstance(config.get("rounds"), dict) else []
    ):
        for key, name in selection_files(options if isinstance(options, dict) else {}).items():
            if not Path(name).is_file():
                lines.append(
                    f"rounds.{round_name}.{key}: no such file: {name} (looked for from {Path.cwd()})"
                )
        lines += _missing_options(f"rounds.{round_name}.", options)
    return lines + _missing_options("", config)


def _missing_options(where: str, sections: object) -> list[str]:
    """Files and folders that options of the dataset or of a round name and that are not there."""
    return [
        f"{where}{stage}.{key}: no such file or folder: {name} (looked for from {Path.cwd()})"
        for stage in stages()
        if isinstance(sections, dict) and isinstance(sections.get(stage), dict)
        for key, names in paths_of(stage, sections[stage]).items()
        for name in names
        if not Path(name).exists()
    ]


def _snakemakes_own(config: dict) -> list[str]:
    """Input files whose names hold what Snakemake would take for a wildcard."""
    names = [(key, config.get(key)) for key in ("particles", "volume_series")]
    model, rounds = config.get("model"), config.get("rounds")
    names += [("model", name) for name in (model if isinstance(model, list) else [])]
    names += [
        (f"rounds.{name}.{key}", file)
        for name, options in (rounds.items() if isinstance(rounds, dict) else [])
        if isinstance(options, dict)
        for key, file in selection_files(options).items()
    ]
    return [
        f"{key}: found {name}: Snakemake takes {WILDCARD.search(name)[0]} in it for a wildcard; "
        "rename the folder or file, or give a link to it"
        for key, name in names
        if isinstance(name, str) and WILDCARD.search(name)
    ]


def _nearest(word: object, known: list) -> str:
    near = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(map(str, known))}"


def _quoted(value: object) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
