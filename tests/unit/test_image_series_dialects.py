"""Every image-series dialect gives the one table: twins, round trips, order, recognition and refusals."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from bad_image_series import CASES
from image_series_files import DIALECTS, relion, write
from particle_files import PIXEL_SIZE_A, write_image_series, write_text_star

from tomohet.commands import filter_star
from tomohet.errors import InputError
from tomohet.files.star import read_star
from tomohet.options import FilterStarOptions
from tomohet.particles.dialects import read_particles
from tomohet.particles.table import IMAGE_COLUMNS

PHYSICS = [c for c in IMAGE_COLUMNS if c not in ("image", "stack", "section", "row")]


@pytest.fixture
def table(tmp_path):
    return write_image_series(tmp_path)[1].assign(rlnPhaseShift=90.0)


def physics(read) -> np.ndarray:
    """Images by stack and section, particles numbered by their first image there."""
    images = read.images.sort_values(["stack", "section"])
    return images.assign(particle=pd.factorize(images["particle"])[0])[PHYSICS].to_numpy(float)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_twins_recognised_forced_and_shuffled(tmp_path, table, dialect):
    """Each dialect's file is known as such, and gives the Warp file's table, forced or shuffled too."""
    expected = read_particles(tmp_path / write(tmp_path, "warp", table))
    _, software, name = DIALECTS[dialect]
    read = read_particles(write(tmp_path, dialect, table))
    assert read.dialect == f"{name} image series" and not read.remarks
    np.testing.assert_allclose(physics(read), physics(expected), atol=1e-5)
    forced = read_particles(tmp_path / f"{dialect}.star", source_software=software)
    assert forced.dialect == read.dialect
    pd.testing.assert_frame_equal(forced.images, read.images)
    shuffled = read_particles(write(tmp_path, dialect, table, shuffle=4))
    np.testing.assert_array_equal(physics(shuffled), physics(read))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_twins_of_the_simulator(tmp_path, tiny, dialect):
    source = read_star(tiny / "particles.star")[""]
    expected = read_particles(tiny / "particles.star")
    read = read_particles(write(tmp_path, dialect, source), tiny)
    columns = [column for column in PHYSICS if column != "tilt_deg"]
    found = read.images[columns].to_numpy(float)
    np.testing.assert_allclose(found, expected.images[columns].to_numpy(float), atol=1e-5)
    # The cosine's decimals limit the angle near 0.
    np.testing.assert_allclose(read.images["tilt_deg"], expected.images["tilt_deg"], atol=1e-3)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_round_trip_through_filter_star(tmp_path, table, dialect):
    star = write(tmp_path, dialect, table)
    filter_star.run(FilterStarOptions(input=star, output=tmp_path / "kept.star"))
    again, read = read_particles(tmp_path / "kept.star"), read_particles(star)
    pd.testing.assert_frame_equal(again.images, read.images)
    pd.testing.assert_frame_equal(again.particles, read.particles)


@pytest.mark.parametrize("name", CASES)
def test_malformed(tmp_path, table, name):
    dialect, edit, expected = CASES[name]
    blocks = {block: content.copy() for block, content in DIALECTS[dialect][0](table).items()}
    edit(blocks)
    star = write_text_star(tmp_path / "bad.star", blocks)
    with pytest.raises(InputError) as refusal:
        read_particles(star)
    line = str(refusal.value)
    assert "\n" not in line and "bad.star" in line and re.search(expected, line), line


def test_every_image_keeps_its_optics_group(tmp_path, table):
    """Pixel size, voltage, aberration, contrast and premultiplication by group; shifts by pixel size."""
    blocks = relion(table)
    second = blocks["optics"].assign(
        rlnOpticsGroup=2,
        rlnImagePixelSize=4.0,
        rlnVoltage=200.0,
        rlnSphericalAberration=2.0,
        rlnAmplitudeContrast=0.1,
    )
    blocks["optics"] = pd.concat([second, blocks["optics"]]).assign(rlnCtfDataAreCtfPremultiplied=[1, 0])
    other = table["rlnImageName"].str.contains("TS_1").to_numpy()
    blocks["particles"]["rlnOpticsGroup"] = np.where(other, 2, 1)
    images = read_particles(write_text_star(tmp_path / "o.star", blocks)).images.sort_values("row")
    columns = ["pixel_size_A", "voltage_kV", "cs_mm", "amplitude_contrast", "ctf_premultiplied"]
    assert (images.loc[other, columns] == [4.0, 200.0, 2.0, 0.1, True]).all(axis=None)
    assert (images.loc[~other, columns] == [PIXEL_SIZE_A, 300.0, 2.7, 0.07, False]).all(axis=None)
    expected = table["rlnOriginX"] * PIXEL_SIZE_A / images["pixel_size_A"].to_numpy()
    np.testing.assert_allclose(images["shift_x_px"], expected)


def test_single_optics_group_as_pairs(tmp_path, table):
    blocks = relion(table)
    expected = physics(read_particles(write_text_star(tmp_path / "t.star", blocks)))
    blocks["optics"] = blocks["optics"].iloc[0].to_dict()
    np.testing.assert_array_equal(
        physics(read_particles(write_text_star(tmp_path / "p.star", blocks))), expected
    )


@pytest.mark.parametrize("block", ["", "images", "particles"])
@pytest.mark.parametrize(
    ("old", "new"), [("\n", "\r\n"), ("  ", "\t"), ("stacks/TS_0.mrcs", "stacks/TS_0.mrcs")]
)
def test_spelling_of_the_file(tmp_path, table, block, old, new):
    """Block names, line ends and tabs have no meaning; names that look like numbers stay text."""
    number = table["rlnGroupName"].str[-4:].radd("00")
    table = table.assign(rlnGroupName=number, rlnMicrographName="001")
    star = write_text_star(tmp_path / "s.star", {block: table})
    star.write_bytes(star.read_text().replace(old, new).encode())
    read = read_particles(star)
    assert list(read.particles["source_id"]) == list(number.unique())
    assert set(read.particles["tomogram"]) == {"001"}


def test_cistem_stack_of_the_same_stem_and_no_tilt(tmp_path, table):
    """Without a stack column the stack beside the file is taken; without tilt angles a remark says so."""
    one = table[table["rlnImageName"].str.contains("TS_0")]
    blocks = DIALECTS["cistem"][0](one)
    blocks[""] = blocks[""].drop(columns=["cisTEMStackFilename", "cisTEMTiltAngle"])
    shutil.copy(tmp_path / "stacks/TS_0.mrcs", tmp_path / "alone.mrcs")
    read = read_particles(write_text_star(tmp_path / "alone.star", blocks))
    assert set(read.images["stack"]) == {str(tmp_path / "alone.mrcs")}
    assert (read.images["tilt_deg"] == 0).all() and "stage tilts" in read.remarks[0]


def test_rlnTomoParticleName_wins_over_noise_groups(tmp_path, table):
    names = table["rlnGroupName"]
    table = table.assign(rlnTomoParticleName=names, rlnGroupName="all")
    assert len(read_particles(write_text_star(tmp_path / "n.star", {"": table})).particles) == names.nunique()


def test_nan_tilt_of_tomodrgn_is_harmless_beside_the_cosine(tmp_path, table):
    blocks = DIALECTS["tomodrgn_warp"][0](table)
    blocks[""].loc[0, "tomodrgnPseudoStageTilt"] = np.nan
    assert read_particles(write_text_star(tmp_path / "nan.star", blocks)).images["tilt_deg"].notna().all()


@pytest.mark.parametrize("dialect", ["warp", "relion", "cistem"])
def test_a_single_image_as_pairs(tmp_path, table, dialect):
    blocks = DIALECTS[dialect][0](table.iloc[:1])
    expected = physics(read_particles(write_text_star(tmp_path / "loop.star", blocks)))
    pairs = {name: block.iloc[0].to_dict() for name, block in blocks.items()}
    found = physics(read_particles(write_text_star(tmp_path / "pairs.star", pairs)))
    np.testing.assert_array_equal(found, expected)
