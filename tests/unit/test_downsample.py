"""downsample: images cropped in Fourier space, and pixel size and box right in every file."""

import runpy
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from particle_files import (
    BOX,
    PIXEL_SIZE_A,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)

from tomohet.errors import InputError
from tomohet.files.mrc import read_sections, read_volume, stack_dtype, stack_header
from tomohet.files.star import as_table, read_star
from tomohet.particles.dialects import read_particles
from tomohet.particles.downsampling import images_of_stacks, rescaled_file, write_downsampled
from tomohet.particles.export import read_particle_file
from tomohet.particles.store_writing import write_store

SMALL = 12
COARSE_A = PIXEL_SIZE_A * BOX / SMALL
SCRIPT = Path(__file__).resolve().parents[2] / "workflow/scripts/downsample.py"


def downsample(monkeypatch, *arguments):
    """Run the command; its exit status."""
    monkeypatch.setattr(sys, "argv", ["downsample", *map(str, arguments)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as ended:
        return ended.code or 0
    return 0


def assert_same_but_pixels(small, full):
    """The table of a downsampled dataset is the old one, with coarser pixels."""
    assert small.box == SMALL
    assert small.pixel_size_A == pytest.approx(COARSE_A, rel=1e-6)
    changed = ["stack", "shift_x_px", "shift_y_px", "pixel_size_A"]
    same = full.images.drop(columns=changed)
    for column in same.select_dtypes("number"):
        assert np.allclose(small.images[column], same[column], atol=1e-6), column
    for axis in "xy":
        shift_A = full.images[f"shift_{axis}_px"] * PIXEL_SIZE_A
        assert np.allclose(small.images[f"shift_{axis}_px"] * COARSE_A, shift_A, atol=1e-5)
        assert np.allclose(
            small.particles[f"{axis}_A"], full.particles[f"{axis}_A"], atol=1e-3, equal_nan=True
        )


def assert_same_store(small, full, tmp_path):
    """Preparing the downsampled images is resampling the originals on the way in, within Nyquist."""
    raw = {"normalise": (0.0, 1.0), "window": False}
    a = write_store(tmp_path / "store_a", small, **raw)
    b = write_store(tmp_path / "store_b", full, rescale=COARSE_A, **raw)
    assert a.box == b.box == SMALL
    inside = a.half_plane.radius < SMALL / 2
    found, expected = a.half_planes(np.arange(len(a.images))), b.half_planes(np.arange(len(b.images)))
    assert (found - expected)[:, inside].abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("single", [False, True])
def test_image_series(tmp_path, monkeypatch, single):
    star, _ = write_image_series(tmp_path)
    output = tmp_path / "out" / ("small.mrcs" if single else "small.star")
    assert downsample(monkeypatch, star, "-D", SMALL, "-o", output, "--write-tiltseries-starfile") == 0
    small, full = read_particles(output.with_suffix(".star")), read_particles(star)
    if not single:
        assert_same_but_pixels(small, full)
        assert_same_store(small, full, tmp_path)
    else:
        assert small.box == SMALL and len(small.images) == len(full.images)
    assert small.header_pixel_size_A == pytest.approx(COARSE_A, rel=1e-5)


@pytest.mark.parametrize("only_visible", [False, True])
def test_optimisation_set(tmp_path, monkeypatch, only_visible):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(tmp_path, blocks, tomograms, only_visible)
    output = tmp_path / "out/small_optimisation_set.star"
    assert downsample(monkeypatch, star, "-D", SMALL, "-o", output) == 0
    small, full = read_particles(output), read_particles(star)
    assert_same_but_pixels(small, full)
    assert_same_store(small, full, tmp_path)
    assert (tmp_path / "out/small_tomograms.star").read_bytes() == (tmp_path / "tomograms.star").read_bytes()


OPTICS = {
    "rlnOpticsGroup": 1,
    "rlnOpticsGroupName": "og1",
    "rlnVoltage": 300.0,
    "rlnSphericalAberration": 2.7,
    "rlnAmplitudeContrast": 0.07,
    "rlnImagePixelSize": PIXEL_SIZE_A,
    "rlnImageSize": BOX,
}


@pytest.mark.parametrize("one_stack", [False, True])
@pytest.mark.parametrize("as_pairs", [False, True])
def test_optics_of_one_group_as_a_loop_and_as_pairs(tmp_path, monkeypatch, as_pairs, one_stack):
    _, table = write_image_series(tmp_path)
    particles = table.drop(columns=["rlnDetectorPixelSize", *set(OPTICS) & set(table.columns)])
    optics = OPTICS if as_pairs else pd.DataFrame([OPTICS])
    star = write_text_star(
        tmp_path / "two.star", {"optics": optics, "particles": particles.assign(rlnOpticsGroup=1)}
    )
    output = tmp_path / "out" / ("small.mrcs" if one_stack else "small.star")
    assert downsample(monkeypatch, star, "-D", SMALL, "-o", output, "--write-tiltseries-starfile") == 0
    written = as_table(read_star(output.with_suffix(".star"))["optics"]).iloc[0]
    assert written["rlnImagePixelSize"] == pytest.approx(COARSE_A) and written["rlnImageSize"] == SMALL
    small = read_particles(output.with_suffix(".star"))
    assert small.box == SMALL and small.pixel_size_A == pytest.approx(COARSE_A)


def test_the_optics_of_a_set_as_pairs(tmp_path):
    blocks, _ = optimisation_set_blocks(np.random.default_rng(0))
    blocks["optics"] = blocks["optics"].iloc[0].to_dict() | {"rlnTomoSubtomogramBinning": 4.0}
    file = read_particle_file(write_text_star(tmp_path / "particles.star", blocks), "volumeseries")
    small = rescaled_file(file, file.column("rlnImageName"), BOX, SMALL, coordinates=True)
    small.write(tmp_path / "small.star", np.ones(file.n_rows, bool))
    written = as_table(read_star(tmp_path / "small.star")["optics"]).iloc[0]
    assert written["rlnImagePixelSize"] == pytest.approx(COARSE_A) and written["rlnImageSize"] == SMALL
    assert written["rlnTomoSubtomogramBinning"] == pytest.approx(4.0 * BOX / SMALL)


def test_chunks_are_listed_and_hold_all_images(tmp_path, monkeypatch):
    images = np.random.default_rng(1).normal(7.0, 1.0, (7, BOX, BOX)).astype(np.float32)
    write_stack(tmp_path / "a.mrcs", images[:3])
    write_stack(tmp_path / "b.mrcs", images[3:])
    (tmp_path / "list.txt").write_text("a.mrcs\nb.mrcs\n")
    output = tmp_path / "out.mrcs"
    options = ("--chunk", 3, "--batch-size", 2)
    assert downsample(monkeypatch, tmp_path / "list.txt", "-D", SMALL, "-o", output, *options) == 0
    names = (tmp_path / "out.txt").read_text().split()
    assert names == ["out.0.mrcs", "out.1.mrcs", "out.2.mrcs"]
    parts = [read_sections(tmp_path / n, np.arange(stack_header(tmp_path / n)[0][0])) for n in names]
    small = np.concatenate(parts)
    assert np.allclose(small.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-5)


def test_half_precision_stays_unless_it_overflows(tmp_path):
    rng = np.random.default_rng(2)
    for name, mean, expected in (("a", 3e4, "float16"), ("b", 6.5e4, "float16")):
        images = rng.normal(mean, 50.0, (2, BOX, BOX)).astype(np.float16)
        with mrcfile.new(tmp_path / f"{name}.mrcs", data=images):
            pass
        write_downsampled(images_of_stacks([tmp_path / f"{name}.mrcs"]), SMALL, tmp_path / f"{name}_s.mrcs")
        small = read_sections(tmp_path / f"{name}_s.mrcs", np.arange(2))
        assert stack_dtype(tmp_path / f"{name}_s.mrcs") == np.dtype(expected)
        wanted = images.astype(np.float64).mean(axis=(1, 2))
        assert np.isfinite(small).all() and np.allclose(small.mean(axis=(1, 2)), wanted, rtol=1e-3)


def test_volume(tmp_path, monkeypatch):
    volume = np.random.default_rng(3).normal(2.0, 1.0, (16, 16, 16)).astype(np.float32)
    with mrcfile.new(tmp_path / "map.mrc", data=volume) as mrc:
        mrc.voxel_size = 3.0
    arguments = (tmp_path / "map.mrc", "-D", 8, "-o", tmp_path / "small.mrc", "--is-vol")
    assert downsample(monkeypatch, *arguments) == 0
    small, pixel_size_A = read_volume(tmp_path / "small.mrc")
    assert small.shape == (8, 8, 8) and pixel_size_A == pytest.approx(6.0)
    assert small.mean() == pytest.approx(volume.mean(), rel=1e-5)


@pytest.mark.parametrize("box", [7, 18, 2])
def test_impossible_boxes_are_refused(tmp_path, box):
    write_stack(tmp_path / "a.mrcs", np.zeros((2, BOX, BOX), np.float32))
    with pytest.raises(InputError, match=f"--downsample {box}"):
        write_downsampled(images_of_stacks([tmp_path / "a.mrcs"]), box, tmp_path / "b.mrcs")
