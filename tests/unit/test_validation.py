"""The pre-flight check: correct files pass, and everything that cannot be right gives "stop"."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from particle_files import (
    BOX,
    N_PARTICLES,
    N_TILTS,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
)
from scipy.spatial.transform import Rotation

from tomohet.particles.dialects import read_particles
from tomohet.particles.filtering import filter_particles
from tomohet.particles.table import rotation_frame
from tomohet.preflight import overall, page, preflight, summary
from tomohet.preflight.checks import counts, validate
from tomohet.preflight.hypotheses import Finding, Hypotheses
from tomohet.preflight.image_sample import check_images, sample_images
from tomohet.preflight.spectrum import PowerSpectrum
from tomohet.preflight.tilts import name_scheme, tilt_schemes

TILT_STEP_DEG = 6.0  # of the image series of `particle_files`


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """An image series whose poses turn with its tilts and whose astigmatism is small."""
    read = read_particles(write_image_series(tmp_path_factory.mktemp("series"))[0])
    own = Rotation.random(N_PARTICLES, random_state=1)
    axis = [np.cos(0.3), np.sin(0.3), 0.0]
    turns = [Rotation.from_rotvec(np.multiply(axis, np.radians(TILT_STEP_DEG * t))) for t in range(N_TILTS)]
    poses = np.stack([(turn * one).as_matrix() for one in own for turn in turns])
    return changed(read, **rotation_frame(poses), defocus_v_A=lambda v: v * 0 + 3e4, defocus_u_A=3.05e4)


def changed(particle_set, **columns):
    """The same set with image columns replaced by values or by functions of the old ones."""
    images = particle_set.images.copy()
    for name, value in columns.items():
        images[name] = value(images[name]) if callable(value) else value
    return replace(particle_set, images=images)


def verdict(particle_set, name, **options):
    return next(check for check in validate(particle_set, **options) if check.name == name)


def test_a_good_file_passes(good):
    checks = validate(good) + check_images(sample_images(good))
    assert {check.verdict for check in checks} == {"pass"}
    assert len({check.name for check in checks}) == len(checks)
    assert not any(check.remedy for check in checks)


@pytest.mark.parametrize(
    ("columns", "name", "expected"),
    [
        ({"defocus_u_A": lambda v: v / 1e4, "defocus_v_A": lambda v: v / 1e4}, "defocus", "stop"),
        ({"defocus_u_A": lambda v: -v, "defocus_v_A": lambda v: -v}, "defocus", "stop"),
        ({"defocus_u_A": 25000.0, "defocus_v_A": 24000.0}, "defocus", "pass"),
        ({"defocus_u_A": 45000.0, "defocus_v_A": 24000.0}, "defocus", "look"),
        ({"defocus_u_A": lambda v: v + 4e4 * (np.arange(len(v)) % N_TILTS == 2)}, "defocus of tilts", "look"),
        ({"dose_e_A2": lambda v: -v}, "dose", "stop"),
        ({"dose_e_A2": 0.0}, "dose", "look"),
        ({"dose_e_A2": lambda v: v * 100}, "dose", "look"),
        ({"dose_e_A2": 5.0}, "dose", "look"),
        ({"dose_e_A2": lambda v: v * (1 + np.arange(len(v)) // N_TILTS % 2)}, "dose", "look"),
        ({"tilt_deg": 0.0}, "tilt angles", "look"),
        ({"tilt_deg": 85.0}, "tilt angles", "look"),
        ({"tilt_deg": lambda v: v * 3}, "poses", "look"),
        ({"voltage_kV": 300_000.0}, "microscope", "stop"),
        ({"voltage_kV": 280.0}, "microscope", "look"),
        ({"amplitude_contrast": 7.0}, "microscope", "stop"),
        ({"shift_x_px": 9.0}, "shifts", "stop"),
        ({"shift_x_px": 5.0}, "shifts", "look"),
        ({"pixel_size_A": 4.0}, "pixel size", "look"),
        ({"pixel_size_A": lambda v: np.where(np.arange(len(v)) < 9, 8.5, 8.0)}, "pixel sizes", "stop"),
        ({"pixel_size_A": 1.5}, "CTF sampling", "look"),
        ({"ctf_premultiplied": lambda v: np.arange(len(v)) < 5}, "CTF flag", "look"),
        ({f"r{i}{j}": float(i == j) for i in range(3) for j in range(3)}, "orientations", "stop"),
        ({f"r{i}{j}": float(i == j) for i in range(3) for j in range(3)}, "poses", "look"),
    ],
)
def test_verdicts(good, columns, name, expected):
    check = verdict(changed(good, **columns), name)
    assert check.verdict == expected
    assert bool(check.remedy) == (expected != "pass")


def test_mixed_pixel_sizes_pass_when_they_will_be_rescaled(good):
    mixed = changed(good, pixel_size_A=lambda v: np.where(np.arange(len(v)) < 9, 8.5, 8.0))
    assert "--rescale 8.5" in verdict(mixed, "pixel sizes").remedy
    assert verdict(mixed, "pixel sizes", rescale_A=8.5).verdict == "pass"
    assert verdict(mixed, "pixel sizes", rescale_A=8.2).verdict == "stop"


def test_headers_are_compared_stack_by_stack(tmp_path):
    star, table = write_image_series(tmp_path)
    images = np.random.default_rng(0).normal(size=(len(table) // 2, BOX, BOX)).astype(np.float32)
    write_stack(tmp_path / "stacks/TS_1.mrcs", images, 2.0)
    check = verdict(read_particles(star), "pixel size")
    assert check.verdict == "look" and "1 of 2 stacks say 2 Å" in check.message


def test_inverted_poses_are_seen(good):
    """Inverses of R: the turns between tilts are as large, but about an axis out of the image plane."""
    rotation = good.rotations().transpose(0, 2, 1)
    check = verdict(changed(good, **rotation_frame(rotation)), "poses")
    assert check.verdict == "look" and "inverted" in check.remedy


def test_poses_give_signed_tilts(good):
    """Tilts of both signs, of which the table only knows the size."""
    signed = TILT_STEP_DEG * np.array([0, 1, -1, 2, -2])
    turns = Rotation.from_rotvec(np.radians(signed)[:, None] * [0.6, 0.8, 0.0]).as_matrix()
    own = Rotation.random(N_PARTICLES, random_state=3).as_matrix()
    poses = (turns[None] @ own[:, None]).reshape(-1, 3, 3)
    one = changed(good, **rotation_frame(poses), tilt_deg=np.tile(np.abs(signed), N_PARTICLES))
    schemes = tilt_schemes(one)
    np.testing.assert_allclose(schemes.deviation_deg, 0, atol=1e-4)
    np.testing.assert_allclose(schemes.axis_deg, 0, atol=1e-4)
    found = schemes.table["signed_deg"].to_numpy().reshape(-1, N_TILTS)
    np.testing.assert_allclose(np.abs(found @ signed), (signed**2).sum(), rtol=1e-6)
    assert set(schemes.scheme) == {"dose-symmetric"}


def test_schemes_have_names():
    tilts = np.arange(-60, 61, 3.0)
    symmetric = tilts[np.argsort(np.abs(tilts), kind="stable")]
    assert name_scheme(symmetric) == "dose-symmetric"
    assert name_scheme(tilts) == name_scheme(-tilts) == "unidirectional"
    assert name_scheme(np.concatenate([tilts[13:], tilts[12::-1]])) == "bidirectional"
    assert name_scheme(np.random.default_rng(0).permutation(tilts)) == "irregular"
    assert name_scheme(tilts[:3]) == "unknown"


def test_doses_that_belong_to_other_tilts(good):
    doses = np.random.default_rng(0).permutation(N_TILTS)[[2, 0, 4, 1, 3]] * 3.0
    check = verdict(changed(good, dose_e_A2=np.tile(doses, N_PARTICLES)), "tilt scheme")
    assert check.verdict == "look" and "no known scheme" in check.message


def test_single_images_are_no_tilt_series(good):
    one_each = filter_particles(good, (good.images["tilt"] == 0).to_numpy())
    assert verdict(one_each, "tilts per particle").verdict == "stop"
    few = filter_particles(good, ((good.images["particle"] > 0) | (good.images["tilt"] < 1)).to_numpy())
    assert verdict(few, "tilts per particle").verdict == "look"


@pytest.mark.parametrize(
    ("half", "expected", "words"),
    [
        ([pd.NA] * 6, "pass", "none upstream"),
        ([1, 1, 1, 2, 2, 2], "pass", "3 and 3"),
        ([1, 1, 1, 1, 1, 2], "look", "uneven"),
        ([1, 1, 2, 2, 2, pd.NA], "look", "1 particles are in neither"),
    ],
)
def test_half_sets(good, half, expected, words):
    particles = good.particles.assign(half=pd.array(half, dtype="Int8"))
    check = verdict(replace(good, particles=particles), "half sets")
    assert check.verdict == expected and words in check.message


def test_a_tomogram_with_next_to_no_particles(good):
    particles = pd.concat([good.particles] * 60, ignore_index=True)
    particles["particle"] = np.arange(len(particles))
    particles["tomogram"] = np.where(np.arange(len(particles)) == 7, "lone", particles["tomogram"])
    check = verdict(replace(good, particles=particles), "particles per tomogram")
    assert check.verdict == "look" and "1 tomograms" in check.message


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
    check = verdict(read, "counts")
    assert check.verdict == "look" and "1 particles have no visible tilt" in check.message
    assert read.particles["n_tilts"].tolist() == [4, 4, 0, 4, 4, 4]


def test_orientations_that_differ_in_the_image_plane_alone_are_no_equal_ones(good):
    """Every particle turned by an angle of its own about the beam, seen from one direction; then by none."""
    tilts = [Rotation.from_euler("y", TILT_STEP_DEG * t, degrees=True) for t in range(N_TILTS)]
    for step, expected, words in ((40, "look", "from one direction"), (0, "stop", "the same orientation")):
        own = [Rotation.from_euler("z", step * p, degrees=True) for p in range(N_PARTICLES)]
        poses = np.stack([(one * tilt).as_matrix() for one in own for tilt in tilts])
        check = verdict(changed(good, **rotation_frame(poses)), "orientations")
        assert check.verdict == expected and words in check.message and check.remedy


@pytest.mark.parametrize(
    ("level", "slope", "expected", "words"),
    [
        (0, 0, "pass", "lies 0"),
        (3, 0, "pass", "lies 3"),
        (0, 4, "pass", "slopes up to 4"),
        (-40, 0, "look", "lies -40"),
        (0, 30, "look", "slopes up to 3"),
    ],
)
def test_grey_level_of_the_background(tmp_path, level, slope, expected, words):
    star, table = write_image_series(tmp_path)
    position = (np.arange(BOX) - BOX // 2) / (BOX / 2)
    for number in (0, 1):
        images = np.random.default_rng(number).normal(size=(len(table) // 2, BOX, BOX))
        images = 5 * (images + level + slope * position)
        write_stack(tmp_path / f"stacks/TS_{number}.mrcs", images.astype(np.float32))
    sample = sample_images(read_particles(star))
    check = next(c for c in check_images(sample) if c.name == "grey level")
    assert check.verdict == expected and "subtracted" in check.message
    assert sample.statistics["level"].median() == pytest.approx(level, rel=0.05, abs=0.15)
    assert sample.statistics["slope"].median() == pytest.approx(slope, rel=0.1, abs=0.15)
    if level or slope:
        assert words in check.message


def spoilt(image):
    image[3, 3] = np.nan
    return image


def gold(image):
    image[5:7, 5:7] = 500
    return image


@pytest.mark.parametrize(
    ("section", "spoil", "name", "expected"),
    [
        (4, spoilt, "image values", "stop"),
        (4, lambda image: image * 0 + 3, "image values", "stop"),
        (4, gold, "extreme pixels", "look"),
        (slice(0, 8), lambda images: images * 30, "noise level", "look"),
    ],
)
def test_sampled_images(tmp_path, section, spoil, name, expected):
    star, table = write_image_series(tmp_path)
    images = np.random.default_rng(0).normal(size=(len(table) // 2, BOX, BOX)).astype(np.float32)
    images[section] = spoil(images[section])
    write_stack(tmp_path / "stacks/TS_1.mrcs", images)
    if name == "extreme pixels":
        assert np.abs(images).max() == 500
    check = next(c for c in check_images(sample_images(read_particles(star))) if c.name == name)
    assert check.verdict == expected and check.remedy
    if isinstance(section, int):
        assert f"{section + 1}@" in check.message and "TS_1" in check.message


def test_images_that_are_no_numbers_end_the_look_at_images(tmp_path):
    star, table = write_image_series(tmp_path)
    images = np.full((len(table) // 2, BOX, BOX), np.inf, np.float32)
    write_stack(tmp_path / "stacks/TS_0.mrcs", images)
    checks, _, evidence = preflight(read_particles(star))
    assert overall(checks) == "stop" and evidence.hypotheses is None


@pytest.fixture(scope="module")
def evidence(good):
    """Images of the series, with a spectrum and hypotheses made up."""
    line = np.linspace(0, 1, 9)
    spectrum = PowerSpectrum(*[np.where(line > 0.9, np.nan, line + 1)] * 9)
    finding = Finding("contrast", "light protein", "dark protein", -9.0, "darker", "give it", "stop")
    names = ("raw", "phase-flipped", "premultiplied", "weighted by |CTF|")
    maps = {name: np.random.default_rng(0).normal(size=(8, 8, 8)) for name in names}
    hypotheses = Hypotheses([finding], {name: (line, line) for name in names}, maps, 8.0, 6, 30, 1.0)
    return page.Evidence(sample_images(good), spectrum, hypotheses)


def test_page_and_json(good, evidence, tmp_path):
    checks = [*validate(good), page.Check("contrast <b>", "stop", "5 < 6", "mend & go")]
    page.write_validation(tmp_path, good, checks, tilt_schemes(good), evidence)
    text = (tmp_path / "validation.html").read_text()
    assert text.count("data:image/png;base64") == text.count("<figure") == 9
    for section in ("verdict", "checks", "images", "ctf", "acquisition", "particles"):
        assert f'id="{section}"' in text and f'href="#{section}"' in text
    assert "<script" not in text and not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "contrast &lt;b&gt;" in text and "5 &lt; 6" in text
    # What must be done first stands before everything else.
    assert text.index("mend &amp; go") < text.index('id="checks"')
    report = json.loads((tmp_path / "validation.json").read_text())
    assert list(report) == [
        *("source", "dialect", "verdict", "counts", "box", "pixel_size_A", "checks", "findings", "figures"),
        *("level", "sentence", "next", "answers"),
    ]
    assert report["level"] == "bad" and "5 < 6" in report["sentence"]
    assert report["verdict"] == "stop"
    assert set(report["checks"][0]) == {"name", "verdict", "message", "remedy"}
    assert report["findings"][0]["found"] == "dark protein"
    assert set(report["figures"]) == {"distributions", "images", "spectrum", "fsc"}
    tilts = report["figures"]["distributions"]["tilt_deg"]
    assert (tilts["min"], tilts["max"]) == pytest.approx((0, TILT_STEP_DEG * (N_TILTS - 1)), abs=1e-3)
    assert report["figures"]["spectrum"]["power"][-1] is None


def test_summary_is_aligned_and_coloured_on_a_terminal_only(good, tmp_path):
    checks = validate(changed(good, voltage_kV=280.0))
    plain = summary(checks, tmp_path / "validation.html", colour=False).splitlines()
    assert len(plain) == len(checks) + 2
    columns = {line.index(check.message) for line, check in zip(plain, checks, strict=False)}
    assert len(columns) == 1
    assert plain[-1].startswith("look  1 of") and plain[-1].endswith("validation.html")
    coloured = summary(checks, tmp_path / "validation.html", colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines() == plain and "\x1b[" in coloured


def test_command_writes_json_and_page(shared, tmp_path, run_script):
    star = (
        shared / "data/tomodrgn-tests/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    )
    done = run_script("validate", star, "-o", tmp_path, "--max-images", 500)
    report = json.loads((tmp_path / "validation.json").read_text())
    assert report["counts"]["kept"] == {"particles": 40, "images": 1430, "tomograms": 4}
    assert report["counts"]["in"]["images"] == 1480
    assert report["verdict"] in ("pass", "look")
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert {verdicts[name] for name in ("poses", "tilt scheme", "premultiplication", "contrast")} == {"pass"}
    assert len(done.stdout.splitlines()) == len(report["checks"]) + 2
    assert "\x1b" not in done.stdout


def test_command_stops_with_the_reason_and_still_writes(shared, tmp_path, run_script):
    star = shared / "data/tomodrgn-tests/10076_both_32_sim_vols.star"
    done = run_script("validate", star, "-o", tmp_path, "--no-images", check=False)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "not the volume series" in errors[0]
    assert json.loads((tmp_path / "validation.json").read_text())["verdict"] == "stop"


def test_overall_is_the_worst(good):
    assert overall(validate(changed(good, dose_e_A2=-1.0))) == "stop"
    assert overall(validate(good)) == "pass"
