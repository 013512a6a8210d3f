"""An optimisation set in one stack, as tomoDRGN's command line needs it: same images, poses, map."""

import numpy as np
import pandas as pd
import pytest
from in_process import run_here
from particle_files import (
    BOX,
    N_PARTICLES,
    N_TILTS,
    PIXEL_SIZE_A,
    image_table,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)

from tomohet.files.mrc import read_sections, read_volume, stack_header
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles
from tomohet.particles.store_writing import write_store

SMALL = 12
COARSE_A = PIXEL_SIZE_A * BOX / SMALL
N_IMAGES = N_PARTICLES * (N_TILTS - 1)  # one tilt of each particle is hidden
CRYOSRPNT = (
    "rlnImageName rlnDetectorPixelSize rlnDefocusU rlnDefocusV rlnDefocusAngle rlnVoltage "
    "rlnSphericalAberration rlnAmplitudeContrast rlnPhaseShift rlnAngleRot rlnAngleTilt rlnAnglePsi "
    "rlnOriginX rlnOriginY rlnCtfBfactor rlnCtfScalefactor rlnGroupName"
).split()  # tomoDRGN's list of the columns of a cryoSRPNT file
SAME = ["particle", *(f"r{i}{j}" for i in range(3) for j in range(3)), "defocus_u_A", "defocus_v_A",
        "defocus_angle_deg", "voltage_kV", "cs_mm", "amplitude_contrast", "phase_shift_deg", "dose_e_A2",
        "tilt_deg", "ctf_premultiplied", "dose_weighted", "scale_factor", "dose_b_factor_A2"]  # fmt: skip


@pytest.fixture
def set_star(tmp_path):
    """A set of two optics groups, one premultiplied, with weights of RELION's B-factor per dose."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    tomograms["global"] = tomograms["global"].assign(rlnCtfBfactorPerElectronDose=6.0)
    return write_optimisation_set(tmp_path / "set", blocks, tomograms)


@pytest.fixture
def one_stack(tmp_path, set_star):
    """Downsample the set to one stack with further options; the STAR file written."""

    def run(*options, box=SMALL):
        output = tmp_path / "out/all images.mrcs"
        arguments = ("--downsample", box, "--output", output, "--write-tiltseries-starfile", *options)
        assert run_here("downsample", set_star, *arguments).returncode == 0
        return output.with_suffix(".star")

    return run


@pytest.mark.parametrize("options", [(), ("--batch-size", 5), ("--lazy",), ("--chunk", 7)])
def test_the_image_table_is_that_of_the_set(one_stack, set_star, options):
    star = one_stack(*options)
    small, full = read_particles(star), read_particles(set_star)
    assert small.box == SMALL and small.pixel_size_A == pytest.approx(COARSE_A)
    assert small.header_pixel_size_A == pytest.approx(COARSE_A)
    for name in SAME:
        assert np.allclose(small.images[name], full.images[name], rtol=1e-9, atol=1e-6), name
    for axis in "xy":
        shift_A = full.images[f"shift_{axis}_px"] * PIXEL_SIZE_A
        assert np.allclose(small.images[f"shift_{axis}_px"] * COARSE_A, shift_A, atol=1e-6)
    for name in ("source_id", "tomogram", "half", "n_tilts"):
        assert list(small.particles[name]) == list(full.particles[name]), name
    positions = ["x_A", "y_A", "z_A"]
    assert np.allclose(small.particles[positions], full.particles[positions], atol=1e-6)


def test_all_images_are_in_one_stack(one_stack, set_star):
    star = one_stack()
    stack = star.with_suffix(".mrcs")
    assert stack_header(stack)[0] == (N_IMAGES, SMALL, SMALL)
    assert list(read_star(star)[""]["rlnImageName"]) == [
        f"{i + 1:06d}@all images.mrcs" for i in range(N_IMAGES)
    ]
    full = read_particles(set_star).images
    means = [
        read_sections(s, np.array([n - 1])).mean()
        for s, n in zip(full["stack"], full["section"], strict=True)
    ]
    assert np.allclose(read_sections(stack, np.arange(N_IMAGES)).mean(axis=(1, 2)), means, atol=1e-6)


def test_chunks(one_stack):
    star = one_stack("--chunk", 10)
    names = star.with_suffix(".txt").read_text().splitlines()
    assert names == [f"all images.{i}.mrcs" for i in range(3)]
    assert [stack_header(star.with_name(name))[0][0] for name in names] == [10, 10, 4]
    written = read_star(star)[""]["rlnImageName"]
    assert written[9] == "000010@all images.0.mrcs" and written[10] == "000001@all images.1.mrcs"


def test_columns_begin_as_tomodrgn_and_cryodrgn_expect_them(one_stack, set_star):
    table = read_star(one_stack())[""]
    assert list(table)[: len(CRYOSRPNT)] == CRYOSRPNT
    assert set(table["rlnImageSize"]) == {SMALL}
    # tomoDRGN: dose = rlnCtfBfactor / -4, stage tilt = arccos(rlnCtfScalefactor) in radians.
    full = read_particles(set_star).images
    assert np.allclose(table["rlnCtfBfactor"] / -4, full["dose_e_A2"])
    assert np.allclose(np.degrees(np.arccos(table["rlnCtfScalefactor"])), full["tilt_deg"], atol=1e-6)
    assert set(table["tomohetDoseBfactor"]) == {0.0, 6.0}
    premultiplied = full["ctf_premultiplied"].to_numpy()
    assert list(table["rlnCtfDataAreCtfPremultiplied"] == 1) == list(premultiplied)
    assert list(table.get("tomohetDoseWeighted", pd.Series(0.0, table.index)) == 1) == list(
        full["dose_weighted"]
    )


def test_a_raw_set_has_no_columns_of_its_own_kind(tmp_path):
    """Nothing that another program would have to know: images were multiplied by nothing."""
    star, _ = write_image_series(tmp_path)
    output = tmp_path / "out.mrcs"
    assert run_here("downsample", star, "-D", 8, "-o", output, "--write-tiltseries-starfile").returncode == 0
    assert not any(name.startswith("tomohet") for name in read_star(output.with_suffix(".star"))[""])


def test_half_planes_are_those_of_the_set(one_stack, set_star, tmp_path):
    small, full = read_particles(one_stack()), read_particles(set_star)
    raw = {"normalise": (0.0, 1.0), "window": False}
    a = write_store(tmp_path / "store_a", small, **raw)
    b = write_store(tmp_path / "store_b", full, rescale=COARSE_A, **raw)
    inside = a.half_plane.radius < SMALL / 2
    found, expected = a.half_planes(np.arange(N_IMAGES)), b.half_planes(np.arange(N_IMAGES))
    assert (found - expected)[:, inside].abs().max() < 1e-5 * expected.abs().max()


def test_half_maps_are_those_of_the_set(one_stack, set_star, tmp_path):
    star = one_stack(box=BOX)
    for name, source in (("a", star), ("b", set_star)):
        assert run_here("backproject_voxel", source, "-o", tmp_path / name).returncode == 0
    for half in ("half1.mrc", "half2.mrc", "map.mrc"):
        (found, _), (expected, _) = (read_volume(tmp_path / name / half) for name in "ab")
        assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_without_a_star_file(tmp_path, set_star):
    assert run_here("downsample", set_star, "-D", SMALL, "-o", tmp_path / "only.mrcs").returncode == 0
    assert stack_header(tmp_path / "only.mrcs")[0][0] == N_IMAGES
    assert not (tmp_path / "only.star").exists()


def test_cistem_files_become_image_series(tmp_path):
    """Columns of cisTEM are rewritten as RELION's; the file cannot be edited in place."""
    table = image_table(np.random.default_rng(0))
    write_stack(
        tmp_path / "all.mrcs", np.random.default_rng(1).normal(size=(len(table), BOX, BOX)).astype("f4")
    )
    cistem = pd.DataFrame(
        {
            "cisTEMPositionInStack": np.arange(len(table)) + 1,
            "cisTEMStackFilename": "all.mrcs",
            "cisTEMParticleGroup": pd.factorize(table["rlnGroupName"])[0],
            "cisTEMPixelSize": PIXEL_SIZE_A,
            "cisTEMMicroscopeVoltagekV": 300.0,
            "cisTEMMicroscopeCsMM": 2.7,
            "cisTEMAmplitudeContrast": 0.07,
            "cisTEMDefocus1": table["rlnDefocusU"],
            "cisTEMDefocus2": table["rlnDefocusV"],
            "cisTEMDefocusAngle": table["rlnDefocusAngle"],
            "cisTEMPhaseShift": 0.5,
            "cisTEMAnglePhi": table["rlnAngleRot"],
            "cisTEMAngleTheta": table["rlnAngleTilt"],
            "cisTEMAnglePsi": table["rlnAnglePsi"],
            "cisTEMXShift": table["rlnOriginX"],
            "cisTEMYShift": table["rlnOriginY"],
            "cisTEMPreExposure": table["rlnCtfBfactor"] / -4,
        }
    )
    star = write_text_star(tmp_path / "cistem.star", {"": cistem})
    output = tmp_path / "out.mrcs"
    assert (
        run_here("downsample", star, "-D", SMALL, "-o", output, "--write-tiltseries-starfile").returncode == 0
    )
    small, full = read_particles(output.with_suffix(".star")), read_particles(star)
    for name in SAME:
        assert np.allclose(small.images[name], full.images[name], atol=1e-6), name
    assert run_here("downsample", star, "-D", SMALL, "-o", tmp_path / "out2.star").returncode == 1
