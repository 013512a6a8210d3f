"""Random small changes of the code, made from its syntax tree: do the unit tests of its file notice?

    python tests/mutants/generated.py --count 40 --seed 0              # of all files of FOLDERS
    python tests/mutants/generated.py --count 10 --files physics/ctf.py

The changes: a sum becomes a difference and the reverse, a sign is dropped, a factor or a divisor is dropped,
an axis becomes another, a limit is moved by its equality, and a minimum becomes a maximum. The tests of a
file are those that `listed.TESTS` names, and else the smallest test files that import it. Survivors either
want a test or change nothing that matters; those understood are in `listed.EQUIVALENT`.
"""

import argparse
import ast
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from listed import EQUIVALENT, TESTS, Mutant
from run import PACKAGE, ROOT, copy_of_checkout, outcome, preload, run_tests

FOLDERS = ("physics", "linear", "reconstruction", "model", "analysis/siren", "analysis/maven", "mapback")
MOST_TESTS = 2
COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_PAIRS = (("minimum", "maximum"), ("min", "max"), ("argmin", "argmax"))
EXTREMES = dict(_PAIRS) | {second: first for first, second in _PAIRS}
DRAWN_ONLY = re.compile(r"figure|plots|chimerax|answers|output|words|writing|kernels|sweep|fused|lanes")


def changes_of(file: str) -> list[Mutant]:
    """All changes of a file, each with as much of the text around it as makes it the only one."""
    text = (ROOT / PACKAGE / file).read_text()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    content = text.encode()
    found = []
    for node in ast.walk(ast.parse(text)):
        for first, last, new in _replacements(node, content, starts):
            mutant = _unique(file, content, first, last, new)
            if mutant and mutant not in found:
                found.append(mutant)
    return found


def _replacements(node: ast.AST, content: bytes, starts: list[int]) -> Iterator[tuple[int, int, bytes]]:
    """(first byte, last byte, new text) of each change of a node of the syntax tree."""

    def span(part: ast.expr | ast.keyword) -> tuple[int, int]:
        return starts[part.lineno - 1] + part.col_offset, starts[part.end_lineno - 1] + part.end_col_offset  # type: ignore[operator,index]

    if isinstance(node, ast.BinOp) and not _is_text(node):
        left, right = span(node.left), span(node.right)
        between = content[left[1] : right[0]]
        if isinstance(node.op, ast.Add | ast.Sub):
            new = between.replace(b"+", b"-") if isinstance(node.op, ast.Add) else between.replace(b"-", b"+")
            yield left[1], right[0], new
        elif isinstance(node.op, ast.Mult | ast.Div) and between.count(b"(") == between.count(b")") == 0:
            yield left[1], right[1], b""  # the factor or divisor is dropped
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        first, _ = span(node)
        yield first, first + 1, b""  # the minus alone: a parenthesis may follow
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        first, last = span(node.left)[1], span(node.comparators[0])[0]
        sign = content[first:last].decode().strip()
        if sign in COMPARED:
            yield first, last, content[first:last].replace(sign.encode(), COMPARED[sign].encode())
    elif isinstance(node, ast.Call):
        yield from _changed_calls(node, content, span)


def _changed_calls(node: ast.Call, content: bytes, span) -> Iterator[tuple[int, int, bytes]]:
    for keyword in node.keywords:
        if keyword.arg in ("axis", "dim") and isinstance(keyword.value, ast.Constant):
            first, last = span(keyword.value)
            yield (
                first,
                last,
                {b"0": b"1", b"1": b"0", b"2": b"1", b"-1": b"-2"}.get(content[first:last], b"0"),
            )
    if isinstance(node.func, ast.Attribute | ast.Name):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        if name in EXTREMES:
            last = span(node.func)[1]
            yield last - len(name), last, EXTREMES[name].encode()


def _is_text(node: ast.BinOp) -> bool:
    parts = ast.walk(node)
    return any(isinstance(p, ast.JoinedStr) or isinstance(getattr(p, "value", None), str) for p in parts)


def _unique(file: str, content: bytes, first: int, last: int, new: bytes) -> Mutant | None:
    """The change with enough characters on both sides that its text stands once in the file."""
    for margin in range(4, 120, 4):
        low, high = max(0, first - margin), min(len(content), last + margin)
        original = content[low:high]
        if content.count(original) == 1:
            mutated = content[low:first] + new + content[last:high]
            return Mutant(file, original.decode(errors="replace"), mutated.decode(errors="replace"))
    return None


def own_test_files(file: str) -> list[str]:
    """The test files of tests/unit for a file: listed ones, or the smallest that import it."""
    if file in TESTS:
        return TESTS[file]
    module = "tomohet." + file.removesuffix(".py").replace("/", ".")
    parent, name = module.rsplit(".", 1)
    imports = re.compile(rf"{re.escape(module)}\b|from {re.escape(parent)} import [^\n]*\b{name}\b")
    paths = [p for p in (ROOT / "tests" / "unit").glob("test_*.py") if imports.search(p.read_text())]
    return [path.name for path in sorted(paths, key=lambda path: path.stat().st_size)[:MOST_TESTS]]


def main(words: Sequence[str] | None = None) -> int:
    """Draw changes, try each, and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="*", default=[])
    given = parser.parse_args(words)
    files = given.files or [
        str(path.relative_to(ROOT / PACKAGE))
        for folder in FOLDERS
        for path in sorted((ROOT / PACKAGE / folder).rglob("*.py"))
        if not DRAWN_ONLY.search(str(path.relative_to(ROOT / PACKAGE)))
    ]
    known = {mutant for mutant in EQUIVALENT}
    changes = [m for file in files if own_test_files(file) for m in changes_of(file) if m not in known]
    untested = [file for file in files if changes_of(file) and not own_test_files(file)]
    chosen = random.Random(given.seed).sample(changes, min(given.count, len(changes)))
    print(f"{len(changes)} changes of {len(files)} files; without tests of their own: {', '.join(untested)}")
    preload()
    outcomes: list[str] = []
    passed: dict[tuple[str, ...], bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_of_checkout(Path(folder))
        for mutant in sorted(chosen):
            tests = tuple(own_test_files(mutant.file))
            if tests not in passed:
                passed[tests] = run_tests(checkout, tests, checkout / "compiled")[0] == 0
            if not passed[tests]:
                print(f"{', '.join(tests)}: do not pass on the unchanged code")
                continue
            start = time.monotonic()
            outcomes.append(outcome(checkout, mutant, tests))
            change = f"{mutant.original!r} -> {mutant.mutated!r}"
            print(
                f"{outcomes[-1]:9} {time.monotonic() - start:4.0f} s  {mutant.file:33} {change}", flush=True
            )
    print(f"{len(outcomes) - outcomes.count('SURVIVED')} of {len(outcomes)} noticed")
    return int("SURVIVED" in outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
