"""Which images are one particle, and where it lies: joined tables, numbers that begin again, tilt images."""

import numpy as np
import pandas as pd
import pytest
from image_series_files import DIALECTS
from particle_files import N_PARTICLES, N_TILTS, image_table, write_image_series, write_stack, write_text_star

from tomohet.errors import InputError
from tomohet.particles.dialects import read_particles
from tomohet.particles.dialects.series_identity import identify
from tomohet.particles.export import detect_type, numbered_as, read_particle_file, tomograms_of

NAMED = [name for name in DIALECTS if name not in ("cryodrgn", "nextpyp", "tomodrgn_nextpyp", "cistem")]
NUMBERED = ["cryodrgn", "nextpyp", "cistem"]


def rows(n=3, tilts=4, **columns):
    """`n` particles with `tilts` images each in one stack; columns of None are left out."""
    tilt = np.tile(np.arange(tilts), n)
    table = {
        "rlnImageName": [f"{i + 1}@s/all.mrcs" for i in range(n * tilts)],
        "rlnGroupName": np.repeat([f"TS_{p % 2}_{p:04d}" for p in range(n)], tilts),
        "rlnCtfBfactor": -12.0 * tilt,
    } | columns
    return pd.DataFrame({name: value for name, value in table.items() if value is not None})


def two_sessions(dialect: str) -> dict:
    """The same file from two sessions, stacks in a folder for each, as one table."""
    tables = []
    for session in (1, 2):
        table = image_table(np.random.default_rng(session))
        table["rlnImageName"] = table["rlnImageName"].str.replace("stacks", f"s{session}")
        blocks = DIALECTS[dialect][0](table.assign(rlnPhaseShift=0.0))
        tables.append(blocks)
    name = "particles" if "particles" in blocks else ""
    return blocks | {name: pd.concat([one[name] for one in tables], ignore_index=True)}


@pytest.fixture
def sessions(tmp_path):
    """Stacks of both sessions."""
    for session in (1, 2):
        for number in (0, 1):
            images = np.random.default_rng(session).normal(size=(N_PARTICLES * N_TILTS // 2, 16, 16))
            write_stack(tmp_path / f"s{session}/TS_{number}.mrcs", images.astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("dialect", NAMED)
def test_equal_names_from_two_sessions_are_refused(sessions, dialect):
    star = write_text_star(sessions / "joined.star", two_sessions(dialect))
    for read in (read_particles, lambda path: read_particle_file(path, detect_type(path))):
        with pytest.raises(InputError) as refusal:
            read(star)
        line = str(refusal.value)
        assert "duplicate particle TS_0_0000: rows 1 and 31" in line and "\n" not in line
        assert "s1/TS_0.mrcs and from s2/TS_0.mrcs" in line and "names (_rlnGroupName) or tomograms" in line


@pytest.mark.parametrize("dialect", NUMBERED)
def test_equal_numbers_from_two_sessions_are_particles_of_their_stacks(sessions, dialect):
    star = write_text_star(sessions / "joined.star", two_sessions(dialect))
    read = read_particles(star)
    assert len(read.particles) == 2 * N_PARTICLES and (read.particles["n_tilts"] == N_TILTS).all()
    assert read.particles["source_id"].is_unique and "restarts in each stack" in read.remarks[0]
    assert read.particles["tomogram"].nunique() == 4
    assert read_particle_file(star, detect_type(star)).n_particles == 2 * N_PARTICLES


def test_tomograms_of_two_sessions_tell_equal_names_apart(sessions):
    blocks = two_sessions("warp")
    table = blocks[""]
    session = table["rlnImageName"].str.extract(r"@(s\d)")[0]
    table["rlnMicrographName"] = session + "_" + table["rlnMicrographName"]
    star = write_text_star(sessions / "joined.star", blocks)
    read = read_particles(star)
    assert len(read.particles) == 2 * N_PARTICLES and read.particles["tomogram"].nunique() == 4
    assert read.particles["source_id"].iloc[0] == "s1_TS_0.tomostar/TS_0_0000"
    images = read_particle_file(star, "imageseries")
    assert images.n_particles == 2 * N_PARTICLES
    volumes = write_text_star(
        sessions / "v.star", {"": pd.DataFrame({"rlnGroupName": ["TS_0_0000"], "rlnCoordinateX": [1.0]})}
    )
    with pytest.raises(InputError, match="names particles of several tomograms"):
        numbered_as(read_particle_file(volumes, "volumeseries"), images)


def test_one_tomogram_in_several_folders_is_remarked(tmp_path):
    _, table = write_image_series(tmp_path)
    images = np.random.default_rng(1).normal(size=(N_TILTS, 16, 16)).astype(np.float32)
    write_stack(tmp_path / "other/TS_0.mrcs", images)
    last = table["rlnGroupName"] == "TS_0_0004"
    table.loc[last, "rlnImageName"] = [f"{i + 1}@other/TS_0.mrcs" for i in range(N_TILTS)]
    read = read_particles(write_text_star(tmp_path / "p.star", {"": table}))
    assert len(read.particles) == N_PARTICLES
    assert (
        "1 tomograms have image stacks in several folders, as TS_0.tomostar in stacks and other"
        in read.remarks[0]
    )


@pytest.mark.parametrize("doses", [True, False])
def test_a_stack_for_each_tilt_is_one_particle(doses):
    """M's stacks of one tilt; without doses the tilts' signs are not known, so nothing is judged."""
    tilt = np.tile(np.arange(4), 3)
    table = rows(
        rlnImageName=[f"{p + 1}@tilt_{t}.mrcs" for p, t in zip(np.repeat(range(3), 4), tilt, strict=True)],
        rlnMicrographName=[f"TS_0_{t}.mrc" for t in tilt],
        rlnCtfBfactor=-12.0 * tilt if doses else 0.0,
        rlnCtfScalefactor=np.cos(np.radians([0, 3, 3, 6] * 3)),
    )
    known = identify(table, "f.star")
    assert len(known.names) == 3 and known.tomogram.tolist() == ["TS_0", "TS_1", "TS_0"]
    if doses:
        other = table.assign(rlnImageName="s2/" + table["rlnImageName"].str.replace("@", "@s2/"))
        with pytest.raises(InputError, match="duplicate particle TS_0_0000: rows 1 and 13"):
            identify(pd.concat([table, other], ignore_index=True), "f.star")


def test_a_particle_across_two_stacks_stays_one():
    """Stacks cut after a number of images: the second particle's images are in both."""
    stack = np.repeat(["a", "b"], 6)
    table = rows(
        rlnImageName=[f"{i + 1}@{s}.mrcs" for i, s in enumerate(stack)], rlnMicrographName="TS_0.mrc"
    )
    assert identify(table, "f").particle.tolist() == np.repeat([0, 1, 2], 4).tolist()
    numbers = table.assign(rlnGroupNumber=np.repeat(["1", "2", "3"], 4)).drop(columns="rlnGroupName")
    assert identify(numbers, "f").names.tolist() == ["1", "2", "3"]


def test_numbers_are_told_apart_by_tomogram_even_when_their_tilts_do_not_meet():
    """Particle 1 of TS_0 has the first tilts, particle 1 of TS_1 the last: no exposure stands twice."""
    table = rows(n=2, tilts=6, rlnGroupName=None, rlnMicrographName=np.repeat(["TS_0.mrc", "TS_1.mrc"], 6))
    table = table.assign(rlnGroupNumber="1", rlnCtfBfactor=-4.0 * np.arange(12))
    assert identify(table, "f").names.tolist() == ["TS_0.mrc/1", "TS_1.mrc/1"]


def test_restacked_images_of_two_molecules_are_known_by_their_micrographs():
    """All images in one stack, micrographs are tilt images: one dose in two of them."""
    one = rows(rlnMicrographName=[f"a_{t}.mrc" for t in np.tile(range(4), 3)])
    other = one.assign(rlnMicrographName=one["rlnMicrographName"].str.replace("a_", "b_"))
    with pytest.raises(InputError, match="from a_0.mrc and from b_0.mrc"):
        identify(pd.concat([one, other], ignore_index=True), "f.star")


@pytest.mark.parametrize(
    ("names", "tomograms"),
    [
        (
            ["area12_ts_001/1", "area12_ts_001/2", "area12_ts_002/1"],
            ["area12_ts_001"] * 2 + ["area12_ts_002"],
        ),
        (["TS_001_000017", "TS_001_000018", "TS_002_000017"], ["TS_001"] * 2 + ["TS_002"]),
        (["000_000000", "000_000001", "001_000000"], ["000"] * 2 + ["001"]),
        (["0001_TS1", "0002_TS1", "0001_TS2"], ["TS1"] * 2 + ["TS2"]),
        (["TS_1_a", "TS_1_b", "TS_2_a"], ["TS_1"] * 2 + ["TS_2"]),
        (["1", "2", "3"], ["all"] * 3),
    ],
)
def test_tomogram_of_a_name_without_micrographs(names, tomograms):
    assert identify(rows(rlnGroupName=np.repeat(names, 4)), "f").tomogram.tolist() == tomograms


def test_tomogram_of_a_stack_for_each_particle_is_its_folder():
    stacks = np.repeat(["Subtomograms/TS_01/12_stack2d.mrcs", "Subtomograms/TS_02/3_stack2d.mrcs"], 4)
    table = rows(n=2, rlnGroupName=np.repeat(["12", "3"], 4), rlnImageName=[f"1@{stack}" for stack in stacks])
    assert identify(table, "f").tomogram.tolist() == ["TS_01", "TS_02"]


def test_rlnTomoName_wins_and_tells_equal_names_apart():
    table = rows(n=2, rlnGroupName="p/1", rlnTomoName=np.repeat(["A", "B"], 4), rlnMicrographName="m.mrc")
    known = identify(table, "f")
    assert known.tomogram.tolist() == ["A", "B"] and known.names.tolist() == ["A/p/1", "B/p/1"]


def test_filter_star_names_the_readers_tomograms(tmp_path):
    """Micrographs that are tilt images are no tomograms; a column of the user's own is taken as it is."""
    table = rows(rlnGroupName=np.repeat(["T/1", "T/2", "U/1"], 4), mine="x")
    table["rlnMicrographName"] = [f"m_{i % 4}" for i in range(12)]
    file = read_particle_file(write_text_star(tmp_path / "t.star", {"": table}), "imageseries")
    assert tomograms_of(file, "_rlnMicrographName").tolist() == ["T"] * 8 + ["U"] * 4
    assert set(tomograms_of(file, "_mine")) == {"x"}
