"""Optimisation sets of RELION 4, RELION 5 and native RELION 5 against their WarpTools twin."""

import numpy as np
import pandas as pd
import pytest
from particle_files import (
    BOX,
    N_TILTS,
    PIXEL_SIZE_A,
    optimisation_set_blocks,
    write_optimisation_set,
    write_stack,
    write_text_star,
)
from relion_files import (
    centred,
    unbinned,
    with_matrices,
    with_subtomogram_angles,
    write_native_tomograms,
    write_visible_stacks,
)
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles
from tomohet.particles.dialects.optimisation_set import linked_files
from tomohet.particles.dialects.tilt_series import alignment_rotation

NOT_COMPARED = ["stack", "section"]
ANGLES = ("Rot", "Tilt", "Psi")


@pytest.fixture(scope="module")
def warptools(tiny):
    """The simulator's WarpTools set: its folder, particle blocks, tomogram blocks and table."""
    folder = tiny / "warptools"
    star = folder / "particles_optimisation_set.star"
    files = linked_files(read_star(star), star)
    particles, tomograms = (read_star(path) for path in files.values())
    return folder, particles, tomograms, read_particles(star)


def write_set(path, particles, tomograms):
    names = {"rlnTomoParticlesFile": particles, "rlnTomoTomogramsFile": tomograms}
    return write_text_star(path, {"": names})


def assert_twins(read, twin):
    left, right = (s.images.drop(columns=NOT_COMPARED).astype(float) for s in (read, twin))
    assert len(left) == len(right)
    difference = (left - right).abs().max()
    assert (difference < 1e-5).all(), difference[difference >= 1e-5]
    np.testing.assert_allclose(
        *(s.particles[["x_A", "y_A", "z_A"]].astype(float) for s in (read, twin)), atol=1e-5
    )


def relion4(tmp_path, warptools):
    folder, blocks, tomograms, twin = warptools
    overview = tomograms["global"]
    factor = twin.pixel_size_A / overview["rlnTomoTiltSeriesPixelSize"].iloc[0]
    particles = blocks | {"particles": unbinned(blocks["particles"], factor)}
    write_text_star(tmp_path / "particles.star", particles)
    write_text_star(tmp_path / "tomograms.star", with_matrices(tomograms))
    return write_set(tmp_path / "optimisation_set.star", "particles.star", "tomograms.star"), folder


def relion5_matrices(tmp_path, warptools):
    folder, blocks, tomograms, twin = warptools
    particles = centred(blocks["particles"], tomograms["global"], twin.pixel_size_A)
    write_text_star(tmp_path / "particles.star", blocks | {"particles": particles})
    write_text_star(tmp_path / "tomograms.star", with_matrices(tomograms))
    return write_set(tmp_path / "optimisation_set.star", "particles.star", "tomograms.star"), folder


def relion5_native(tmp_path, warptools):
    """Everything named from the project's root; stacks of visible tilts, poses split in two."""
    folder, blocks, tomograms, twin = warptools
    particles = centred(blocks["particles"], tomograms["global"], twin.pixel_size_A)
    particles = with_subtomogram_angles(particles, np.random.default_rng(1))
    particles = write_visible_stacks(particles, folder, tmp_path)
    job = tmp_path / "Extract/job013"
    write_text_star(job / "particles.star", blocks | {"particles": particles})
    write_native_tomograms(tmp_path, "Tomograms/job009", tomograms)
    names = ("Extract/job013/particles.star", "Tomograms/job009/tomograms.star")
    return write_set(job / "optimisation_set.star", *names), None


WRITERS = [relion4, relion5_matrices, relion5_native]


@pytest.mark.parametrize("write", WRITERS)
def test_twins_of_warptools_give_one_table(tmp_path, warptools, write):
    star, datadir = write(tmp_path, warptools)
    assert_twins(read_particles(star, datadir), warptools[3])


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_depth_of_native_sets_is_relions(tmp_path, warptools, hand):
    """hand x slope x height of the projected point above the projected centre, by 4 x 4 matrices."""
    star, _ = relion5_native(tmp_path, warptools)
    path = tmp_path / "Tomograms/job009/tomograms.star"
    overview = read_star(path)["global"].assign(rlnTomoHand=hand, rlnTomoDefocusSlope=1.1)
    write_text_star(path, {"global": overview})
    read = read_particles(star)
    particles = read_star(tmp_path / "Extract/job013/particles.star")["particles"]
    about = overview.set_index("rlnTomoName")
    for image in read.images.iloc[::37].itertuples():
        particle = particles.iloc[image.particle]
        row = about.loc[particle["rlnTomoName"]]
        (tilts,) = read_star(tmp_path / row["rlnTomoTiltSeriesStarFile"]).values()
        tilt = tilts.iloc[image.tilt]
        x, y, z = np.radians([tilt["rlnTomoXTilt"], tilt["rlnTomoYTilt"], tilt["rlnTomoZRot"]])
        about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
        about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
        about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
        turn, move = np.eye(4), np.eye(4)
        turn[:3, :3] = np.array(about_z) @ about_y @ about_x
        size_A = np.array([row[f"rlnTomoSize{a}"] for a in "XYZ"]) * row["rlnTomoTiltSeriesPixelSize"]
        move[:3, 3] = -size_A / 2
        point = [particle[f"rlnCenteredCoordinate{a}Angst"] for a in "XYZ"] + size_A / 2
        height = (turn @ move @ [*point, 1])[2] - (turn @ move @ [*size_A / 2, 1])[2]
        assert image.defocus_u_A == pytest.approx(tilt["rlnDefocusU"] + hand * 1.1 * height, abs=1e-5)


def test_alignment_rotation_turns_about_x_then_y_then_z():
    x, y, z = np.random.default_rng(2).uniform(-80, 80, (3, 9))
    vector = np.array([1.0, 2.0, 3.0])
    for i, matrix in enumerate(alignment_rotation(z, y, x)):
        expected = vector
        for axis, angle in zip(np.eye(3), (x[i], y[i], z[i]), strict=True):
            expected = Rotation.from_rotvec(np.radians(angle) * axis).apply(expected)
        np.testing.assert_allclose(matrix @ vector, expected, atol=1e-12)


def test_filtered_sets_read_back(tmp_path, warptools, run_script):
    """Filtering a RELION 4 set keeps the chosen particles' rows as they were."""
    star, datadir = relion4(tmp_path, warptools)
    np.save(tmp_path / "some.npy", np.array([1, 4, 7]))
    pd.to_pickle(np.array([1, 4, 7]), tmp_path / "some.pkl")
    out = tmp_path / "out_optimisation_set.star"
    run_script("filter_star", star, "--ind", tmp_path / "some.pkl", "-o", out)
    read, before = read_particles(out, datadir), read_particles(star, datadir)
    kept = before.images[before.images["particle"].isin([1, 4, 7])]
    columns = [f"r{i}{j}" for i in range(3) for j in range(3)] + ["defocus_u_A", "dose_e_A2", "stack"]
    kept = kept[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(read.images[columns], kept, check_categorical=False)


def test_each_optics_group_keeps_its_own_values(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(4))
    blocks["optics"] = blocks["optics"].assign(
        rlnImagePixelSize=[8.0, 6.0], rlnVoltage=[300.0, 200.0], rlnTomoSubtomogramBinning=[4, 2]
    )
    read = read_particles(write_optimisation_set(tmp_path, blocks, tomograms))
    group = blocks["particles"]["rlnOpticsGroup"].to_numpy()[read.images["particle"]]
    np.testing.assert_array_equal(read.images["pixel_size_A"], np.where(group == 1, 8.0, 6.0))
    np.testing.assert_array_equal(read.images["voltage_kV"], np.where(group == 1, 300.0, 200.0))
    np.testing.assert_array_equal(read.images["ctf_premultiplied"], group == 1)
    assert any("rlnTomoSubtomogramBinning" in remark and "4 Å" in remark for remark in read.remarks)


def test_what_is_absent_is_remarked(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(4))
    star = write_optimisation_set(tmp_path, blocks, tomograms)
    del blocks["particles"]["rlnTomoVisibleFrames"], blocks["optics"]["rlnCtfDataAreCtfPremultiplied"]
    write_text_star(tmp_path / "particles.star", blocks)
    for name in ("001", "002"):
        angles = tomograms[name].drop(columns=[f"rlnTomoProj{axis}" for axis in "XYZ"])
        tomograms[name] = angles.assign(rlnTomoYTilt=[0, 20, -20, 40, -40], rlnTomoZRot=85.0)
    tomograms["003"]["rlnCtfBfactor"] = 12.0
    write_text_star(tmp_path / "tomograms.star", tomograms)
    star.write_text(star.read_text().rstrip() + "\n_rlnTomoTrajectoriesFile motion.star\n")
    read = read_particles(star)
    for said in (
        "rlnTomoXShiftAngst and rlnTomoYShiftAngst are missing, which RELION requires (2 of 3 tomograms)",
        "rlnCtfBfactor of the tilts, part of RELION's CTF, is not modelled (1 of 3 tomograms)",
    ):
        assert said in read.remarks
    assert len(read.images) == len(blocks["particles"]) * N_TILTS
    for said in ("rlnTomoVisibleFrames", "rlnCtfDataAreCtfPremultiplied", "rlnTomoTrajectoriesFile"):
        assert any(said in remark for remark in read.remarks)


@pytest.mark.parametrize("value", ['""', "None"])
def test_no_trajectories_need_no_remark(tmp_path, value):
    """RELION's refinement always writes the entry, empty."""
    star = write_optimisation_set(tmp_path, *optimisation_set_blocks(np.random.default_rng(4)))
    star.write_text(star.read_text().rstrip() + f"\n_rlnTomoTrajectoriesFile {value}\n")
    assert read_particles(star).remarks == ()


@pytest.mark.parametrize("form", ["optics", "global", "particles", "general", "the set", "tilts"])
def test_tables_of_one_row_may_be_pairs(tmp_path, form):
    """One particle of one tomogram and one optics group: any of its tables as pairs, or as a loop."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(4))
    blocks["particles"] = blocks["particles"].iloc[:1].assign(rlnTomoVisibleFrames="[1]")
    blocks["optics"] = blocks["optics"].iloc[:1]
    tomograms = {"global": tomograms["global"].iloc[2:], "001": tomograms["001"].iloc[:1]}
    star = write_optimisation_set(tmp_path, blocks, tomograms)
    write_stack(tmp_path / "stacks/001/p0.mrcs", np.ones((1, BOX, BOX), np.float32), PIXEL_SIZE_A)
    loops = read_particles(star)
    pairs = {"optics": blocks, "particles": blocks, "global": tomograms, "tilts": tomograms}
    if form == "general":
        blocks["general"] = pd.DataFrame([blocks["general"]])
    elif form == "the set":
        names = {"rlnTomoParticlesFile": ["particles.star"], "rlnTomoTomogramsFile": ["tomograms.star"]}
        write_text_star(star, {"": pd.DataFrame(names)})
    else:
        name = "001" if form == "tilts" else form
        pairs[form][name] = pairs[form][name].iloc[0].to_dict()
    write_text_star(tmp_path / "particles.star", blocks)
    write_text_star(tmp_path / "tomograms.star", tomograms)
    read = read_particles(star)
    pd.testing.assert_frame_equal(read.images, loops.images)
    pd.testing.assert_frame_equal(read.particles, loops.particles)


def test_the_b_factor_of_relions_dose_weights(tmp_path):
    """rlnCtfBfactorPerElectronDose of RELION 5.1 counts where dose weights were multiplied in."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(4))
    tomograms["global"]["rlnCtfBfactorPerElectronDose"] = [0.0, 4.5, 6.0]  # of tomograms 002, 003, 001
    read = read_particles(write_optimisation_set(tmp_path, blocks, tomograms))
    tomogram = read.particles["tomogram"].to_numpy()[read.images["particle"]]
    b_factor = pd.Series(tomogram).map({"002": 0.0, "003": 4.5, "001": 6.0})
    expected = np.where(read.images["ctf_premultiplied"], b_factor, 0.0)
    np.testing.assert_array_equal(read.images["dose_b_factor_A2"], expected)


def test_excluded_tilts_that_are_visible_are_remarked(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(4))
    tomograms["001"].loc[3, "rlnCtfScalefactor"] = 0.0  # particle 0 is premultiplied, 3 is not
    read = read_particles(write_optimisation_set(tmp_path, blocks, tomograms))
    assert read.remarks == ("1 visible images have rlnCtfScalefactor 0 or less, like excluded ones",)


def table(column, row, value, block="particles"):
    """Damage of one value of a table of the particles file."""

    def damage(blocks, tomograms):
        values = blocks[block][column].astype(object)
        values.iloc[row] = value
        blocks[block][column] = values

    return damage


def tilts(column, row, value, block="001"):
    def damage(blocks, tomograms):
        table(column, row, value, block)(tomograms, None)

    return damage


def drop(column, block="particles"):
    def damage(blocks, tomograms):
        tables = blocks if block in blocks else tomograms
        tables[block] = tables[block].drop(columns=column)

    return damage


def remove(block):
    return lambda blocks, tomograms: (blocks if block in blocks else tomograms).pop(block)


def empty(block):
    def damage(blocks, tomograms):
        tables = blocks if block in blocks else tomograms
        tables[block] = tables[block].iloc[:0]

    return damage


def linked(blocks, tomograms):
    tomograms["global"]["rlnTomoTiltSeriesStarFile"] = "tilt_series/none.star"
    for name in ("001", "002", "003"):
        del tomograms[name]


def no_dimension(blocks, tomograms):
    del blocks["general"]
    blocks["optics"]["rlnImageDimensionality"] = 3


def no_coordinates(blocks, tomograms):
    drop([f"rlnCoordinate{a}" for a in "XYZ"])(blocks, tomograms)


def hidden(blocks, tomograms):
    blocks["particles"]["rlnTomoVisibleFrames"] = "[0,0,0,0,0]"


MALFORMED = {
    "volumes": (
        lambda b, t: b["general"].update(rlnTomoSubTomosAre2DStacks=0),
        "extract the particles as 2D",
    ),
    "volumes of RELION 4": (no_dimension, "extract the particles as 2D stacks"),
    "no particles table": (remove("particles"), "expected the tables data_particles and data_optics"),
    "no optics table": (remove("optics"), "expected the tables data_particles and data_optics"),
    "no particles": (empty("particles"), "data_particles.*empty"),
    "no list of tomograms": (remove("global"), "found no table data_global"),
    "no tilt series": (remove("001"), "1 of 3 tomograms of the particles have no tilt series here: 001"),
    "no tilts": (empty("001"), "data_001 is empty, expected one row per tilt"),
    "tilt series file": (
        linked,
        "tilt_series/none.star: cannot be read.*rlnTomoTiltSeriesStarFile of tomogram",
    ),
    "no names": (drop("rlnTomoName"), "_rlnTomoName"),
    "no images": (drop("rlnImageName"), "_rlnImageName"),
    "no rot": (drop("rlnAngleRot"), "_rlnAngleRot"),
    "no group": (drop("rlnOpticsGroup"), "_rlnOpticsGroup"),
    "no pixel size": (drop("rlnImagePixelSize", "optics"), "_rlnImagePixelSize"),
    "no voltage": (drop("rlnVoltage", "optics"), "_rlnVoltage"),
    "no coordinates": (no_coordinates, "neither _rlnCenteredCoordinateXAngst.*nor _rlnCoordinateX"),
    "no dose": (drop("rlnMicrographPreExposure", "001"), "_rlnMicrographPreExposure"),
    "no defocus": (drop("rlnDefocusV", "001"), "_rlnDefocusV"),
    "no geometry": (drop(["rlnTomoProjX"], "001"), "_rlnTomoProjX is missing, and so are alignment angles"),
    "no size": (drop("rlnTomoSizeZ", "global"), "row 1: tomogram 001 has no size.*give centred coordinates"),
    "half a subtomogram": (
        lambda b, t: b["particles"].insert(0, "rlnTomoSubtomogramRot", 3.0),
        "_rlnTomoSubtomogramTilt",
    ),
    "hand 0": (tilts("rlnTomoHand", 2, 0.0, "global"), "rlnTomoHand 0, expected 1 or -1"),
    "size 0": (tilts("rlnTomoSizeX", 2, 0, "global"), "tomogram 001 has no size.*above 0"),
    "size not known": (tilts("rlnTomoSizeY", 0, -999, "global"), "row 2: tomogram 002 has no size"),
    "pixel size 0 of the tilts": (tilts("rlnTomoTiltSeriesPixelSize", 2, 0, "global"), "pixel size 0 Å"),
    "angle 57.3 times too large": (
        table("rlnAngleRot", 4, 67.5 * 57.29578),
        "row 5: found angles rot 3867.47.*within one turn.*WarpTools dev0 to dev25 wrote angles 57.2958",
    ),
    "tilt beyond a turn": (table("rlnAngleTilt", 1, 671.269), "row 2: found angles.*tilt 671.269"),
    "subtomogram angle too large": (
        lambda b, t: [b["particles"].insert(0, f"rlnTomoSubtomogram{a}", 700.0) for a in ANGLES],
        "row 1: found angles rot 700, tilt 700 and psi 700",
    ),
    "corrected": (
        lambda b, t: b["optics"].insert(0, "rlnCtfDataAreCtfCorrected", [0, 1]),
        "data_optics: column _rlnCtfDataAreCtfCorrected, row 2: found 1, expected 0.*cannot be modelled",
    ),
    "phases flipped": (
        lambda b, t: b["optics"].insert(0, "rlnCtfDataArePhaseFlipped", [1, 0]),
        "column _rlnCtfDataArePhaseFlipped, row 1: found 1, expected 0.*extract",
    ),
    "contrast in per cent": (
        table("rlnAmplitudeContrast", 1, 7.0, "optics"),
        "data_optics: column _rlnAmplitudeContrast, row 2: found 7, expected a fraction from 0 to 1",
    ),
    "voltage 0": (table("rlnVoltage", 0, 0.0, "optics"), "_rlnVoltage, row 1: found 0, expected kV"),
    "voltage in V": (table("rlnVoltage", 0, 3e5, "optics"), "_rlnVoltage, row 1: found 300000"),
    "aberration below 0": (table("rlnSphericalAberration", 0, -2.7, "optics"), "found -2.7, expected mm"),
    "defocus in pm": (tilts("rlnDefocusU", 3, 2e7), "data_001: column _rlnDefocusU, row 4: found 2e"),
    "tomogram twice": (tilts("rlnTomoName", 0, "001", "global"), "tomogram 001 appears twice"),
    "mirror": (tilts("rlnTomoProjY", 1, "[0,-1,0,0]"), "row 2: the projection matrix is not a rotation"),
    "short row of a matrix": (
        tilts("rlnTomoProjY", 1, "[0,1,0]"),
        r"_rlnTomoProjY, row 2: found `\[0,1,0\]`, expected four numbers `\[a,b,c,d\]`",
    ),
    "dose of text": (tilts("rlnMicrographPreExposure", 1, "much"), "_?rlnMicrographPreExposure.*much"),
    "angle of text": (table("rlnAngleTilt", 2, "up"), "_?rlnAngleTilt.*up"),
    "coordinate not finite": (table("rlnCoordinateY", 2, "nan"), "rlnCoordinateY"),
    "frames of text": (table("rlnTomoVisibleFrames", 2, "[1,x,1,1,1]"), "rlnTomoVisibleFrames: found"),
    "frames of another series": (
        table("rlnTomoVisibleFrames", 2, "[1,1,1]"),
        "row 3: rlnTomoVisibleFrames has 3 entries, but tomogram 003 has 5 tilts",
    ),
    "all hidden": (hidden, "no particle has a visible tilt"),
    "unknown group": (table("rlnOpticsGroup", 1, 9), "_rlnOpticsGroup, row 2: group 9 is not in data_optics"),
    "group twice": (table("rlnOpticsGroup", 1, 1, "optics"), "data_optics: optics group 1 appears twice"),
    "pixel size 0": (table("rlnImagePixelSize", 1, 0.0, "optics"), "pixel size 0 Å"),
    "box of another extraction": (table("rlnImageSize", 1, 64, "optics"), f"box {BOX} px, but rlnImageSize"),
    "a section, not a stack": (table("rlnImageName", 1, "1@a.mrcs"), "expected one whole stack per particle"),
    "missing stack": (table("rlnImageName", 1, "gone.mrcs"), "1 of 6 image stacks are missing: gone.mrcs"),
    "stack twice": (table("rlnImageName", 3, "stacks/001/p0.mrcs"), "duplicate particle: rows 1 and 4"),
    "name twice": (table("rlnTomoParticleName", 3, "001/0"), "duplicate particle 001/0 in rows 1 and 4"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_set_is_one_clear_line(tmp_path, name):
    damage, message = MALFORMED[name]
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(6))
    star = write_optimisation_set(tmp_path, blocks, tomograms)
    damage(blocks, tomograms)
    write_text_star(tmp_path / "particles.star", blocks)
    write_text_star(tmp_path / "tomograms.star", tomograms)
    with pytest.raises(InputError, match=message) as error:
        read_particles(star)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("part", ["particles", "tomograms"])
def test_a_part_of_a_set_names_the_set(tmp_path, part):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(6))
    write_optimisation_set(tmp_path, blocks, tomograms)
    with pytest.raises(InputError, match=f"the {part} file of one.*give particles_optimisation_set.star"):
        read_particles(tmp_path / f"{part}.star")


def test_a_stack_neither_whole_nor_visible_is_refused(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(6))
    star = write_optimisation_set(tmp_path, blocks, tomograms)
    stack = np.zeros((N_TILTS - 2, BOX, BOX), np.float32)
    write_stack(tmp_path / blocks["particles"]["rlnImageName"][0], stack, PIXEL_SIZE_A)
    with pytest.raises(InputError, match=r"3 sections, expected 5 \(all tilts\) or 4 \(visible tilts\)"):
        read_particles(star)
