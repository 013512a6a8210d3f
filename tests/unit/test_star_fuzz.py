"""Random STAR files: valid ones read as they were meant, damaged ones as a table or as one clear line.

The generator writes files the way the grammar allows, with everything that programs and editors vary: quotes,
comments, tabs, line ends, blank lines, byte-order marks, column numbers, long lines, names in any script.
TOMOHET_FUZZ=600 tries as many random files per test.
"""

import os
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tomohet.errors import InputError
from tomohet.files.star import parse_table, read_star, read_text_blocks, write_star

MANY = int(os.environ.get("TOMOHET_FUZZ", "0"))
FEW = settings(max_examples=MANY or 60, deadline=None, derandomize=not MANY)
DAMAGED = settings(max_examples=MANY or 150, deadline=None, derandomize=not MANY)

LETTERS = st.sampled_from("abzXYZ019._-+/@:[](),=%~αéЖ中🦠")
BARE_WORDS = st.text(LETTERS, min_size=1, max_size=12).map(lambda text: "w" + text)
SPACED_WORDS = st.lists(BARE_WORDS, min_size=2, max_size=3).map(" ".join)
LONG_WORDS = BARE_WORDS.map(lambda text: text * 400)
RESERVED = ["#1", "_rlnX", "data_x", "loop_", "# a b"]  # plain words only where quoted
HASHED_WORDS = BARE_WORDS.map(lambda text: text + "#1")
NAMES = st.one_of(st.sampled_from(RESERVED), BARE_WORDS, SPACED_WORDS, HASHED_WORDS, LONG_WORDS)
COLUMN_NAMES = st.text(st.sampled_from("XYZaz09_αé中"), max_size=6).map("rln".__add__)
BLANKS = st.sampled_from([" ", "  ", "\t", " \t ", " " * 30])
INDENTS = st.sampled_from(["", "", " ", "\t"])
COMMENTS = ["", "# note", "  # it's \"odd", "#", "\t", "# data_other", "# loop_"]
FILLERS = st.lists(st.sampled_from(COMMENTS), max_size=2)
ODD = [b"", b'"', b"'", b"\0", b"\r", b"\n", b"\xff", b"#", b" ", b"_", b"loop_\n", b"\ndata_\n", b"1e999"]
KINDS = ["text", "integer", "real", "scientific"]


@dataclass
class Meant:
    """A file's bytes and what they mean: per block, pairs or columns with their values in file order."""

    content: bytes
    blocks: dict[str, dict[str, str] | dict[str, list]]
    tables: set[str]


def quoted(draw, value: str) -> str:
    """A value in one of the ways it may stand in a file."""
    marks = ['"', "'"] if " " in value or value in RESERVED else ["", '"', "'"]
    mark = draw(st.sampled_from(marks))
    return f"{mark}{value}{mark}"


@st.composite
def columns_of_values(draw, kind: str, n: int) -> tuple[list, list[str]]:
    """`n` values of one kind, and the same as text."""
    if kind == "text":
        values = draw(st.lists(NAMES, min_size=n, max_size=n))
        return values, [quoted(draw, value) for value in values]
    if kind == "integer":
        values = draw(st.lists(st.integers(-(2**62), 2**62), min_size=n, max_size=n))
        return values, [str(value) for value in values]
    values = draw(st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n))
    texts = [f"{value:.9e}" if kind == "scientific" else f"{value:.6f}" for value in values]
    return [float(text) for text in texts], texts


@st.composite
def star_files(draw) -> Meant:
    lines, blocks, tables = [*draw(FILLERS)], {}, set()
    for name in draw(st.lists(st.one_of(st.just(""), BARE_WORDS), min_size=1, max_size=3, unique=True)):
        lines += [f"{draw(INDENTS)}data_{name}{draw(st.sampled_from(['', ' ', ' # here']))}", *draw(FILLERS)]
        keys = draw(st.lists(COLUMN_NAMES, max_size=5, unique=True))
        if draw(st.booleans()):
            blocks[name] = {key: draw(NAMES) for key in keys}
            for key, value in blocks[name].items():
                note = draw(st.sampled_from(["", " # why"]))
                lines += [f"{draw(INDENTS)}_{key}{draw(BLANKS)}{quoted(draw, value)}{note}", *draw(FILLERS)]
            continue
        lines += [f"{draw(INDENTS)}loop_{draw(st.sampled_from(['', '  ', ' # table']))}", *draw(FILLERS)]
        numbers = draw(st.sampled_from(["", " #{i}", "\t#{i}", " #{gap}"]))
        for i, key in enumerate(keys, start=1):
            lines += [f"{draw(INDENTS)}_{key}{numbers.format(i=i, gap=7 * i)}", *draw(FILLERS)]
        n_rows = draw(st.integers(0, 4)) if keys else 0
        columns = [draw(columns_of_values(draw(st.sampled_from(KINDS)), n_rows)) for _ in keys]
        for row in zip(*(texts for _, texts in columns), strict=True):
            lines += [draw(INDENTS) + draw(BLANKS).join(row) + draw(INDENTS), *draw(FILLERS)]
        blocks[name] = {key: values for key, (values, _) in zip(keys, columns, strict=True)}
        if keys:
            tables.add(name)
        lines += draw(st.sampled_from([[], [""], ["", "# version 50001"]]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = newline.join(lines) + draw(st.sampled_from(["", newline, newline * 3]))
    return Meant(draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(), blocks, tables)


def file_with(tmp_path_factory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "fuzz.star"
    path.write_bytes(content)
    return path


def same_values(found, meant: list) -> bool:
    """Texts are equal; numbers too, to the last digit written."""
    if any(isinstance(value, str) for value in meant):
        return [str(value) for value in found] == [str(value) for value in meant]
    return np.allclose(np.asarray(found, float), np.asarray(meant, float), rtol=1e-15, atol=0)


@FEW
@given(star_files())
def test_valid_files_read_as_meant(tmp_path_factory, meant):
    blocks = read_star(file_with(tmp_path_factory, meant.content))
    assert list(blocks) == list(meant.blocks)
    for name, expected in meant.blocks.items():
        assert list(blocks[name]) == list(expected)
        if name in meant.tables:
            assert all(same_values(blocks[name][key], values) for key, values in expected.items())
        else:
            assert blocks[name] == expected


@FEW
@given(star_files())
def test_text_blocks_lose_no_byte_and_count_the_rows(tmp_path_factory, meant):
    preamble, blocks = read_text_blocks(file_with(tmp_path_factory, meant.content))
    assert preamble + b"".join(block.head + block.body for block in blocks) == meant.content
    for block in blocks:
        if block.name in meant.tables:
            assert len(block.rows()) == len(next(iter(meant.blocks[block.name].values())))


@FEW
@given(star_files())
def test_what_was_read_can_be_written_and_read_again(tmp_path_factory, meant):
    path = file_with(tmp_path_factory, meant.content)
    first = read_star(path)
    write_star(path, first)
    second = read_star(path)
    assert list(second) == list(first)
    for name in meant.tables:
        assert list(second[name]) == list(first[name])
        assert all(same_values(second[name][key], first[name][key].tolist()) for key in first[name])


@st.composite
def damage(draw, content: bytes) -> bytes:
    """Bytes changed, cut out, doubled or put in, as a broken disk or a careless editor would."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.sampled_from([0, 1, 1, 2, 8, 60]))
        new = draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=3), st.just(content[start:stop] * 2)))
        content = content[:start] + new + content[stop:]
    return content


@DAMAGED
@given(star_files().flatmap(lambda meant: damage(meant.content)))
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path_factory, content):
    path = file_with(tmp_path_factory, content)
    for block in or_one_line(lambda: read_text_blocks(path)[1]) or []:
        if not block.columns:
            continue
        for columns in (list(block.columns), [block.columns[0]]):
            table = or_one_line(parse_table, block, path, columns if len(columns) == 1 else None)
            once = list(dict.fromkeys(columns))  # a repeated column is kept once
            assert table is None or (list(table) == once and len(table) == len(block.rows()))


def or_one_line(read, *arguments):
    """What `read` gives, or None where it refuses the file as it should."""
    try:
        return read(*arguments)
    except InputError as refusal:
        assert "\n" not in str(refusal) and "fuzz.star" in str(refusal)
        return None
