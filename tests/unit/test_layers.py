"""Imports between the packages of the library point one way."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "workflow" / "tomohet"
# From top to bottom: a package imports from those below it, and the modules beside them, only.
LAYERS = [
    "cli",
    "commands",
    "running",
    "serving",
    "report",
    "rounds",
    "mapback",
    "simulation",
    "analysis",
    "training",
    "linear",
    "model",
    "preflight",
    "reconstruction",
    "particles",
    "physics",
    "files",
    "options",
]
LEAVES = {"answers", "device", "errors", "plots", "processes", "progress"}


def imported(path: Path) -> set[str]:
    """Packages of tomohet that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tomohet."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tomohet.")}
    return names


def test_every_package_has_its_layer():
    assert {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()} == set(LAYERS)


def test_imports_point_down():
    wrong = []
    for number, layer in enumerate(LAYERS):
        allowed = set(LAYERS[number:]) | LEAVES
        for path in (PACKAGE / layer).rglob("*.py"):
            wrong += [f"{path.relative_to(PACKAGE)} imports {name}" for name in imported(path) - allowed]
    assert not wrong


def test_test_files_have_names_of_their_own():
    """Pytest imports them by name alone: of two with one name, the second is not run."""
    names = [path.name for path in Path(__file__).resolve().parents[1].rglob("*.py")]
    assert sorted(set(names)) == sorted(names)
