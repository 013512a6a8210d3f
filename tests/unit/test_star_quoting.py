"""Every name written to a STAR file is read again unchanged, or is refused before anything is written."""

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tomohet.errors import InputError
from tomohet.files.star import read_star, read_text_blocks, write_star
from tomohet.files.star_editing import replaced, table_in, write_text_blocks
from tomohet.files.star_quoting import quoted

ODD = [
    "my set.star", "run 0/stack.mrcs", "it's.mrcs", 'a"b.mrcs', '6"', "'", "a 'b c' d", 'a "b c" d', "#1",
    "a#b", " #", "_x", "data_x", "loop_", "DATA_", "a(1)[2]{3}.mrcs", "$(rm -rf x)", "`x`", "a;b", ";",
    "a&b|c", "*?.star", "\\", "a\\b", "tab\there", "\xa0", "a\x0bb", "a\u2028b", "\x85", " x", "x ",
    "ä Å", "1 2", "nan x",
]  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(ODD),
    st.text(alphabet="a1 ._#'\"$()[]\\;@/\t\xa0", min_size=1, max_size=8),
    st.text(min_size=1, max_size=8),
)
FEW = settings(max_examples=200, deadline=None)


def writable(name: str) -> bool:
    """Independent of the program: a STAR value is one line of UTF-8 in one of two kinds of quotes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not set(name) & set("\0\r\n") and not ("'" in name and '"' in name)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("quoting") / "file.star"


@FEW
@example(names=ODD, key='a "b" c')
@given(names=st.lists(NAMES, min_size=1, max_size=4), key=NAMES)
def test_written_names_are_read_again(path, names, key):
    path.unlink(missing_ok=True)
    table = pd.DataFrame({"rlnImageName": names, "rlnVoltage": 300.0, "rlnGroupName": names[::-1]})
    blocks = {"": {"rlnTomoParticlesFile": key, "rlnOther": 1}, "particles": table}
    if not all(map(writable, [key, *names])):
        with pytest.raises(InputError, match="cannot hold"):
            write_star(path, blocks)
        assert not path.exists()
        return
    write_star(path, blocks)
    found = read_star(path)
    assert found[""] == {"rlnTomoParticlesFile": key, "rlnOther": "1"}
    pd.testing.assert_frame_equal(found["particles"], table, check_dtype=False)


@FEW
@given(old=NAMES.filter(writable), new=NAMES.filter(writable), as_pairs=st.booleans())
def test_an_edited_value_is_read_again_and_no_other_changes(path, old, new, as_pairs):
    columns = {"rlnBefore": "1", "rlnImageName": old, "rlnAfterName": old}
    write_star(path, {"optics": columns if as_pairs else pd.DataFrame([columns]), "x": {"rlnImageName": "y"}})
    preamble, (block, other) = read_text_blocks(path)
    edited = replaced(block, {"rlnImageName": [new]})
    assert table_in(edited, path)["rlnImageName"].tolist() == [new]
    write_text_blocks(path, preamble, [edited, other])
    found = read_star(path)["optics"]
    values = found if as_pairs else {name: str(found[name].iloc[0]) for name in found}
    assert values == columns | {"rlnImageName": new}
    assert read_text_blocks(path)[1][0].head.count(b"\n") == block.head.count(b"\n")


@pytest.mark.parametrize("name", [name for name in ODD if not set("'\"\\\t\x85\u2028") & set(name)])
def test_the_package_starfile_reads_the_names(path, name):
    """It takes every single quote for a double one, so names with quotes are beyond it."""
    write_star(path, {"": {"rlnTomoParticlesFile": name}, "x": pd.DataFrame({"rlnImageName": [name, "a"]})})
    found = starfile.read(path, parse_as_string=["rlnTomoParticlesFile", "rlnImageName"])
    assert found[""]["rlnTomoParticlesFile"] == name
    assert found["x"]["rlnImageName"].tolist() == [name, "a"]


def test_numbers_keep_every_digit(path):
    numbers = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    table = pd.DataFrame({"a": numbers, "b": numbers.astype(np.float32), "c": np.arange(50), "d": pd.NA})
    write_star(path, {"": table})
    found = read_star(path)[""]
    assert found["a"].tolist() == numbers.tolist()
    assert (found["b"].to_numpy(np.float32) == table["b"]).all()
    assert found["c"].tolist() == list(range(50)) and found["d"].isna().all()


def test_ordinary_names_stand_bare():
    for name in ("000001@stacks/TS_1.mrcs", "[1,0,1]", "TS_1.tomostar", "-3.5e-4", "a+b~c%d=e", "grün.mrcs"):
        assert quoted(name) == name
