"""Columns that appear twice in a header, as nextPYP's `to_star` writes _rlnGroupNumber."""

import re

import pytest

from tomohet.errors import InputError
from tomohet.files.star import read_star, read_text_blocks
from tomohet.files.star_editing import replaced, table_in, write_text_blocks

HEADER = "data_particles\nloop_\n_rlnImageName #1\n_rlnGroupNumber #2\n_rlnGroupNumber #3\n_rlnTiltIndex #4\n"
ONE_VALUE = HEADER + "1@a.mrcs 7 0\n2@a.mrcs 7 1\n"
EQUAL_VALUES = HEADER + "1@a.mrcs 7 7 0\n2@a.mrcs 7 7 1\n"


@pytest.fixture(params=[ONE_VALUE, EQUAL_VALUES], ids=["one value", "equal values"])
def star(request, tmp_path):
    path = tmp_path / "p.star"
    path.write_text(request.param)
    return path


def test_repeated_columns_are_read_as_one(star):
    """RELION's reader gives a repeated name no column of its own: values 2 and 3 are group and tilt."""
    table = read_star(star)["particles"]
    assert list(table.columns) == ["rlnImageName", "rlnGroupNumber", "rlnTiltIndex"]
    assert table["rlnGroupNumber"].tolist() == ["7", "7"]
    assert table["rlnTiltIndex"].tolist() == [0, 1]


def test_some_columns_of_a_table_with_repeated_ones(star):
    [block] = read_text_blocks(star)[1]
    assert table_in(block, star, ["rlnTiltIndex"]).to_dict("list") == {"rlnTiltIndex": [0, 1]}


def test_both_repeated_columns_are_replaced(star, tmp_path):
    """A file that was written again is read again: its two columns agree."""
    before, [block] = read_text_blocks(star)
    changed = replaced(block, {"rlnGroupNumber": ["8", "9"], "rlnTiltIndex": ["3", "4"]})
    write_text_blocks(tmp_path / "q.star", before, [changed])
    table = read_star(tmp_path / "q.star")["particles"]
    assert table["rlnGroupNumber"].tolist() == ["8", "9"]
    assert table["rlnTiltIndex"].tolist() == [3, 4]


def test_repeated_columns_that_differ_are_refused(tmp_path):
    path = tmp_path / "p.star"
    path.write_text(HEADER + "1@a.mrcs 7 7 0\n2@a.mrcs 7 8 1\n")
    said = "column _rlnGroupNumber appears twice in the header, and row 2 has two values for it: 7 and 8"
    with pytest.raises(InputError, match=re.escape(said)):
        read_star(path)


def test_a_repeated_column_without_rows(tmp_path):
    path = tmp_path / "p.star"
    path.write_text(HEADER)
    assert list(read_star(path)["particles"].columns) == ["rlnImageName", "rlnGroupNumber", "rlnTiltIndex"]
