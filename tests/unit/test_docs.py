"""What docs/ and README.md name is there: commands parse, links lead somewhere, functions exist."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tomohet.cli import options_of
from tomohet.options.configuration import COMMANDS, STAGES, WORKFLOW_DEFAULTS, Round
from tomohet.options.schema import read_schema
from tomohet.rounds.flags import flag_of
from tomohet.rounds.schema import keys_of, stages

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "workflow" / "tomohet"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
PLACES = re.compile(r"`((?:config|docs|envs|profiles|tests|workflow)/[\w./-]*\w/?)`")


def blocks(languages: tuple[str, ...]) -> list[tuple[Path, str]]:
    """(page, text) of all fenced blocks in one of the languages ("": none is given)."""
    found = [(page, match) for page in PAGES for match in FENCE.finditer(page.read_text())]
    return [(page, match[3]) for page, match in found if match[2] in languages]


def command_lines(name: str) -> list[tuple[Path, list[str]]]:
    """(page, words after the name) of all lines in code blocks that run a program of this name."""
    found = []
    for page, text in blocks(("", "bash", "sh", "console")):
        for line in text.replace("\\\n", " ").splitlines():
            if re.match(rf" *(?:[\w./-]*/)?{name} ", line):
                found.append((page, shlex.split(line, comments=True)[1:]))
    return found


@pytest.mark.parametrize(
    ("page", "words"),
    [pytest.param(*line, id=f"{line[0].stem}: {' '.join(line[1])}") for line in command_lines("tomohet")],
)
def test_commands_parse(page, words, capsys):
    command, *arguments = words
    try:
        options_of(command, arguments)
    except SystemExit as ended:
        said = capsys.readouterr().err
        assert ended.code == 0 and arguments == ["--help"], f"{page.relative_to(ROOT)}: {words}: {said}"


def test_snakemake_lines_name_options_and_files_that_exist():
    # Read, not imported, which would take ten seconds.
    source = Path(importlib.util.find_spec("snakemake").submodule_search_locations[0], "cli.py").read_text()
    known = set(re.findall(r'"(--?[a-z][\w-]*)"', source))
    lines = command_lines("snakemake")
    assert lines
    for page, words in lines:
        options = {word for word in words if word.startswith("-")}
        assert options <= known, f"{page.relative_to(ROOT)}: {options - known}"
        files = [word for word in words if word.startswith(("config/", "profiles/"))]
        assert all((ROOT / word).exists() for word in files), f"{page.relative_to(ROOT)}: {files}"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs both write them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_benchmarks_have_the_options_that_are_named():
    lines = [
        line for page in PAGES for line in re.findall(r"`python (tests/\S+\.py)([^`]*)`", page.read_text())
    ]
    assert lines
    for script, arguments in lines:
        source = (ROOT / script).read_text()
        unknown = [option for option in re.findall(r"--[\w-]+", arguments) if f'"{option}"' not in source]
        assert not unknown, f"{script}: {unknown}"


def test_relative_links_lead_to_files_and_headings():
    wrong = []
    for page in PAGES:
        for target in LINK.findall(FENCE.sub("", page.read_text())):
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            if "://" in target:
                continue
            if not other.exists() or (anchor and anchor not in anchors(other)):
                wrong.append(f"{page.relative_to(ROOT)}: {target}")
    assert not wrong


def test_files_and_folders_that_are_named_exist():
    wrong = [
        f"{page.relative_to(ROOT)}: {place}"
        for page in PAGES
        for place in PLACES.findall(page.read_text())
        if not (ROOT / place).exists() and "/default" not in place
    ]
    assert not wrong


def definitions(path: Path) -> set[str]:
    """Functions, classes, `Class.member` and constants that a file defines."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = (getattr(member, "name", None) for member in node.body)
            found |= {f"{node.name}.{name}" for name in members if name}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def named_functions() -> list[tuple[Path, str, str]]:
    return [(page, *names) for page in PAGES for names in NAMED.findall(page.read_text())]


def test_every_named_function_exists():
    wrong = []
    for page, file, name in named_functions():
        path = PACKAGE / file
        if not path.is_file() or name not in definitions(path):
            wrong.append(f"{page.relative_to(ROOT)}: {file}: {name}")
    assert not wrong


def test_every_method_page_says_which_function_does_what():
    methods = {page for page in PAGES if page.parent.name == "methods"}
    assert methods == {page for page, *_ in named_functions() if page in methods}


def test_keys_in_configurations_exist():
    known = set(read_schema()["properties"])
    wrong, looked_at = [], 0
    for page, text in blocks(("yaml",)):
        config = yaml.safe_load(text)
        sections = {"": config} | {f"{name}.": own or {} for name, own in config.get("rounds", {}).items()}
        for where, section in sections.items():
            allowed = known if where == "" else set(stages()) | set(Round.model_fields)
            wrong += [f"{page.name}: {where}{key}" for key in set(section) - allowed]
            for stage in set(section) & set(stages()):
                looked_at += 1
                wrong += [f"{page.name}: {stage}.{key}" for key in set(section[stage]) - set(keys_of(stage))]
    assert looked_at and not wrong


def test_defaults_that_differ_are_listed():
    """The table of migrating-from-tomodrgn.md lists `WORKFLOW_DEFAULTS`."""
    expected = {}
    for stage, defaults in WORKFLOW_DEFAULTS.items():
        if stage == "simulate":  # no command of tomoDRGN
            continue
        for key, value in defaults.items():
            names = dict(word.partition("=")[::2] for word in STAGES[stage].keys.split())
            own = STAGES[stage].model.model_fields[names[key] or key].default
            expected[COMMANDS[stage], flag_of(stage, key)] = (own, value)
    text = (ROOT / "docs" / "migrating-from-tomodrgn.md").read_text()
    table = text.split("## Defaults that differ between a command and the workflow")[1]
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| (\S+) \| (\S+) \|", table, re.M)
    said = {(command, flag): (own, workflow) for command, flag, own, workflow in rows}
    words = {None: "none", False: "off", True: "on"}
    assert said == {
        names: tuple(words[v] if v is None or isinstance(v, bool) else str(v) for v in values)
        for names, values in expected.items()
    }


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
