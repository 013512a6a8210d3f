"""Optimisation sets that RELION 4, RELION 5 and WarpTools wrote, read as these programs mean them.

Expected numbers come from the tables, as the package starfile reads them, by the formulas of the writing
programs: RELION, particle_set.cpp, tomogram.cpp, tomogram_set.cpp, subtomo.cpp, ctf.h; Warp, TiltSeries.cs,
TiltSeries.ReconstructParticleSeries.cs, ExportParticlesTiltseries.cs, RelionParticleSeriesExport.cs.
"""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.particles.dialects import read_particles
from tomohet.particles.preparation import Preparation

# Folder, optimisation set, tomograms file, whether Warp wrote it.
SETS = {
    "relion5_refine3d_cryocat": (
        "Refine3D/job074/run_optimisation_set.star",
        "Tomograms/job006/tomograms.star",
        False,
    ),
    "relion41_tiltseries_3dem": (
        "Extract/job010/optimisation_set.star",
        "tilt_series_metadata/tilt_series.star",
        False,
    ),
    "warptools_head_minus1": ("matching_optimisation_set.star", "matching_tomograms.star", True),
    "warptools_head_plus1": ("matching_optimisation_set.star", "matching_tomograms.star", True),
    "warptools_head_dont_premultiply": ("matching_optimisation_set.star", "matching_tomograms.star", True),
}


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """A copy of the real files, with stacks of noise."""
    copy = tmp_path_factory.mktemp("real") / "real_star"
    shutil.copytree(shared / "data/real_star", copy)
    subprocess.run([sys.executable, copy / "make_stacks.py", copy], check=True, capture_output=True)
    return copy


class Tables:
    """The tables of one set, and what the writing program makes of their values."""

    def __init__(self, root, name):
        self.folder = root / name
        star, tomograms, self.by_warp = SETS[name]
        self.star = self.folder / star
        files = starfile.read(self.star, always_dict=True)
        named = next(iter(files.values()))["rlnTomoParticlesFile"]
        named = named if isinstance(named, str) else named.iloc[0]
        beside = self.star.parent / named
        blocks = starfile.read(beside if beside.is_file() else self.folder / named, always_dict=True)
        self.particles = blocks["particles"]
        self.optics = blocks["optics"].set_index("rlnOpticsGroup")
        self.tomograms = starfile.read(self.folder / tomograms, always_dict=True)
        overview = self.tomograms.pop("global", None)
        overview = self.tomograms.pop("", None) if overview is None else overview
        self.overview = overview.set_index("rlnTomoName")

    def tilts(self, name):
        if name in self.tomograms:
            return self.tomograms[name]
        linked = self.folder / self.overview.loc[name, "rlnTomoTiltSeriesStarFile"]
        return next(iter(starfile.read(linked, always_dict=True).values()))


def visible(particle):
    return np.array([flag == "1" for flag in particle["rlnTomoVisibleFrames"].strip("[]").split(",")])


def euler(particle, prefix):
    """RELION's matrix of rot, tilt, psi."""
    angles = [particle[f"{prefix}{axis}"] for axis in ("Rot", "Tilt", "Psi")]
    return Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()


def projection(tilt):
    """Rotation tomogram -> tilt image: the matrix if there is one, else turns about x, y and z."""
    if "rlnTomoProjX" in tilt:
        rows = [[float(v) for v in tilt[f"rlnTomoProj{a}"].strip("[]").split(",")[:3]] for a in "XYZ"]
        return np.array(rows)
    x, y, z = np.radians([tilt["rlnTomoXTilt"], tilt["rlnTomoYTilt"], tilt["rlnTomoZRot"]])
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_z) @ about_y @ about_x


def warp_depth_A(matrix, hand, centred_A):
    """Height of a point in Warp's tilted frame: inverted angles turn the mirrored point the other way."""
    tilt = np.arctan2(matrix[2, 0], matrix[2, 2])
    assert abs(matrix[2, 1]) < 1e-6
    if hand == 1:
        tilt, centred_A = -tilt, centred_A * [1, 1, -1]
    return np.sin(tilt) * centred_A[0] + np.cos(tilt) * centred_A[2]


def expected_images(tables):
    """Per visible image: what each column of the image table must hold."""
    for number, particle in tables.particles.iterrows():
        name = particle["rlnTomoName"]
        about, tilts = tables.overview.loc[name], tables.tilts(name)
        optics = tables.optics.loc[particle["rlnOpticsGroup"]]
        pixel_A = optics["rlnImagePixelSize"]
        size_A = np.array([about[f"rlnTomoSize{a}"] for a in "XYZ"]) * about["rlnTomoTiltSeriesPixelSize"]
        if tables.by_warp:
            corner_A = np.array([particle[f"rlnCoordinate{a}"] for a in "XYZ"]) * pixel_A
            centred_A = corner_A - size_A / 2
        else:
            centred_A = np.array([particle[f"rlnCenteredCoordinate{a}Angst"] for a in "XYZ"])
            corner_A = centred_A + size_A / 2
        turned = euler(particle, "rlnTomoSubtomogram") if "rlnTomoSubtomogramRot" in particle else np.eye(3)
        pose = turned @ euler(particle, "rlnAngle")
        origin_px = turned @ [particle[f"rlnOrigin{a}Angst"] for a in "XYZ"] / pixel_A
        frames = visible(particle)
        for tilt in np.flatnonzero(frames):
            row = tilts.iloc[tilt]
            matrix, hand = projection(row), about["rlnTomoHand"]
            depth_A = hand * (matrix @ centred_A)[2]
            if tables.by_warp:
                depth_A = warp_depth_A(matrix, hand, centred_A)
            stage = np.degrees(np.arccos(row["rlnCtfScalefactor"])) if tables.by_warp else None
            premultiplied = optics["rlnCtfDataAreCtfPremultiplied"] == 1
            yield {
                "particle": number,
                "tilt": tilt,
                "section": frames[: tilt + 1].sum(),
                **{f"r{i}{j}": (matrix @ pose)[i, j] for i in range(3) for j in range(3)},
                "shift_x_px": (matrix @ origin_px)[0],
                "shift_y_px": (matrix @ origin_px)[1],
                "defocus_u_A": row["rlnDefocusU"] + depth_A,
                "defocus_v_A": row["rlnDefocusV"] + depth_A,
                "defocus_angle_deg": row["rlnDefocusAngle"],
                "phase_shift_deg": row.get("rlnPhaseShift", 0.0),
                "dose_e_A2": row["rlnMicrographPreExposure"],
                "tilt_deg": stage if tables.by_warp else abs(row["rlnTomoNominalStageTiltAngle"]),
                "pixel_size_A": pixel_A,
                "voltage_kV": optics["rlnVoltage"],
                "cs_mm": optics["rlnSphericalAberration"],
                "amplitude_contrast": optics["rlnAmplitudeContrast"],
                "ctf_premultiplied": premultiplied,
                "dose_weighted": premultiplied,
                "scale_factor": row.get("rlnCtfScalefactor", 1.0) if premultiplied else 1.0,
                "dose_b_factor_A2": 0.0,
                "corner_A": corner_A,
            }


@pytest.mark.parametrize("name", SETS)
def test_real_set_is_read_as_its_program_means_it(real, name):
    tables = Tables(real, name)
    read = read_particles(tables.star)
    expected = list(expected_images(tables))
    assert len(read.images) == len(expected) > 50
    assert read.remarks == ()
    for image, wanted in zip(read.images.to_dict("records"), expected, strict=True):
        corner_A = wanted.pop("corner_A")
        particle = read.particles.loc[image["particle"]]
        np.testing.assert_allclose(particle[["x_A", "y_A", "z_A"]].astype(float), corner_A, atol=1e-6)
        for column, value in wanted.items():
            assert image[column] == pytest.approx(value, abs=2e-4), column
    if "rlnRandomSubset" in tables.particles:
        assert list(read.particles["half"]) == list(tables.particles["rlnRandomSubset"])


@pytest.mark.parametrize("name", SETS)
def test_protein_is_light_where_the_model_wants_it(real, name):
    """All five have light protein, which the CTF (negative at low frequency) turns dark."""
    read = read_particles(Tables(real, name).star)
    signs = Preparation().signs(read.images)
    assert (signs == (-1 if name.endswith("dont_premultiply") else 1)).all()


def test_poses_of_subtomograms(real):
    """Subtomogram 170, 60, -30 with angles 10, 90, 0 is one rotation by 26.7, 31.5, 130.6."""
    first = Rotation.from_euler("ZYZ", [170, 60, -30], degrees=True).inv()
    second = Rotation.from_euler("ZYZ", [10, 90, 0], degrees=True).inv()
    both = Rotation.from_euler("ZYZ", [26.7, 31.5, 130.6], degrees=True).inv()
    assert np.degrees(((first * second).inv() * both).magnitude()) < 0.1


def test_a_set_named_by_a_loop_is_the_same_set(real):
    """RELION and starfile write and read both forms of the file that names the set's two files."""
    tables = Tables(real, "relion5_refine3d_cryocat")
    loop = tables.star.with_name("loop_optimisation_set.star")
    loop.write_text(
        "data_optimisation_set\n\nloop_\n_rlnTomoParticlesFile #1\n_rlnTomoTomogramsFile #2\n"
        "Refine3D/job074/run_data.star Tomograms/job006/tomograms.star\n"
    )
    assert read_particles(loop).images.equals(read_particles(tables.star).images)


def test_angles_of_early_warptools_are_refused_with_the_reason(real):
    star = real / "warptools_dev25_cryocat/matching_optimisation_set.star"
    with pytest.raises(InputError, match="row 1: found angles rot 3867.*dev0 to dev25.*dev26") as error:
        read_particles(star, real)
    assert "matching.star" in str(error.value) and "\n" not in str(error.value)


def test_subtomograms_of_relion4_are_refused(real):
    with pytest.raises(InputError, match="3-D subtomograms.*extract the particles as 2D stacks"):
        read_particles(real / "relion4_volumes_cryocat/optimisation_set.star")


@pytest.mark.parametrize("unknown", ["-999", "absent"])
def test_tomograms_that_are_not_reconstructed_yet(real, unknown):
    """RELION 5 writes -999 or no size at all, and needs none for centred coordinates."""
    tables = Tables(real, "relion5_refine3d_cryocat")
    path = tables.folder / "Tomograms/job006/tomograms.star"
    written = path.read_text()
    overview = tables.overview.reset_index()
    sizes = [f"rlnTomoSize{axis}" for axis in "XYZ"]
    not_yet = overview.assign(**dict.fromkeys(sizes, -999))
    overview = overview.drop(columns=sizes) if unknown == "absent" else not_yet
    known = read_particles(tables.star)
    try:
        starfile.write({"global": overview}, path, overwrite=True)
        read = read_particles(tables.star)
    finally:
        path.write_text(written)
    assert read.images.equals(known.images)
    assert read.particles[["x_A", "y_A", "z_A"]].isna().all(axis=None)
