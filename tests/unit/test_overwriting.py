"""No command replaces a file that it reads, by whatever name; nothing is written in that case."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
from in_process import run_here
from particle_files import (
    BOX,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)
from relion_files import write_native_tomograms

from tomohet.errors import InputError
from tomohet.files.overwriting import refuse_overwriting_inputs


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused():
    """Run a command that has to end with one line about `name` and leave every file in `folder` as it is."""

    def run(folder, name, command, *arguments):
        before = contents(folder)
        done = run_here(command, *arguments)
        assert done.returncode == 1
        message = done.stderr
        assert "Traceback" not in message and message.count("error:") == 1
        assert str(name) in message and "nothing is written" in message
        assert contents(folder) == before

    return run


def indices(tmp_path):
    path = tmp_path / "ind.pkl"
    path.write_bytes(pickle.dumps(np.arange(2)))
    return path


WAYS = ["same", "spelled", "symlink", "hardlink", "linked folder"]
CASES = [(command, how) for command in ("filter_star", "downsample") for how in WAYS]


@pytest.mark.parametrize(("command", "how"), [*CASES, ("filter_star", "folder")])
def test_the_input_itself(tmp_path, refused, command, how):
    folder = tmp_path / "data"
    star, _ = write_image_series(folder)
    output = star
    if how == "spelled":
        output = folder / "stacks" / ".." / "particles.star"
    elif how == "folder":
        output = folder
    elif how == "symlink":
        output = folder / "other.star"
        output.symlink_to("particles.star")
    elif how == "hardlink":
        output = folder / "other.star"
        os.link(star, output)
    elif how == "linked folder":
        (tmp_path / "link").symlink_to(folder)
        output = tmp_path / "link/particles.star"
    if command == "downsample":
        refused(folder, output, command, star, "-D", 8, "-o", output)
    else:
        refused(folder, output, command, star, "-o", output, "--ind", indices(tmp_path))


def native_set(folder):
    """A set of RELION 5 that names its tilt series in files of their own."""
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    write_optimisation_set(folder, blocks, tomograms)
    native = write_native_tomograms(folder, "job3", tomograms)
    names = {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": native.relative_to(folder)}
    star = write_text_star(folder / "native_optimisation_set.star", {"": names})
    return star, native


@pytest.mark.parametrize(
    ("output", "replaced"),
    [
        ("particles_optimisation_set.star", "particles.star"),  # its particles would be particles.star
        ("tomograms_optimisation_set.star", "tomograms.star"),
        ("particles.star", "particles.star"),
        ("native_optimisation_set.star", "native_optimisation_set.star"),
    ],
)
def test_names_derived_from_that_of_a_set(tmp_path, refused, output, replaced):
    folder = tmp_path / "data"
    star, _native = native_set(folder)
    if output.startswith("tomograms"):
        star = folder / "particles_optimisation_set.star"
    refused(folder, replaced, "filter_star", star, "-o", folder / output, "--ind", indices(tmp_path))
    refused(folder, replaced, "downsample", star, "-D", 8, "-o", folder / output)


def test_tilt_series_in_files_of_their_own(tmp_path, refused):
    star, native = native_set(tmp_path / "data")
    series = next(path for path in native.parent.rglob("*.star") if path != native)
    refused(tmp_path / "data", series, "filter_star", star, "-o", series)
    refused(tmp_path / "data", series, "downsample", star, "-D", 8, "-o", series)


def test_the_file_whose_particles_are_counted(tmp_path, refused):
    folder = tmp_path / "data"
    star, table = write_image_series(folder)
    volumes = write_text_star(
        folder / "volumes.star", {"": table.groupby("rlnGroupName", as_index=False).first()}
    )
    options = ("--particles", star, "--ind", indices(tmp_path), "--starfile-type", "volumeseries")
    refused(folder, star, "filter_star", volumes, "-o", star, *options)


def test_stacks_and_the_star_file_beside_one_stack(tmp_path, refused):
    folder = tmp_path / "data"
    star, _ = write_image_series(folder)
    stack = folder / "stacks/TS_0.mrcs"
    refused(folder, star, "downsample", star, "-D", 8, "-o", folder / "particles.mrcs",
            "--write-tiltseries-starfile")  # fmt: skip
    refused(folder, stack, "downsample", star, "-D", 8, "-o", stack)
    (folder / "x_stacks").symlink_to("stacks")
    refused(folder, "TS_0.mrcs", "downsample", star, "-D", 8, "-o", folder / "x.star")


def test_lists_and_chunks(tmp_path, refused):
    write_stack(tmp_path / "a.0.mrcs", np.zeros((2, BOX, BOX), np.float32))
    (tmp_path / "a.txt").write_text("a.0.mrcs\n")
    (tmp_path / "b.txt").write_text("a.0.mrcs\n")
    chunks = ("-D", 8, "--chunk", 1)
    refused(tmp_path, "a.0.mrcs", "downsample", tmp_path / "b.txt", "-o", tmp_path / "a.mrcs", *chunks)
    (tmp_path / "a.0.mrcs").rename(tmp_path / "c.mrcs")
    (tmp_path / "a.txt").write_text("c.mrcs\n")
    refused(tmp_path, "a.txt", "downsample", tmp_path / "a.txt", "-o", tmp_path / "a.mrcs", *chunks)


def test_two_tomograms_of_one_file_name(tmp_path, refused):
    star, table = write_image_series(tmp_path / "data")
    names = table["rlnMicrographName"].map({"TS_0.tomostar": "a+b", "TS_1.tomostar": "a~b"})
    write_text_star(star, {"": table.assign(rlnMicrographName=names.str.replace("+", "="))})
    refused(tmp_path, "out_a_b.star", "filter_star", star, "-o", tmp_path / "out.star", "--tomogram", "all")


def test_simulate_and_select(tmp_path, refused):
    model = tmp_path / "model.cif"
    model.write_text("data_x\n")
    refused(tmp_path, model, "simulate", "-o", tmp_path, "--model", model)
    settings = tmp_path / "simulate.yaml"
    settings.write_text("box: 24\n")
    refused(tmp_path, settings, "simulate", "-o", tmp_path, "--config", settings)
    table = tmp_path / "particles.parquet"
    pd.DataFrame({"particle": [0, 1]}).to_parquet(table)
    refused(tmp_path, table, "select", table, "-o", table)
    refused(tmp_path, table, "select", table, "--explain", "--summary", table)


def test_what_is_not_there_yet_is_no_input(tmp_path):
    (tmp_path / "a").write_text("")
    refuse_overwriting_inputs([tmp_path / "b", tmp_path / "c"], [tmp_path / "a"])
    with pytest.raises(InputError, match="twice"):
        refuse_overwriting_inputs([tmp_path / "b", tmp_path / "x/../b"], [])
