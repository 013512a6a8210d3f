"""`tomohet <command>`: runs the script of that name."""

import ast
import difflib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import tomohet

SCRIPTS = Path(tomohet.__file__).resolve().parents[1] / "scripts"
USAGE_ERROR = 2


def commands() -> dict[str, str]:
    """Name and one-line help (first line of its script's docstring) of every command, importing none."""
    return {
        path.stem: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        for path in sorted(SCRIPTS.glob("[a-z]*.py"))
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script `tomohet`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if not known:
        print(
            f"error: no commands in {SCRIPTS}; install tomohet from its checkout: make install",
            file=sys.stderr,
        )
        sys.exit(1)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview(known))
        return
    if argv[0] == "--version":
        print(f"tomohet {tomohet.__version__}")
        return
    name = argv[0].replace("-", "_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "; 'tomohet --help' lists them"
        print(f"error: no command '{argv[0]}'{hint}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    sys.argv = [f"tomohet {name}", *argv[1:]]
    runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")


def overview(known: dict[str, str]) -> str:
    """The list of commands as shown by `tomohet --help`."""
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
