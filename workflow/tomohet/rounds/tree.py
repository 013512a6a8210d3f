"""The tree of rounds: each takes particles from its parent, the root from the whole dataset."""

import ast
import difflib

from tomohet.errors import InputError
from tomohet.options.selection import FILES, is_particle_list
from tomohet.rounds.layout import (
    CONFIG,
    DATASET_STAGES,
    LINEAGE,
    LINEAGE_FIGURES,
    METHODS,
    REPORT,
    SERVED,
)
from tomohet.rounds.polygons import polygons
from tomohet.rounds.select import QUOTED_NAME

RESERVED = {CONFIG, REPORT, SERVED, LINEAGE, METHODS, *LINEAGE_FIGURES} | {
    stage.folder for stage in DATASET_STAGES
}

WAYS = ("select", "indices", "labels")  # of naming a round's particles


def stage_start(config: dict, stage: str, round_name: str) -> tuple[str | None, str | None]:
    """Return the round whose linear model a round's stage `train` starts from, and the round of its weights.

    Both are None where the stage starts from nothing; the second is None without `init: parent`.
    """
    init, warm, name = stage_options(config, stage, round_name)["init"], None, round_name
    while init == "parent":
        parent = config["rounds"][name]["parent"]
        warm = warm or parent
        name, init = parent, stage_options(config, stage, parent)["init"]
    return (name if init == "linear" else None), warm


def tree_mistakes(rounds: dict) -> list[str]:
    """List what JSON Schema cannot see: missing parents, cycles, reserved names, unreadable queries."""
    lines = []
    options = {name: value if isinstance(value, dict) else {} for name, value in rounds.items()}
    for name, given in options.items():
        parent = given.get("parent")
        if name in RESERVED:
            lines.append(
                f"rounds.{name}: this name is a folder or file of the dataset; call the round otherwise"
            )
        if isinstance(parent, str) and parent not in options:
            near = difflib.get_close_matches(parent, options, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            lines.append(f"rounds.{name}.parent: no round '{parent}'; there are {', '.join(options)}{hint}")
        lines += _selection_mistakes(name, given)
    return lines + _cycle_mistakes(options)


def _selection_mistakes(name: str, given: dict) -> list[str]:
    lines = []
    ways = [key for key in WAYS if given.get(key) is not None]
    if len(ways) > 1:
        both = "both " if len(ways) == 2 else ""
        quoted = [f"'{way}'" for way in ways]
        lines.append(f"rounds.{name}: has {both}{', '.join(quoted[:-1])} and {quoted[-1]}; keep one")
    if (given.get("labels") is None) != (given.get("keep") is None):
        found, missing = ("labels", "keep") if given.get("keep") is None else ("keep", "labels")
        lines.append(f"rounds.{name}: has '{found}' without '{missing}'; they belong together")
    for key in ("select", "exclude"):
        query = given.get(key)
        if isinstance(query, str) and not (key == "exclude" and is_particle_list(query)):
            lines += _query_mistakes(f"rounds.{name}.{key}", query)
    for key in ("indices", "labels"):
        file = given.get(key)
        if isinstance(file, str) and not is_particle_list(file):
            lines.append(f"rounds.{name}.{key}: found {file}, expected a file {' or '.join(FILES)}")
    return lines


def _query_mistakes(where: str, query: str) -> list[str]:
    try:
        polygons(ast.parse(QUOTED_NAME.sub("column", query).strip(), mode="eval"), query)
    except SyntaxError:
        example = "maven_A > 0.5 and kmeans in [0, 2]"
        return [f"{where}: '{query}' is not a query; a query looks like: {example}"]
    except InputError as error:
        return [f"{where}: {error}"]
    return []


def _cycle_mistakes(options: dict[str, dict]) -> list[str]:
    lines = []
    reported = set()
    # A parent that is no text is a mistake of its own.
    parents = {name: str(given.get("parent")) for name, given in options.items()}
    for name in options:
        path = [name]
        while (parent := parents[path[-1]]) in options and parent not in path:
            path.append(parent)
        if parent in path and not reported & set(path):
            circle = [*path[path.index(parent) :], parent]
            reported |= set(circle)
            lines.append(
                f"rounds.{circle[0]}.parent: the rounds go in a circle: {' -> '.join(circle)}; "
                "one of them must have no parent"
            )
    return lines


def parents_first(rounds: dict) -> list[str]:
    """Names of the rounds, each after its parent, otherwise in the order of the file."""
    ordered = []

    def add(name: str) -> None:
        parent = rounds[name].get("parent")
        if parent is not None and parent not in ordered:
            add(parent)
        if name not in ordered:
            ordered.append(name)

    for name in rounds:
        add(name)
    return ordered


def stage_options(config: dict, stage: str, round_name: str | None = None) -> dict:
    """Return the options of one stage: the dataset's, overridden by the round's.

    A round inherits from the dataset, not from its parent round, so there are two places to look.
    """
    options = dict(config[stage])
    if round_name is not None:
        options |= config["rounds"][round_name].get(stage) or {}
    return options
