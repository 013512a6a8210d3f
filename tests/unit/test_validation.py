"""The pre-flight check: right files pass, each thing that cannot be right stops."""

import json

import numpy as np
import pytest
from particle_files import N_PARTICLES, optimisation_set_blocks, write_image_series, write_optimisation_set

from tomohet.particles.dialects import read_particles
from tomohet.particles.filtering import filter_particles
from tomohet.preflight.checks import counts, overall, validate


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return read_particles(write_image_series(tmp_path_factory.mktemp("series"))[0])


def changed(particle_set, **columns):
    """The same set with image columns replaced by values or by functions of the old ones."""
    images = particle_set.images.copy()
    for name, value in columns.items():
        images[name] = value(images[name]) if callable(value) else value
    return type(particle_set)(**{**vars(particle_set), "images": images})


def verdict(particle_set, name):
    return next(check for check in validate(particle_set) if check.name == name)


def test_a_good_file_passes(good):
    checks = validate(good)
    assert {check.verdict for check in checks if check.name != "defocus"} == {"pass"}
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(
    ("columns", "name", "expected"),
    [
        ({"defocus_u_A": lambda v: v / 1e4, "defocus_v_A": lambda v: v / 1e4}, "defocus", "stop"),
        ({"defocus_u_A": lambda v: -v, "defocus_v_A": lambda v: -v}, "defocus", "stop"),
        ({"defocus_u_A": 25000.0, "defocus_v_A": 24000.0}, "defocus", "pass"),
        ({"defocus_u_A": 45000.0, "defocus_v_A": 24000.0}, "defocus", "look"),
        ({"dose_e_A2": lambda v: -v}, "dose", "stop"),
        ({"dose_e_A2": 0.0}, "dose", "look"),
        ({"dose_e_A2": lambda v: v * 100}, "dose", "look"),
        ({"dose_e_A2": 5.0}, "dose", "look"),
        ({"tilt_deg": 0.0}, "tilt angles", "look"),
        ({"tilt_deg": 85.0}, "tilt angles", "look"),
        ({"voltage_kV": 300_000.0}, "microscope", "stop"),
        ({"voltage_kV": 280.0}, "microscope", "look"),
        ({"amplitude_contrast": 7.0}, "microscope", "stop"),
        ({"shift_x_px": 9.0}, "shifts", "stop"),
        ({"shift_x_px": 5.0}, "shifts", "look"),
        ({"pixel_size_A": 4.0}, "pixel size", "look"),
        ({"pixel_size_A": 1.5}, "CTF sampling", "look"),
        ({"ctf_premultiplied": lambda v: np.arange(len(v)) < 5}, "CTF flag", "look"),
        ({f"r{i}{j}": float(i == j) for i in range(3) for j in range(3)}, "orientations", "stop"),
    ],
)
def test_verdicts(good, columns, name, expected):
    check = verdict(changed(good, **columns), name)
    assert check.verdict == expected
    assert bool(check.remedy) == (expected != "pass")


def test_single_images_are_no_tilt_series(good):
    one_each = filter_particles(good, (good.images["tilt"] == 0).to_numpy())
    assert verdict(one_each, "tilts per particle").verdict == "stop"
    few = filter_particles(good, ((good.images["particle"] > 0) | (good.images["tilt"] < 1)).to_numpy())
    assert verdict(few, "tilts per particle").verdict == "look"


def test_near_duplicates_by_position(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(5))
    read = read_particles(write_optimisation_set(tmp_path / "a", blocks, tomograms))
    assert verdict(read, "near duplicates").verdict == "pass"
    axes = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    # Particles 0 and 3 share tomogram 001; 0 and 1 do not share one and may coincide.
    blocks["particles"].loc[[1, 3], axes] = blocks["particles"].loc[0, axes].to_numpy(float)
    read = read_particles(write_optimisation_set(tmp_path / "b", blocks, tomograms))
    check = verdict(read, "near duplicates")
    assert check.verdict == "look" and check.message.startswith("1 pairs")


def test_counts_of_an_optimisation_set(tmp_path):
    """Hidden tilts are counted; a particle without a visible tilt is reported, not dropped silently."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(5))
    blocks["particles"].loc[2, "rlnTomoVisibleFrames"] = "[0,0,0,0,0]"
    read = read_particles(write_optimisation_set(tmp_path, blocks, tomograms))
    assert counts(read) == {
        "in": {"particles": N_PARTICLES, "images": 30, "tomograms": 3},
        "kept": {"particles": N_PARTICLES - 1, "images": 20, "tomograms": 3},
    }
    assert verdict(read, "counts").verdict == "look"
    assert read.particles["n_tilts"].tolist() == [4, 4, 0, 4, 4, 4]


def test_command_writes_json_and_page(shared, tmp_path, run_script):
    star = (
        shared / "data/tomodrgn-tests/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    )
    done = run_script("validate", star, "-o", tmp_path)
    report = json.loads((tmp_path / "validation.json").read_text())
    assert report["counts"]["kept"] == {"particles": 40, "images": 1430, "tomograms": 4}
    assert report["counts"]["in"]["images"] == 1480
    assert report["verdict"] in ("pass", "look")
    page = (tmp_path / "validation.html").read_text()
    assert page.count("data:image/png;base64") == 3 and "1430" in page
    assert len(done.stdout.splitlines()) == len(report["checks"])


def test_command_stops_with_the_reason_and_still_writes(shared, tmp_path, run_script):
    star = shared / "data/tomodrgn-tests/10076_both_32_sim_vols.star"
    done = run_script("validate", star, "-o", tmp_path, check=False)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "not the volume series" in errors[0]
    assert json.loads((tmp_path / "validation.json").read_text())["verdict"] == "stop"


def test_overall_is_the_worst(good):
    assert overall(validate(changed(good, dose_e_A2=-1.0))) == "stop"
    assert overall(validate(changed(good, defocus_u_A=25000.0, defocus_v_A=25000.0))) == "pass"
