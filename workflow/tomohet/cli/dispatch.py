"""Dispatch of `tomohet COMMAND`: find the command, read its options, run it."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tomohet
from tomohet.cli.run import one_line_for_mistakes
from tomohet.options import OPTIONS, Options
from tomohet.options.command_line import parsed, parser_of

USAGE_ERROR = 2


def commands() -> dict[str, str]:
    """Return the name and the one-line help of each command."""
    return {name: (model.__doc__ or "").split("\n")[0] for name, model in sorted(OPTIONS.items())}


def main(argv: Sequence[str] | None = None, script: str | None = None) -> None:
    """Run the command line `argv`; default: the arguments of the program.

    script : a file named after the command (`workflow/scripts/*.py`), for which `argv` does not contain the
        command
    """
    # PyTorch's OpenMP reads this on loading: waiting threads should sleep. Spinning threads steal cores from
    # working threads, and slow a training threefold on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if argv is None else argv)
    if script is not None:
        words = [Path(script).stem, *words]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if words[0] == "--version":
        print(f"tomohet {tomohet.__version__}")
        return
    name = words[0].replace("-", "_")
    if name not in OPTIONS:
        near = difflib.get_close_matches(name, OPTIONS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "; 'tomohet --help' lists them"
        print(f"error: no command '{words[0]}'{hint}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    sys.argv = [f"tomohet {name}", *words[1:]]
    run_command(name, words[1:])


def run_command(name: str, words: Sequence[str]) -> None:
    """Read the options of a command from its arguments, and run it; failures exit as in `cli.run`."""
    with one_line_for_mistakes():
        options = options_of(name, words)  # before the command loads PyTorch
        importlib.import_module(f"tomohet.commands.{name}").run(options)


def options_of(name: str, words: Sequence[str]) -> Options:
    """Return the options of a command from command-line arguments; raise InputError for mistakes."""
    model = OPTIONS[name]
    return parsed(model, parser_of(model, name, commands()[name]), words)


def overview() -> str:
    """Return the list of commands for `tomohet --help`."""
    known = commands()
    width = max(map(len, known))
    rows = [f"  {name:<{width}}  {text}" for name, text in known.items()]
    return "\n".join(
        [
            f"tomohet {tomohet.__version__}: structural heterogeneity of cryo-ET particles",
            "",
            "usage: tomohet COMMAND [OPTIONS]      (tomohet COMMAND --help explains one)",
            "",
            *rows,
        ]
    )
