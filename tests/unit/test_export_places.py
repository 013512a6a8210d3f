"""Subsets written to another folder: they name their stacks so that they are found from there."""

import numpy as np
import pandas as pd
import pytest
from image_series_files import DIALECTS, write
from particle_files import (
    image_table,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_text_star,
)
from relion_files import write_native_tomograms

from tomohet.files.star import TextBlock, read_star
from tomohet.files.star_editing import replaced
from tomohet.particles import export
from tomohet.particles.dialects import read_particles
from tomohet.particles.dialects.tilt_series import SERIES_FILE

CHOSEN = [1, 4]


def subset(star, path, datadir=None):
    """`star`'s chosen particles, written to `path` as `filter_star` does."""
    path.parent.mkdir(parents=True)
    star_type = export.detect_type(star)
    if star_type == "optimisation_set":
        file, tomograms = export.read_optimisation_set(star, datadir)
        keep = np.isin(file.particle, CHOSEN)
        export.write_optimisation_set(star, file, tomograms, keep, path, datadir)
    else:
        file = export.read_particle_file(star, star_type)
        file.placed(path, datadir).write(path, np.isin(file.particle, CHOSEN))
    return path


def assert_subset(path, whole):
    """Check that the particles read from `path`, without --datadir, are those chosen of `whole`."""
    found = read_particles(path)
    chosen = whole.images[whole.images["particle"].isin(CHOSEN)].reset_index(drop=True)
    columns = [name for name in chosen if name not in ("image", "particle", "row")]
    pd.testing.assert_frame_equal(found.images[columns], chosen[columns], check_categorical=False)
    assert list(found.particles["source_id"]) == list(whole.particles["source_id"].iloc[CHOSEN])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_image_series_of_every_dialect(tmp_path, dialect):
    _, table = write_image_series(tmp_path / "project")
    star = write(tmp_path / "project", dialect, table)
    assert_subset(subset(star, tmp_path / "elsewhere/results/part.star"), read_particles(star))


def test_stacks_in_a_data_folder(tmp_path):
    star, _ = write_image_series(tmp_path / "project")
    (tmp_path / "project/stacks").rename(tmp_path / "data")
    whole = read_particles(star, tmp_path / "data")
    assert_subset(subset(star, tmp_path / "elsewhere/part.star", tmp_path / "data"), whole)


def test_names_that_lead_to_the_stacks_stay(tmp_path):
    """From a folder below the project's root, RELION's names lead to the same files."""
    star, table = write_image_series(tmp_path)
    path = subset(star, tmp_path / "results/all/part.star")
    chosen = table["rlnGroupName"].isin(table["rlnGroupName"].unique()[CHOSEN])
    assert list(read_star(path)[""]["rlnImageName"]) == list(table.loc[chosen, "rlnImageName"])


def test_names_stay_when_the_stacks_are_not_at_hand(tmp_path, caplog):
    table = image_table(np.random.default_rng(0))
    star = write_text_star(tmp_path / "project/particles.star", {"": table})
    path = subset(star, tmp_path / "elsewhere/part.star")
    assert set(read_star(path)[""]["rlnImageName"]) < set(table["rlnImageName"])
    assert "not found" in caplog.text


def test_optimisation_set(tmp_path):
    star = write_optimisation_set(tmp_path / "project", *optimisation_set_blocks(np.random.default_rng(0)))
    assert_subset(subset(star, tmp_path / "elsewhere/part_optimisation_set.star"), read_particles(star))


def test_native_relion_5_set_with_tilt_series_in_files_of_their_own(tmp_path):
    project = tmp_path / "project"
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    write_optimisation_set(project, blocks, tomograms)
    native = write_native_tomograms(project, "Tomograms/job003", tomograms)
    names = {
        "rlnTomoParticlesFile": "particles.star",
        "rlnTomoTomogramsFile": native.relative_to(project),
    }
    star = write_text_star(project / "native_optimisation_set.star", {"": names})
    path = subset(star, tmp_path / "elsewhere/part_optimisation_set.star")
    assert_subset(path, read_particles(star))


def test_tilt_series_of_a_tomogram_without_particles_may_be_missing(tmp_path):
    """RELION 5: the written set leads to all files that are there, and is read."""
    project = tmp_path / "project"
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    write_optimisation_set(project, blocks, tomograms)
    native = write_native_tomograms(project, "Tomograms/job003", tomograms)
    overview = read_star(native)["global"]
    missing = {"rlnTomoName": "004", SERIES_FILE: "Tomograms/job003/tilt_series/004.star"}
    write_text_star(native, {"global": pd.concat([overview, overview.iloc[:1].assign(**missing)])})
    names = {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": native.relative_to(project)}
    star = write_text_star(project / "native_optimisation_set.star", {"": names})
    path = subset(star, tmp_path / "elsewhere/part_optimisation_set.star")
    assert_subset(path, read_particles(star))
    written = read_star(path.with_name("part_tomograms.star"))["global"][SERIES_FILE]
    assert written.iloc[-1] == missing[SERIES_FILE]


def test_tilt_series_of_a_single_tomogram_written_as_pairs(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(tmp_path / "project", blocks, tomograms)
    native = write_native_tomograms(tmp_path / "project", "job003", tomograms)
    row = read_star(native)["global"].iloc[0].to_dict()
    write_text_star(tmp_path / "project/tomograms.star", {"global": row})
    path = subset(star, tmp_path / "elsewhere/part_optimisation_set.star")
    written = read_star(path.with_name("part_tomograms.star"))["global"]
    assert written == {name: str(value) for name, value in row.items()} | {
        SERIES_FILE: str(tmp_path / "project" / row[SERIES_FILE])
    }


def test_a_missing_stack_leaves_no_other_behind(tmp_path, caplog):
    star = write_optimisation_set(tmp_path / "project", *optimisation_set_blocks(np.random.default_rng(0)))
    whole = read_particles(star)
    (tmp_path / "project/stacks/001/p3.mrcs").unlink()
    assert_subset(subset(star, tmp_path / "elsewhere/part_optimisation_set.star"), whole)
    assert "1 of 6 image stacks were not found" in caplog.text


def test_names_from_the_projects_root_though_the_first_stack_is_missing(tmp_path):
    """RELION's names start from a folder above the STAR file, which one of them has to tell."""
    project = tmp_path / "project"
    star = write_optimisation_set(project, *optimisation_set_blocks(np.random.default_rng(0)))
    whole = read_particles(star)
    (project / "Refine3D/job1").mkdir(parents=True)
    for name in ("particles.star", "tomograms.star", star.name):
        (project / name).rename(project / "Refine3D/job1" / name)
    (project / "stacks/001/p0.mrcs").unlink()
    moved = project / "Refine3D/job1" / star.name
    assert_subset(subset(moved, tmp_path / "elsewhere/part_optimisation_set.star"), whole)


def test_replaced_values_leave_all_else_alone():
    body = b"# a comment\r\n  1@a.mrcs \t'two words'  3.50E+00 # 1\r\n\r\n2@b.mrcs 'x' 4\r\n"
    block = TextBlock("", b"", body, ("rlnImageName", "rlnMine", "rlnNumber", "rlnHash", "rlnOne"), {})
    changed = replaced(block, {"rlnImageName": ["1@/d/a.mrcs", "2@/d/b.mrcs"]})
    assert changed.body == body.replace(b"@", b"@/d/")
