"""The folder in which a round is handed over: files that work there, and a README that names them."""

import json
import os

import numpy as np
import pytest
from in_process import run_here
from particle_files import BOX, optimisation_set_blocks, write_image_series, write_optimisation_set

from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import read_map, write_volume
from tomohet.particles.dialects import read_particles
from tomohet.rounds.lineage import file_digest

KEPT = np.array([0, 2, 5])


def round_with(folder, star, out):
    """A round whose particles are a part of a STAR file's, exported to `out`, with maps."""
    subset = folder / "results" / "d" / "bound" / "subset"
    subset.mkdir(parents=True)
    write_pickle(subset / "indices.pkl", KEPT)
    done = run_here("filter_star", star, "--ind", subset / "indices.pkl", "-o", subset / out)
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(0)
    for name in ("map", "map_filt", "half1", "half2", "mask"):
        write_volume(subset / f"{name}.mrc", rng.normal(size=(BOX,) * 3).astype(np.float32), 8.0)
    told = {"resolution_A": 23.45, "n_particles": len(KEPT), "n_images": 15, "box": BOX}
    (subset / "reconstruction.json").write_text(json.dumps(told))
    return subset.parent


def test_particles_are_read_from_the_folder_and_maps_are_links(tmp_path):
    star, _ = write_image_series(tmp_path / "input")
    bound = round_with(tmp_path, star, "particles.star")
    assert run_here("handover", bound).returncode == 0
    folder = bound / "subset" / "handover"
    given, whole = read_particles(folder / "particles.star"), read_particles(star)
    assert list(given.particles["source_id"]) == list(whole.particles["source_id"].iloc[KEPT])
    assert os.path.samefile(folder / "half1.mrc", bound / "subset" / "half1.mrc")
    text = (folder / "README.txt").read_text()
    assert "3 particles with 15 tilt images" in text and "23.4 Å" in text and "8 Å per voxel" in text
    assert file_digest(bound / "subset" / "indices.pkl") in text
    named = {line.split()[0] for line in text.split("Files\n")[1].split("\n\n")[0].splitlines()}
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert named == there - {"README.txt"} and "volumes.star" not in text
    assert "optimisation set, which your input is not" in text


def test_a_set_is_handed_over_with_both_of_its_files(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(tmp_path / "set", blocks, tomograms)
    bound = round_with(tmp_path, star, "particles.star")
    assert run_here("handover", bound, "-o", tmp_path / "given").returncode == 0
    assert len(read_particles(tmp_path / "given" / "particles.star").particles) == len(KEPT)
    text = (tmp_path / "given" / "README.txt").read_text()
    assert "particles.star as the optimisation set" in text and "particles_tomograms.star" in text


def test_maps_are_copied_where_links_are_impossible(tmp_path, monkeypatch):
    star, _ = write_image_series(tmp_path / "input")
    bound = round_with(tmp_path, star, "particles.star")

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert run_here("handover", bound).returncode == 0
    copy = bound / "subset" / "handover" / "mask.mrc"
    assert not os.path.samefile(copy, bound / "subset" / "mask.mrc")
    np.testing.assert_array_equal(read_map(copy)[0], read_map(bound / "subset" / "mask.mrc")[0])


def test_a_map_made_again_reaches_the_folder_at_the_next_run(tmp_path):
    star, _ = write_image_series(tmp_path / "input")
    bound = round_with(tmp_path, star, "particles.star")
    run_here("handover", bound)
    write_volume(bound / "subset" / "map.mrc", np.ones((BOX,) * 3, np.float32), 8.0)
    assert run_here("handover", bound).returncode == 0
    assert read_map(bound / "subset" / "handover" / "map.mrc")[0].min() == 1


@pytest.mark.parametrize("missing", ["particles.star", "reconstruction.json"])
def test_a_round_that_has_not_run_is_refused(tmp_path, missing):
    star, _ = write_image_series(tmp_path / "input")
    bound = round_with(tmp_path, star, "particles.star")
    (bound / "subset" / missing).unlink()
    done = run_here("handover", bound)
    assert done.returncode != 0 and f"no {missing}, expected what" in done.stderr


def test_a_folder_of_rounds_is_refused_with_their_names(tmp_path):
    for name in ("bound", "all"):
        (tmp_path / name / "subset").mkdir(parents=True)
    done = run_here("handover", tmp_path)
    assert done.returncode == 1 and f"{tmp_path} has the rounds all, bound" in done.stderr
