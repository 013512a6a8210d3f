"""Reading and writing of STAR files."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomohet.errors import InputError
from tomohet.files.star import (
    as_pairs,
    as_table,
    numbers,
    parse_table,
    read_star,
    read_text_blocks,
    write_star,
)

EXAMPLE = """# a comment

data_general

_rlnTomoSubTomosAre2DStacks   1
_rlnRemark  "two words"   # why

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
  1  first

data_particles # here

loop_
# a comment in the header
_rlnTomoName #1
_rlnImageName #2
_rlnCoordinateX #3
_rlnClassNumber #4
001 1@a.mrcs 1 3
# a comment between rows
002 '2@b c.mrcs' 2.5 4
003 "3@it's.mrcs" -1e-3 5

"""


@pytest.fixture
def star(tmp_path):
    def write(text, newline="\n"):
        path = tmp_path / "file.star"
        path.write_bytes(text.replace("\n", newline).encode())
        return path

    return write


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", ["  ", "\t"])
def test_reads_blocks_comments_quotes_and_types(star, newline, blank):
    blocks = read_star(star(EXAMPLE.replace("  ", blank), newline))
    assert list(blocks) == ["general", "optics", "particles"]
    assert blocks["general"] == {"rlnTomoSubTomosAre2DStacks": "1", "rlnRemark": "two words"}
    table = blocks["particles"]
    assert table["rlnTomoName"].tolist() == ["001", "002", "003"]
    assert table["rlnImageName"].tolist() == ["1@a.mrcs", "2@b c.mrcs", "3@it's.mrcs"]
    assert table["rlnCoordinateX"].tolist() == [1.0, 2.5, -0.001]
    assert table["rlnClassNumber"].tolist() == [3, 4, 5]


def test_type_is_inferred_from_the_whole_column(star):
    table = read_star(star("data_\nloop_\n_a #1\n_b #2\n1 2\n1.5 x\nnan 3\n"))[""]
    assert table["a"].tolist()[:2] == [1.0, 1.5] and np.isnan(table["a"][2])
    assert table["b"].tolist() == ["2", "x", "3"]


def test_row_that_begins_like_a_block_name_is_a_row(star):
    table = read_star(
        star("data_\nloop_\n_rlnImageName #1\n_x #2\ndata_set1/a.mrcs 1\ndata_set2/b.mrcs 2\n")
    )[""]
    assert table["rlnImageName"].tolist() == ["data_set1/a.mrcs", "data_set2/b.mrcs"]


def test_text_blocks_lose_no_byte(star):
    path = star(EXAMPLE)
    preamble, blocks = read_text_blocks(path)
    assert preamble + b"".join(block.head + block.body for block in blocks) == path.read_bytes()
    assert [len(block.rows()) for block in blocks] == [0, 1, 3]


def test_rows_of_text_and_table_agree(star):
    path = star(EXAMPLE)
    block = read_text_blocks(path)[1][-1]
    assert len(parse_table(block, path)) == len(block.rows())
    assert parse_table(block, path, ["rlnTomoName"])["rlnTomoName"].tolist() == ["001", "002", "003"]


def test_write_then_read_is_equal(tmp_path):
    table = pd.DataFrame(
        {"rlnTomoName": ["001", "a b"], "rlnDefocusU": [12345.678901234, 1e-9], "rlnClassNumber": [1, 2]}
    )
    write_star(tmp_path / "out.star", {"general": {"rlnX": "1", "rlnY": "a b"}, "particles": table})
    blocks = read_star(tmp_path / "out.star")
    assert blocks["general"] == {"rlnX": "1", "rlnY": "a b"}
    pd.testing.assert_frame_equal(blocks["particles"], table, check_dtype=False)


@pytest.mark.parametrize("word", ["#1", "_x", "data_x", "loop_", "a\tb", "'x'", "a 'b'", "it's", "nan"])
def test_words_with_a_meaning_in_the_format_survive_writing(tmp_path, word):
    table = pd.DataFrame({"rlnGroupName": [word, "a"], "rlnX": [np.nan, 1.5]})
    write_star(tmp_path / "out.star", {"general": {"rlnX": word}, "": table})
    blocks = read_star(tmp_path / "out.star")
    assert blocks["general"]["rlnX"] == word
    pd.testing.assert_frame_equal(blocks[""], table, check_dtype=False)


@pytest.mark.parametrize("rows", ["1 2 3\n4\n", '1 "2 3\n4 5" 6\n', '1 2 3\n"4 5\n6" 7 8\n'])
def test_some_columns_of_a_malformed_table_are_refused_too(star, rows):
    path = star("data_\nloop_\n_a\n_b\n_c\n" + rows)
    block = read_text_blocks(path)[1][0]
    with pytest.raises(InputError, match="row"):
        parse_table(block, path, ["a"])


@pytest.mark.parametrize("rows", ["", "1 2\n"])
def test_some_columns_are_those_asked_for(star, rows):
    path = star("data_\nloop_\n_a\n_b\n" + rows)
    block = read_text_blocks(path)[1][0]
    assert list(parse_table(block, path, ["a"])) == ["a"]
    with pytest.raises(InputError, match="column _c is missing"):
        parse_table(block, path, ["a", "c"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not a STAR file"),
        ("hello world\n", "not a STAR file"),
        ("\0\0data_\n", "not a STAR file"),
        ("data_\nloop_\n_a\n_b\n1 2\n3\n", "row 2 has 1 values, expected 2"),
        ("data_\nloop_\n_a\n_b\n1 2\n3 4 5\n", "row 2 has 3 values, expected 2"),
        ("data_\nloop_\n_a\n_b\n\n1 2\n# c\n\n3 4 5\n", "row 2 has 3 values, expected 2"),
        ("data_\nloop_\n_a\n_b\n1 2 3\n", "row 1 has 3 values, expected 2"),
        ("data_\nloop_\n_a\n_a\n1 2\n", "column _a appears twice"),
        ("data_\nloop_\n_a\n1\nloop_\n_b\n2\n", "second `loop_`"),
        ("data_x\n_a 1\ndata_x\n_a 2\n", "appears 2 times"),
        ("data_\nsome text\n", "expected `loop_`"),
        ("data_\n_a\n", "has no value"),
        ('data_\nloop_\n_a\n_b\n"1 2\n3 4\n', "quote"),
    ],
)
def test_malformed_files_are_refused_in_one_line(star, text, expected):
    with pytest.raises(InputError, match=expected) as error:
        read_star(star(text))
    assert "\n" not in str(error.value) and "file.star" in str(error.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_star(tmp_path / "none.star")


def test_numbers_name_row_and_value(star):
    table = read_star(star("data_\nloop_\n_a\n_b\n1 2\nx 3\n"))[""]
    with pytest.raises(InputError, match="column _a, row 2: found `x`, expected a number"):
        numbers(table, "a", "file")
    with pytest.raises(InputError, match="column _c is missing"):
        numbers(table, "c", "file")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="data_lo p#\"'\n\r\t1.5e-@x[],", max_size=120))
def test_any_text_is_read_or_refused_clearly(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "file.star"
    path.write_text("data_\nloop_\n_a #1\n_b #2\n" + text)
    try:
        blocks = read_star(path)
    except InputError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert "" in blocks


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_clearly(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "file.star"
    path.write_bytes(b"data_\n" + content)
    try:
        read_star(path)
    except InputError as refusal:
        assert "\n" not in str(refusal)


@pytest.mark.parametrize("values", [("1", "300.0", "001", "og 1"), ("-2", "1e3", "TS_1", "x")])
def test_a_table_of_one_row_reads_the_same_as_a_loop_and_as_pairs(tmp_path, values):
    names = ["rlnOpticsGroup", "rlnVoltage", "rlnTomoName", "rlnOpticsGroupName"]
    loop, pairs = tmp_path / "loop.star", tmp_path / "pairs.star"
    write_star(loop, {"optics": pd.DataFrame([dict(zip(names, values, strict=True))])})
    write_star(pairs, {"optics": dict(zip(names, values, strict=True))})
    of_loop, of_pairs = read_star(loop)["optics"], read_star(pairs)["optics"]
    assert isinstance(of_loop, pd.DataFrame) and isinstance(of_pairs, dict)
    pd.testing.assert_frame_equal(as_table(of_loop), as_table(of_pairs))
    assert list(as_pairs(of_loop)) == list(as_pairs(of_pairs)) == names
    assert as_pairs(of_loop)["rlnTomoName"] == as_pairs(of_pairs)["rlnTomoName"] == values[2]
    assert as_pairs(pd.concat([of_loop, of_loop])) == {} and as_table(None) is None


@pytest.mark.parametrize("ending", ["", "Name"])
def test_the_time_for_many_columns_grows_with_their_number(tmp_path, ending):
    """Comparing each of 40,000 names with each other takes half a minute; reading takes a few seconds."""
    names = [f"rln{number}{ending}" for number in range(40_000)]
    text = "data_\nloop_\n" + "".join(f"_{name}\n" for name in names) + " ".join(["1"] * len(names)) + "\n"
    (tmp_path / "wide.star").write_text(text)
    start = time.process_time()
    table = read_star(tmp_path / "wide.star")[""]
    assert table.shape == (1, 40_000) and time.process_time() - start < 12
