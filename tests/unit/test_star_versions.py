"""One particle table as many programs and versions write it: always the same table.

The layouts were written by hand from what the programs' files look like; `starfile` and `gemmi`, where
installed, write (and read) independently.
"""

import numpy as np
import pandas as pd
import pytest

from tomohet.files.star import read_star, write_star

TABLE = pd.DataFrame(
    {
        "rlnTomoName": ["001", "001", "TS_2 b"],
        "rlnCoordinateX": [1203.5, -17.25, 0.0],
        "rlnCoordinateY": [4.0, 5.0, 6.0],
        "rlnAngleRot": [-179.999999, 12.345678, 90.0],
        "rlnMagnification": [10000.0, 10000.0, 10000.0],
        "rlnClassNumber": [1, 12, 3],
        "rlnImageName": ["000001@a/b.mrcs", "000002@a/b.mrcs", "000001@it's/α.mrcs"],
        "rlnCtfMaxResolution": [3.25, np.nan, 1e-5],
        "rlnTomoVisibleFrames": ["[1,0,1]", "[1,1,1]", "[0,0,1]"],
    }
)
WITHOUT_APOSTROPHE = TABLE.replace({"it's": "its"}, regex=True)  # starfile cannot write one
OPTICS = pd.DataFrame({"rlnOpticsGroup": [1], "rlnOpticsGroupName": ["opticsGroup1"], "rlnVoltage": [300.0]})


def bare(value) -> str:
    """A value without padding; quoted where it holds a blank."""
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text else text


def padded(value) -> str:
    """A value as RELION pads it: numbers right-aligned, exponents where they are short, texts as they are."""
    if isinstance(value, float):
        small = value != 0 and abs(value) < 1e-4
        return f"{value:12.6e}" if small else f"{value:12.6f}"
    return f"{value:12d}" if isinstance(value, int) else bare(value)


def loop(table: pd.DataFrame, cell=padded, separator=" ", end=" ", number=" #{}") -> str:
    """`loop_`, header and rows."""
    head = "".join(f"_{name}{number.format(i)}\n" for i, name in enumerate(table.columns, start=1))
    rows = (separator.join(map(cell, row)) + end for row in table.astype(object).values.tolist())
    return "loop_ \n" + head + "\n".join(rows) + "\n"


def relion_30() -> str:
    """No optics table, a nameless block, a blank at the end of every line."""
    return f"\ndata_\n\n{loop(TABLE)} \n"


def relion_31() -> str:
    version = "\n# version 30001\n\n"
    return f"{version}data_optics\n\n{loop(OPTICS)} \n{version}data_particles\n\n{loop(TABLE)} \n"


def relion_5() -> str:
    version = "\n# version 50001\n\n"
    general = "data_general\n\n_rlnTomoSubTomosAre2DStacks                      1\n \n"
    optics, particles = f"data_optics\n\n{loop(OPTICS)} \n", f"data_particles\n\n{loop(TABLE)} \n"
    return version + version.join([general, optics, particles])


def relion_5_command() -> str:
    """A comment that names the command, with its quotes, and one that a user left between the rows."""
    text = relion_5().replace("# version 50001", "# version 50001 ; relion_refine --o 'Refine3D/job 1/' \"x")
    return text.replace("[1,0,1] \n", "[1,0,1] \n# removed 3 particles\n\n")


def warp() -> str:
    """Warp and M: two blanks before and between the values, no blank lines after the last row."""
    rows = loop(TABLE, bare, separator="  ", end="").replace("loop_ ", "loop_")
    head, _, body = rows.partition(f"#{len(TABLE.columns)}\n")
    return f"\ndata_\n\n{head}#{len(TABLE.columns)}\n  " + body.strip().replace("\n", "\n  ")


def tabs() -> str:
    """Scripts that write what pandas gives: tabs, and column names without numbers."""
    return "data_particles\n\n" + loop(TABLE, bare, separator="\t", end="", number="")


def editor() -> str:
    """A windows editor: byte-order mark and CRLF, single quotes, numbers of columns out of order."""
    text = "\ufeff" + tabs().replace("\n", "\r\n").replace('"TS_2 b"', "'TS_2 b'")
    return text.replace("_rlnTomoName", "_rlnTomoName #7").replace("_rlnImageName", "_rlnImageName #2")


LAYOUTS = [relion_30, relion_31, relion_5, relion_5_command, warp, tabs, editor]


def particles_of(path) -> pd.DataFrame:
    blocks = read_star(path)
    return blocks["particles"] if "particles" in blocks else blocks[""]


def assert_same(found: pd.DataFrame, expected: pd.DataFrame = TABLE) -> None:
    """Names and numbers equal: no value has more than the six decimals that the layouts keep."""
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-14, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_table(tmp_path, layout):
    path = tmp_path / "particles.star"
    path.write_bytes(layout().encode())
    assert_same(particles_of(path))
    blocks = read_star(path)
    if "optics" in blocks:
        pd.testing.assert_frame_equal(blocks["optics"], OPTICS, check_dtype=False)
    if "general" in blocks:
        assert blocks["general"] == {"rlnTomoSubTomosAre2DStacks": "1"}


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("all_quoted", [False, True])
def test_reads_what_starfile_writes(tmp_path, quote, all_quoted):
    starfile = pytest.importorskip("starfile")
    path = tmp_path / "particles.star"
    blocks = {"optics": OPTICS, "particles": WITHOUT_APOSTROPHE}
    starfile.write(blocks, path, quote_character=quote, quote_all_strings=all_quoted)
    found = read_star(path)
    assert list(found) == list(blocks)
    for name, table in blocks.items():
        assert_same(found[name], table)


@pytest.mark.parametrize("style", ["Simple", "NoBlankLines", "Pdbx", "Aligned"])
def test_reads_what_gemmi_writes(tmp_path, style):
    cif = pytest.importorskip("gemmi").cif
    document = cif.Document()
    for name, table in {"optics": OPTICS, "particles": TABLE}.items():
        new = document.add_new_block(name).init_loop("", [f"_{column}" for column in table.columns])
        for row in table.astype(object).values.tolist():
            new.add_row([cif.quote(value) if isinstance(value, str) else repr(value) for value in row])
    document.write_file(str(tmp_path / "particles.star"), getattr(cif.Style, style))
    assert_same(particles_of(tmp_path / "particles.star"))


def write_ours(path, table) -> None:
    write_star(path, {"general": {"rlnTomoSubTomosAre2DStacks": 1}, "optics": OPTICS, "particles": table})


def test_starfile_reads_what_we_write(tmp_path):
    starfile = pytest.importorskip("starfile")
    write_ours(tmp_path / "particles.star", WITHOUT_APOSTROPHE)
    blocks = starfile.read(tmp_path / "particles.star", always_dict=True, parse_as_string=["rlnTomoName"])
    assert_same(blocks["particles"], WITHOUT_APOSTROPHE)
    assert blocks["general"]["rlnTomoSubTomosAre2DStacks"] == 1


def test_gemmi_reads_what_we_write(tmp_path):
    cif = pytest.importorskip("gemmi").cif
    table = TABLE.replace({"α": "a"}, regex=True)  # CIF is ASCII
    write_ours(tmp_path / "particles.star", table)
    block = cif.read(str(tmp_path / "particles.star")).find_block("particles")
    for column in table:
        texts = [cif.as_string(value) for value in block.find_values(f"_{column}")]
        if pd.api.types.is_numeric_dtype(table[column]):
            np.testing.assert_array_equal(np.array(texts, dtype=float), table[column])
        else:
            assert texts == table[column].tolist()
