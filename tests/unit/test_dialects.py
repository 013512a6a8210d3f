"""STAR dialects become one table: golden numbers, independent derivations, and order without meaning."""

import numpy as np
import pandas as pd
import pytest
from particle_files import (
    BOX,
    N_PARTICLES,
    N_TILTS,
    PIXEL_SIZE_A,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)

from tomohet.errors import InputError
from tomohet.files.mrc import read_sections, stack_header
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles
from tomohet.particles.dialects.tilt_series import stage_tilt
from tomohet.particles.table import IMAGE_COLUMNS, PARTICLE_COLUMNS

WARPTOOLS = "data/tomodrgn-tests/warptools_test_4-tomos_10-ptcls_box-32_angpix-12"
PHYSICS = [c for c in IMAGE_COLUMNS if c not in ("image", "particle", "stack", "section", "row")]


def keyed(particle_set, columns=PHYSICS):
    """Images by (source_id, stack, section), so that tables of reordered files can be compared."""
    images = particle_set.images.merge(particle_set.particles[["particle", "source_id"]], on="particle")
    return images.set_index(["source_id", "stack", "section"])[list(columns)].sort_index()


def test_golden_image_series(shared):
    """Poses, shifts, doses, tilts and CTF of every image equal the reference program's."""
    read = read_particles(shared / "data/tomodrgn-tests/10076_both_32_sim.star")
    golden = pd.read_csv(shared / "golden/10076_per_image.csv")
    images = read.images.sort_values("row", ignore_index=True)
    assert (read.box, len(read.particles), len(images)) == (32, 144, 1296)
    assert read.dialect == "cryoSRPNT image series"
    rotation = [f"r{i}{j}" for i in range(3) for j in range(3)]
    np.testing.assert_allclose(images[rotation], golden[rotation], atol=1e-6)
    np.testing.assert_array_equal(images["particle"], golden["ptcl"])
    for ours, theirs in {
        "shift_x_px": "tx_px",
        "shift_y_px": "ty_px",
        "dose_e_A2": "dose_eA2",
        "defocus_u_A": "dfu_A",
        "defocus_v_A": "dfv_A",
        "defocus_angle_deg": "dfang_deg",
        "voltage_kV": "kV",
        "cs_mm": "cs_mm",
        "amplitude_contrast": "w",
        "phase_shift_deg": "phase_deg",
        "pixel_size_A": "angpix",
    }.items():
        np.testing.assert_allclose(images[ours], golden[theirs], rtol=1e-6, atol=1e-6, err_msg=ours)
    np.testing.assert_allclose(np.radians(images["tilt_deg"]), golden["tilt_rad"], atol=1e-6)
    assert set(read.particles["tomogram"]) == {"000", "001"}


def test_warptools_every_image_has_its_own_tilt(shared):
    """1,430 visible images; dose, tilt and pose of each from its own row of its own tomogram."""
    read = read_particles(shared / f"{WARPTOOLS}_optimisation_set.star")
    tomograms = read_star(shared / f"{WARPTOOLS}_tomograms.star")
    particles = read_star(shared / f"{WARPTOOLS}.star")["particles"]
    assert len(read.images) == 1430 and read.n_input["images"] == 1480
    for image in read.images.itertuples():
        particle = particles.iloc[image.particle]
        tilt = tomograms[particle["rlnTomoName"]].iloc[image.tilt]
        assert eval(particle["rlnTomoVisibleFrames"])[image.tilt] == 1
        assert image.section == image.tilt + 1 and image.stack.endswith(particle["rlnImageName"])
        assert image.dose_e_A2 == tilt["rlnMicrographPreExposure"]
        assert np.cos(np.radians(image.tilt_deg)) == pytest.approx(tilt["rlnCtfScalefactor"], abs=1e-9)
        projection = np.array([eval(tilt[f"rlnTomoProj{axis}"])[:3] for axis in "XYZ"])
        found = np.array([getattr(image, f"r{i}{j}") for i in range(3) for j in range(3)]).reshape(3, 3)
        assert np.abs(projection.T @ found - pose(particle)).max() < 1e-5
    assert read.images["ctf_premultiplied"].all() and read.images["dose_weighted"].all()


def pose(particle) -> np.ndarray:
    """RELION's matrix from the intrinsic ZYZ rotation, which is its transpose."""
    from scipy.spatial.transform import Rotation

    angles = [particle[f"rlnAngle{name}"] for name in ("Rot", "Tilt", "Psi")]
    return Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix().T


def test_warptools_rows_shuffled_between_tomograms(shared, tmp_path):
    """Shuffled particle rows give each image the same pose, defocus, dose and tilt."""
    source = shared / f"{WARPTOOLS}_optimisation_set.star"
    blocks = read_star(shared / f"{WARPTOOLS}.star")
    blocks["particles"] = blocks["particles"].sample(frac=1, random_state=3)
    write_text_star(tmp_path / "p.star", blocks)
    tomograms = shared / f"{WARPTOOLS}_tomograms.star"
    (tmp_path / "t.star").write_bytes(tomograms.read_bytes())
    names = {"rlnTomoParticlesFile": "p.star", "rlnTomoTomogramsFile": "t.star"}
    shuffled = read_particles(write_text_star(tmp_path / "set.star", {"": names}), source.parent)
    pd.testing.assert_frame_equal(keyed(shuffled), keyed(read_particles(source)), check_exact=True)


def test_image_series_order_of_rows_and_columns_has_no_meaning(tmp_path):
    star, table = write_image_series(tmp_path)
    shuffled = table.sample(frac=1, random_state=1)[table.columns[::-1]].assign(rlnUnknownColumn="x")
    other = read_particles(write_text_star(tmp_path / "shuffled.star", {"particles": shuffled}))
    read = read_particles(star)
    pd.testing.assert_frame_equal(keyed(other), keyed(read), check_exact=True)
    by_name = [s.particles.set_index("source_id").sort_index() for s in (other, read)]
    pd.testing.assert_frame_equal(*(p.drop(columns="particle") for p in by_name))
    assert list(other.particles["source_id"]) == list(shuffled["rlnGroupName"].unique())


def test_image_series_tables_keep_their_contract(tmp_path):
    star, _table = write_image_series(tmp_path)
    read = read_particles(star)
    assert read.dialect == "Warp/M image series"
    assert tuple(read.particles.columns) == PARTICLE_COLUMNS and tuple(read.images.columns) == IMAGE_COLUMNS
    assert (read.images["image"] == np.arange(len(read.images))).all()
    assert read.images[["particle", "tilt"]].apply(tuple, axis=1).is_monotonic_increasing
    assert read.particles["n_tilts"].tolist() == [N_TILTS] * N_PARTICLES
    assert read.particles["half"].tolist() == [p % 2 + 1 for p in range(N_PARTICLES)]
    assert set(read.particles["tomogram"]) == {"TS_0.tomostar", "TS_1.tomostar"}
    assert read.particles[["x_A", "y_A", "z_A"]].isna().all(axis=None)
    assert read.box == BOX and read.pixel_size_A == PIXEL_SIZE_A


def test_columns_that_may_be_absent(tmp_path):
    """No origins: no shift. No micrograph name: tomogram from the particle's name. Phase shift: 0."""
    _, table = write_image_series(tmp_path)
    few = table.drop(
        columns=["rlnOriginX", "rlnOriginY", "rlnMicrographName", "rlnPhaseShift", "rlnRandomSubset"]
    )
    read = read_particles(write_text_star(tmp_path / "few.star", {"": few}))
    assert read.dialect == "cryoSRPNT image series"
    assert (read.images[["shift_x_px", "shift_y_px", "phase_shift_deg"]] == 0).all(axis=None)
    assert list(read.particles["tomogram"]) == [f"TS_{p % 2}" for p in range(N_PARTICLES)]
    assert read.particles["half"].isna().all()


def test_pixel_size_follows_the_magnification(tmp_path):
    _, table = write_image_series(tmp_path)
    # 5 µm detector pixels magnified 6250 times are 8 Å.
    table = table.assign(rlnDetectorPixelSize=5.0, rlnMagnification=6250.0)
    assert read_particles(write_text_star(tmp_path / "m.star", {"": table})).pixel_size_A == PIXEL_SIZE_A


def test_coordinates_constant_over_tilts_are_positions(tmp_path):
    _, table = write_image_series(tmp_path)
    number = table["rlnGroupName"].str[-4:].astype(int)
    for axis in "XYZ":
        table[f"rlnCoordinate{axis}"] = number * 10.0
    read = read_particles(write_text_star(tmp_path / "xyz.star", {"": table}))
    np.testing.assert_allclose(read.particles["z_A"], np.arange(N_PARTICLES) * 10 * PIXEL_SIZE_A)


@pytest.mark.parametrize("only_visible", [False, True])
def test_optimisation_set_keyed_by_particle_and_tilt(tmp_path, only_visible):
    """Poses, shifts, defocus, dose and section, each derived here by a plain loop over the tables."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(5))
    read = read_particles(write_optimisation_set(tmp_path, blocks, tomograms, only_visible))
    table, overview = blocks["particles"], tomograms["global"].set_index("rlnTomoName")
    rows = iter(read.images.itertuples())
    for number, particle in table.iterrows():
        tilts, about = tomograms[particle["rlnTomoName"]], overview.loc[particle["rlnTomoName"]]
        visible = eval(particle["rlnTomoVisibleFrames"])
        size_A = np.array([about[f"rlnTomoSize{a}"] for a in "XYZ"]) * about["rlnTomoTiltSeriesPixelSize"]
        position_A = np.array([particle[f"rlnCoordinate{a}"] for a in "XYZ"]) * PIXEL_SIZE_A
        c = position_A - size_A / 2
        origin_px = np.array([particle[f"rlnOrigin{a}Angst"] for a in "XYZ"]) / PIXEL_SIZE_A
        for tilt in np.flatnonzero(visible):
            image = next(rows)
            projection = np.array([eval(tilts[f"rlnTomoProj{a}"][tilt])[:3] for a in "XYZ"])
            # Warp, TiltSeries.cs: inverted angles turn the point mirrored in z by the reversed tilt.
            tilt_rad = np.arctan2(projection[2, 0], projection[2, 2])
            inverted = about["rlnTomoHand"] == 1
            mirrored, turn = (c * [1, 1, -1], -tilt_rad) if inverted else (c, tilt_rad)
            depth = np.sin(turn) * mirrored[0] + np.cos(turn) * mirrored[2]
            assert (image.particle, image.tilt, image.row) == (number, tilt, number * N_TILTS + tilt)
            assert image.section == (sum(visible[: tilt + 1]) if only_visible else tilt + 1)
            found = np.array([getattr(image, f"r{i}{j}") for i in range(3) for j in range(3)]).reshape(3, 3)
            np.testing.assert_allclose(found, projection @ pose(particle), atol=1e-8)
            np.testing.assert_allclose((image.shift_x_px, image.shift_y_px), (projection @ origin_px)[:2])
            assert image.defocus_u_A == pytest.approx(tilts["rlnDefocusU"][tilt] + depth)
            assert image.defocus_v_A == pytest.approx(tilts["rlnDefocusV"][tilt] + depth)
            assert image.dose_e_A2 == tilts["rlnMicrographPreExposure"][tilt]
            assert image.ctf_premultiplied == (particle["rlnOpticsGroup"] == 1)
        np.testing.assert_allclose(
            read.particles.loc[number, ["x_A", "y_A", "z_A"]].astype(float), position_A
        )
    assert next(rows, None) is None
    assert list(read.particles["tomogram"]) == ["001", "002", "003"] * 2


def test_stage_tilt_prefers_the_geometry_where_the_scale_factor_is_none():
    angle = np.radians([0.0, 30.0, 50.0, 20.0])
    rotation = np.zeros((4, 3, 3))
    rotation[:, 2, 2] = np.cos(angle)
    # Level tilt; excluded upstream (0); lamella with 10° pre-tilt; overwritten by a weight.
    scale = np.array([1.0, 0.0, np.cos(np.radians(40.0)), 0.1])
    np.testing.assert_allclose(stage_tilt(scale, rotation), [0, 30, 40, 20], atol=1e-6)
    np.testing.assert_allclose(stage_tilt(None, rotation), [0, 30, 50, 20], atol=1e-6)


def turned_about_y(tilt_deg):
    """Rotations (F, 3, 3) of a tilt series about y."""
    a, zero = np.radians(tilt_deg), np.zeros(len(tilt_deg))
    rows = [[np.cos(a), zero, np.sin(a)], [zero, zero + 1, zero], [-np.sin(a), zero, np.cos(a)]]
    return np.array(rows).transpose(2, 0, 1)


def test_a_refined_scale_factor_is_no_cosine():
    """RELION's CtfRefine writes amplitudes L exp(-thickness / cos(tilt)): the geometry tells the tilt."""
    geometry = np.arange(-57.0, 60, 3)
    rotation = turned_about_y(geometry)
    for factor, thickness in ((0.9, 0.3), (1.0, 0.5), (0.6, 0.1), (2.4, 0.7)):
        refined = factor * np.exp(-thickness / np.cos(np.radians(geometry)))
        np.testing.assert_allclose(stage_tilt(refined, rotation), np.abs(geometry), atol=1e-6)
    noisy = np.cos(np.radians(geometry)) * np.random.default_rng(0).uniform(0.7, 1.3, len(geometry))
    np.testing.assert_allclose(stage_tilt(noisy, rotation), np.abs(geometry), atol=1e-6)


@pytest.mark.parametrize("pretilt", [-12.0, 0.0, 9.0])
def test_a_cosine_is_believed_with_a_pretilt(pretilt):
    stage = np.arange(-57.0, 60, 3)
    scale = np.cos(np.radians(stage)).round(3)
    scale[4] = 0.0001  # excluded upstream
    found = stage_tilt(scale, turned_about_y(stage + pretilt))
    expected = np.abs(stage)
    expected[4] = abs(stage[4] + pretilt)
    np.testing.assert_allclose(found, expected, atol=2.6)  # three decimals near 1


def test_nominal_stage_angles_come_first(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(5))
    nominal = np.array([0.01, 25.0, -25.0, 45.0, -45.0])
    for name in ("001", "002", "003"):
        tomograms[name]["rlnTomoNominalStageTiltAngle"] = nominal
        tomograms[name]["rlnCtfScalefactor"] = 0.38
    images = read_particles(write_optimisation_set(tmp_path, blocks, tomograms)).images
    np.testing.assert_allclose(images["tilt_deg"], np.abs(nominal)[images["tilt"]])
    premultiplied = images["ctf_premultiplied"]
    np.testing.assert_array_equal(images["scale_factor"], np.where(premultiplied, 0.38, 1.0))
    np.testing.assert_array_equal(images["dose_weighted"], premultiplied)


def test_centred_coordinates_and_unbinned_pixels(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(5))
    expected = read_particles(write_optimisation_set(tmp_path / "a", blocks, tomograms))
    table, overview = blocks["particles"], tomograms["global"].set_index("rlnTomoName")
    centred, unbinned = table.copy(), table.copy()
    for axis in "XYZ":
        half_A = overview.loc[table["rlnTomoName"], f"rlnTomoSize{axis}"].to_numpy() * 2.0 / 2
        centred[f"rlnCenteredCoordinate{axis}Angst"] = table[f"rlnCoordinate{axis}"] * PIXEL_SIZE_A - half_A
        unbinned[f"rlnCoordinate{axis}"] = table[f"rlnCoordinate{axis}"] * PIXEL_SIZE_A / 2
    centred = centred.drop(columns=[f"rlnCoordinate{axis}" for axis in "XYZ"])
    for name, other in (("b", centred), ("c", unbinned)):
        read = read_particles(
            write_optimisation_set(tmp_path / name, blocks | {"particles": other}, tomograms)
        )
        pd.testing.assert_frame_equal(keyed(read).droplevel(1), keyed(expected).droplevel(1))
        assert bool(read.remarks) == (name == "c")


def test_stacks_are_found_each_on_its_own(tmp_path):
    """One stack beside the STAR file as written, the other below --datadir by parent and name."""
    star, _ = write_image_series(tmp_path / "a")
    other = tmp_path / "data/stacks/TS_1.mrcs"
    other.parent.mkdir(parents=True)
    (tmp_path / "a/stacks/TS_1.mrcs").rename(other)
    read = read_particles(star, tmp_path / "data")
    assert set(read.images["stack"]) == {str(tmp_path / "a/stacks/TS_0.mrcs"), str(other)}


def test_same_name_in_two_folders_is_not_mixed_up(tmp_path):
    _, table = write_image_series(tmp_path)
    table["rlnImageName"] = (
        table["rlnImageName"].str.replace("stacks/TS_", "x/TS_").str.replace("_1.mrcs", "_0.mrcs")
    )
    table.loc[1::2, "rlnImageName"] = table.loc[1::2, "rlnImageName"].str.replace("x/", "y/")
    star = write_text_star(tmp_path / "two.star", {"": table.drop_duplicates("rlnImageName")})
    with pytest.raises(InputError, match="both lead to"):
        read_particles(star, tmp_path / "stacks")


def test_forcing_a_dialect(tmp_path):
    star, _ = write_image_series(tmp_path)
    assert read_particles(star, source_software="cryosrpnt").dialect == "cryoSRPNT image series"
    with pytest.raises(InputError, match="not an optimisation set"):
        read_particles(star, source_software="warptools")
    with pytest.raises(InputError, match="no reader for it, expected one of"):
        read_particles(star, source_software="imod")


def test_stack_of_another_depth_is_refused(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(tmp_path, blocks, tomograms)
    write_stack(tmp_path / blocks["particles"]["rlnImageName"][2], np.zeros((3, BOX, BOX), np.float32))
    with pytest.raises(InputError, match=r"3 sections, expected 5 \(all tilts\) or 4 \(visible tilts\)"):
        read_particles(star)


def test_twins_of_the_simulator_give_one_table(tiny):
    """The same particles as image series and as optimisation set: poses, CTF, dose, tilt and shifts agree."""
    series = read_particles(tiny / "particles.star")
    twin = read_particles(tiny / "warptools/particles_optimisation_set.star")
    assert len(series.particles) == len(twin.particles) and len(series.images) == len(twin.images)
    extraction = ("ctf_premultiplied", "dose_weighted", "scale_factor")
    columns = [c for c in PHYSICS if c not in ("tilt", *extraction)]
    by_dose = [
        s.images.sort_values(["particle", "dose_e_A2"])[columns].to_numpy(float) for s in (series, twin)
    ]
    difference = pd.Series(np.abs(by_dose[0] - by_dose[1]).max(axis=0), index=columns)
    tolerance = pd.Series(1e-5, index=columns)
    tolerance[["defocus_u_A", "defocus_v_A", "defocus_angle_deg"]] = 0.02  # the files' decimals
    tolerance["tilt_deg"] = 1e-3
    assert (difference < tolerance).all(), difference[difference >= tolerance]


@pytest.mark.parametrize("extended", [0, 2048])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_stack_headers_of_every_mode_and_byte_order(tmp_path, mode, dtype, order, extended):
    """A header built byte by byte after the MRC2014 description."""
    words = np.zeros(256, f"{order}i4")
    words[:4], words[7:10], words[23] = (BOX, BOX, 5, mode), (BOX, BOX, 5), extended
    words[10:13].view(f"{order}f4")[:] = np.array([BOX, BOX, 5]) * PIXEL_SIZE_A
    content = bytearray(words.tobytes())
    content[208:216] = b"MAP " + (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    images = np.arange(5 * BOX * BOX).reshape(5, BOX, BOX) % 100
    path = tmp_path / "stack.mrcs"
    path.write_bytes(bytes(content) + bytes(extended) + images.astype(f"{order}{dtype}").tobytes())
    assert stack_header(path) == ((5, BOX, BOX), pytest.approx(PIXEL_SIZE_A))
    np.testing.assert_array_equal(read_sections(path, np.array([3, 1])), images[[3, 1]])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        stack_header(path)


def test_complex_stacks_are_refused(tmp_path):
    write_stack(tmp_path / "stack.mrcs", np.zeros((2, BOX, BOX), np.complex64))
    with pytest.raises(InputError, match=r"mode 4 \(complex numbers\), .*expected a stack of real images"):
        stack_header(tmp_path / "stack.mrcs")
