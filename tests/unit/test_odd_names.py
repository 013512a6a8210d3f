"""Files and folders with blanks, quotes and the like in their names: what is written can be read again."""

import numpy as np
import pandas as pd
import pytest
from in_process import run_here
from particle_files import optimisation_set_blocks, write_image_series, write_optimisation_set

from tomohet.files.pickles import load_indices
from tomohet.files.star import read_star, write_star
from tomohet.particles.dialects import read_particles

SMALL = 8
ODD = [
    "my set",
    "it's",
    'six "inch"',
    "#1",
    "a(1)[2]{3}",
    "$(x) `y`",
    "-_x",
    "data_",
    "a@b",
    "ä;*?&|<>",
    " x ",
]
UNWRITABLE = ["a\nb", "a'b\"c", "a\rb"]


def assert_same_images(found, whole):
    """Tables of the same images, wherever their stacks are."""
    skip = {"stack", "section", "shift_x_px", "shift_y_px", "pixel_size_A", "tilt", "row"}
    columns = [name for name in whole.images if name not in skip]
    pd.testing.assert_frame_equal(found.images[columns], whole.images[columns], check_exact=False)


def odd_series(folder, odd):
    """An image series in folder `odd`, whose stacks lie in folders of that name, and its table."""
    star, table = write_image_series(folder)
    stacks = folder / "stacks"
    for number in (0, 1):
        (stacks / f"{odd}{number}").mkdir()
        (stacks / f"TS_{number}.mrcs").rename(stacks / f"{odd}{number}" / "stack.mrcs")
    names = table["rlnImageName"].str.replace(
        r"TS_(\d)\.mrcs", lambda found: f"{odd}{found[1]}/stack.mrcs", regex=True
    )
    odd_star = folder / f"{odd}.star"
    write_star(odd_star, {"": table.assign(rlnImageName=names)})
    star.unlink()
    return odd_star


def odd_set(folder, odd):
    """An optimisation set all files of which have the name `odd`."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(folder, blocks, tomograms)
    (folder / "stacks").rename(folder / odd)
    names = blocks["particles"]["rlnImageName"].str.replace("stacks", odd, regex=False)
    blocks["particles"] = blocks["particles"].assign(rlnImageName=names)
    write_star(folder / f"{odd} p.star", blocks)
    (folder / "tomograms.star").rename(folder / f"{odd} t.star")
    odd_star = folder / f"{odd}_optimisation_set.star"
    write_star(
        odd_star, {"": {"rlnTomoParticlesFile": f"{odd} p.star", "rlnTomoTomogramsFile": f"{odd} t.star"}}
    )
    star.unlink()
    return odd_star


@pytest.mark.parametrize("odd", ODD)
def test_image_series(tmp_path, odd):
    star = odd_series(tmp_path / odd, odd)
    whole = read_particles(star)
    out = tmp_path / "out"
    assert run_here("filter_star", star, "-o", out / f"{odd}.star").returncode == 0
    assert_same_images(read_particles(out / f"{odd}.star"), whole)
    assert run_here("downsample", star, "-D", SMALL, "-o", out / f"{odd} s.star").returncode == 0
    assert_same_images(read_particles(out / f"{odd} s.star"), whole)
    one = (out / f"{odd} one.mrcs", "--write-tiltseries-starfile")
    assert run_here("downsample", star, "-D", SMALL, "-o", *one).returncode == 0
    assert len(read_particles(out / f"{odd} one.star").images) == len(whole.images)


@pytest.mark.parametrize("odd", ODD)
def test_optimisation_sets(tmp_path, odd):
    star = odd_set(tmp_path / odd, odd)
    whole = read_particles(star)
    out = tmp_path / "out"
    for command, *options in (["filter_star"], ["downsample", "-D", SMALL]):
        target = out / f"{odd} {command}_optimisation_set.star"
        assert run_here(command, star, *options, "-o", target).returncode == 0
        assert_same_images(read_particles(target), whole)
        entries = read_star(target)[""]
        assert entries["rlnTomoParticlesFile"] == f"{odd} {command}.star"
        assert entries["rlnTomoTomogramsFile"] == f"{odd} {command}_tomograms.star"
    one = (out / f"{odd} one.mrcs", "--write-tiltseries-starfile")
    assert run_here("downsample", star, "-D", SMALL, "-o", *one).returncode == 0
    assert_same_images(read_particles(out / f"{odd} one.star"), whole)


@pytest.mark.parametrize("odd", UNWRITABLE)
@pytest.mark.parametrize("kind", ["series", "set", "one stack", "filtered set", "data folder"])
def test_names_that_no_star_file_can_hold(tmp_path, kind, odd):
    """One line that shows the name, and no stack is written."""
    if kind == "data folder":
        folder, odd_output = tmp_path / odd, "plain"
    else:
        folder, odd_output = tmp_path / "data", odd
    if kind in ("series", "one stack"):
        star, _ = write_image_series(folder)
    else:
        star = write_optimisation_set(folder, *optimisation_set_blocks(np.random.default_rng(0)))
    out = tmp_path / "out"
    if kind in ("data folder", "filtered set"):
        command, options, output = "filter_star", (), f"{odd_output}_optimisation_set.star"
    elif kind == "one stack":
        command, options = "downsample", ("-D", SMALL, "--write-tiltseries-starfile")
        output = f"{odd_output}.mrcs"
    else:
        command, options, output = "downsample", ("-D", SMALL), f"{odd_output}.star"
    done = run_here(command, star, *options, "-o", out / output)
    assert done.returncode == 1
    message = done.stderr
    assert "cannot hold a line break" in message and message.strip().count("\n") == 0
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_folder_that_looks_like_a_section_is_refused_for_sets(tmp_path):
    """The name of an image is NUMBER@STACK; that of a set's stack has no number."""
    star = write_optimisation_set(tmp_path, *optimisation_set_blocks(np.random.default_rng(0)))
    output = tmp_path / "out/1@b_optimisation_set.star"
    done = run_here("downsample", star, "-D", SMALL, "-o", output)
    assert done.returncode == 1
    assert "1@b" in done.stderr
    assert not [path for path in output.parent.rglob("*") if path.is_file()]


def test_indices_with_blanks_in_their_name(tmp_path):
    star = odd_set(tmp_path / "a b", "c d")
    path = tmp_path / "my indices.pkl"
    pd.to_pickle(np.arange(2), path)
    assert list(load_indices(path)) == [0, 1]
    output = tmp_path / "e f.star"
    assert run_here("filter_star", star, "--ind", path, "-o", output).returncode == 0
    assert len(read_particles(output).particles) == 2
    assert read_star(output)[""]["rlnTomoParticlesFile"] == "e f_particles.star"
