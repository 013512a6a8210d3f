"""Mistakes of users: one clear line on standard error and exit status 1, from the scripts themselves."""

import re

import numpy as np
import pytest
from bad_particle_files import SERIES, SETS, series_and, with_bad_pixel, with_constant_section
from in_process import run_here
from particle_files import write_image_series

from tomohet.files.atomic import write_pickle


def run(name, *arguments):
    """Exit status and standard error of a script, run in this process to save the start-up."""
    done = run_here(name, *arguments)
    return done.returncode, done.stderr


def refusal(name, *arguments):
    """The one error line of a script that ends with status 1."""
    status, errors = run(name, *arguments)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert status == 1, errors
    assert len(lines) == 1 and "Traceback" not in errors, errors
    return lines[0]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("command", ["validate", "prepare"])
def test_bad_image_series(tmp_path, command, name):
    write, expected = SERIES[name]
    assert_matches(refusal(command, write(tmp_path), "-o", tmp_path / "out"), expected)


@pytest.mark.parametrize("name", SETS)
def test_bad_optimisation_set(tmp_path, name):
    write, expected = SETS[name]
    assert_matches(refusal("validate", write(tmp_path), "-o", tmp_path / "out"), expected)


@pytest.mark.filterwarnings("ignore:Data array contains", "ignore:invalid value")
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (with_bad_pixel(np.nan), "TS_1.mrcs: section 7 has pixels that are not finite numbers"),
        (with_bad_pixel(np.inf), "TS_1.mrcs: section 7 has pixels that are not finite numbers"),
        (with_constant_section, "TS_1.mrcs: section 3 is constant in the window"),
    ],
)
def test_bad_pixels(tmp_path, damage, expected):
    star = series_and(damage)(tmp_path)
    assert_matches(refusal("prepare", star, "-o", tmp_path / "out"), expected)
    assert not (tmp_path / "out/store.yaml").exists()


@pytest.mark.parametrize(
    ("indices", "option", "expected"),
    [
        (np.array([6]), "--ind-ptcls", "--ind-ptcls: index 6 is out of range, the file has particles 0 to 5"),
        (np.array([30]), "--ind-imgs", "--ind-imgs: index 30 is out of range, the file has images 0 to 29"),
        (np.array([], int), "--ind-ptcls", "--ind-ptcls: contains no indices"),
        (np.array([2, 2]), "--ind-ptcls", "index 2 appears more than once"),
        (np.array([0.5]), "--ind-ptcls", "expected a one-dimensional list of integers"),
    ],
)
def test_bad_indices(tmp_path, indices, option, expected):
    star, _ = write_image_series(tmp_path)
    write_pickle(tmp_path / "ind.pkl", indices)
    assert_matches(refusal("prepare", star, "-o", tmp_path / "out", option, tmp_path / "ind.pkl"), expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--use-first-ntilts", 9], "the selection is empty"),
        (["--datadir", "none"], "--datadir none: no such folder"),
        (["--window-r", 0.9, "--window-r-outer", 0.5], "expected 0 <= inner < outer"),
        (["--norm", 0, 0], "--norm: the scale is 0"),
        (["--invert-data", "--uninvert-data"], "exclude each other"),
        (["--source-software", "nextpyp"], "column _rlnGroupNumber, _rlnImagePixelSize"),
        (["--ind-ptcls", "none.pkl"], "none.pkl: no such pickle file"),
    ],
)
def test_bad_options(tmp_path, arguments, expected):
    star, _ = write_image_series(tmp_path)
    assert_matches(refusal("prepare", star, "-o", tmp_path / "out", *arguments), expected)


@pytest.mark.parametrize(
    ("indices", "arguments", "expected"),
    [
        ([6], ["--ind", "ind.pkl"], "index 6 is out of range, the file has particles 0 to 5"),
        (
            [30],
            ["--ind", "ind.pkl", "--ind-type", "image"],
            "index 30 is out of range, the file has images 0 to 29",
        ),
        (range(6), ["--ind", "ind.pkl", "--action", "drop"], "the subset is empty, nothing is written"),
        ([0, 1], ["--labels", "ind.pkl", "--labels-sel", 1], "2 labels, but .* has 6 particles"),
        (range(6), ["--labels", "ind.pkl", "--labels-sel", 9], "the subset is empty"),
        (range(6), ["--labels", "ind.pkl"], "--labels and --labels-sel belong together"),
        ([0], ["--tomogram", "TS_7"], "--tomogram TS_7: no particle of the subset is in it"),
        ([0], ["--starfile-type", "optimisation_set"], "not an optimisation set"),
    ],
)
def test_bad_subsets(tmp_path, monkeypatch, indices, arguments, expected):
    star, _ = write_image_series(tmp_path)
    write_pickle(tmp_path / "ind.pkl", np.array(indices))
    monkeypatch.chdir(tmp_path)
    assert_matches(refusal("filter_star", star, "-o", tmp_path / "out.star", *arguments), expected)
    assert not (tmp_path / "out.star").exists()


def test_cleanup_needs_a_folder_and_a_task(tmp_path):
    assert_matches(refusal("cleanup", tmp_path / "none", "--weights"), "no such folder")
    assert_matches(refusal("cleanup", tmp_path), "nothing to delete")


def test_wrong_command_line_ends_with_status_2(tmp_path):
    assert run("prepare", "x.star", "-o", tmp_path, "--windowr", 1)[0] == 2


def assert_matches(line, expected):
    assert re.search(expected, line), f"{line!r} does not match {expected!r}"
