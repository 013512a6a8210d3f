"""The tree of rounds: each takes particles from its parent, the root from the whole dataset."""

import ast
import difflib

from tomohet.errors import InputError
from tomohet.rounds.layout import CONFIG, DATASET_STAGES, REPORT, SERVED
from tomohet.rounds.polygons import polygons

RESERVED = {CONFIG, REPORT, SERVED} | {stage.folder for stage in DATASET_STAGES}


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
        if given.get("select") is not None and given.get("indices") is not None:
            lines.append(f"rounds.{name}: has both 'select' and 'indices'; keep one")
        if isinstance(given.get("select"), str):
            lines += _query_mistakes(name, given["select"])
    return lines + _cycle_mistakes(options)


def _query_mistakes(name: str, query: str) -> list[str]:
    try:
        polygons(ast.parse(query.replace("`", "").strip(), mode="eval"), query)
    except SyntaxError:
        example = "maven_A > 0.5 and kmeans in [0, 2]"
        return [f"rounds.{name}.select: '{query}' is not a query; a query looks like: {example}"]
    except InputError as error:
        return [f"rounds.{name}.select: {error}"]
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
