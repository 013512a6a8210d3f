"""Selections of particles and images, splits, and filter_star's exports."""

import numpy as np
import pandas as pd
import pytest
from particle_files import (
    N_PARTICLES,
    N_TILTS,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_text_star,
)

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles
from tomohet.particles.filtering import Selection, filter_particles


@pytest.fixture
def series(tmp_path):
    return write_image_series(tmp_path)[0]


@pytest.fixture
def tomo_set(tmp_path):
    return write_optimisation_set(tmp_path, *optimisation_set_blocks(np.random.default_rng(5)))


def kept(particle_set, **selection):
    keep = Selection(**selection).keep(
        particle_set.particles, particle_set.images, particle_set.n_input["images"]
    )
    return particle_set.images[keep]


def test_particles_by_number(series):
    images = kept(read_particles(series), particles=np.array([5, 0]))
    assert images["particle"].unique().tolist() == [0, 5] and len(images) == 2 * N_TILTS


def test_images_count_rows_of_the_file(series):
    images = kept(read_particles(series), images=np.array([0, 7, 29]))
    assert images["row"].tolist() == [0, 7, 29]


def test_images_of_an_optimisation_set_count_hidden_tilts(tomo_set):
    """Image 0 of particle 0 is hidden, so of images 0, 1 and 6 only two are left."""
    images = kept(read_particles(tomo_set), images=np.array([0, 1, 7]))
    assert images[["particle", "tilt"]].to_numpy().tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("sort", ["unsorted", "dose_ascending", "random"])
def test_first_tilts_follow_the_order_asked_for(tmp_path, sort):
    _, table = write_image_series(tmp_path)
    # Doses fall with the section number, so that file order and dose order are opposite.
    table["rlnCtfBfactor"] = np.tile(-4.0 * np.arange(N_TILTS)[::-1], N_PARTICLES)
    read = read_particles(write_text_star(tmp_path / "falling.star", {"": table}))
    images = kept(read, sort=sort, first_tilts=2, seed=4)
    tilts = images.groupby("particle")["tilt"].apply(list)
    assert images.groupby("particle").size().tolist() == [2] * N_PARTICLES
    if sort == "unsorted":
        assert all(tilt == [0, 1] for tilt in tilts)
    elif sort == "dose_ascending":
        assert all(tilt == [3, 4] for tilt in tilts)
    else:
        assert len({tuple(tilt) for tilt in tilts}) > 2
        pd.testing.assert_frame_equal(images, kept(read, sort=sort, first_tilts=2, seed=4))
        assert not images.equals(kept(read, sort=sort, first_tilts=2, seed=5))


def test_first_tilts_drop_particles_with_fewer(series):
    read = read_particles(series)
    without_two = np.setdiff1d(np.arange(30), [1, 3])
    images = kept(read, images=without_two, first_tilts=4)
    assert images["particle"].unique().tolist() == [1, 2, 3, 4, 5]


def test_first_particles_count_those_that_are_left(series):
    images = kept(read_particles(series), particles=np.array([1, 3, 5]), first_particles=2)
    assert images["particle"].unique().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"particles": np.array([6])}, "--ind-ptcls: index 6 is out of range, the file has particles 0 to 5"),
        ({"particles": np.array([-1])}, "index -1 is out of range"),
        ({"particles": np.array([1, 1])}, "index 1 appears more than once"),
        ({"particles": np.array([0.5])}, "expected whole numbers"),
        ({"images": np.array([30])}, "--ind-imgs: index 30 is out of range, the file has images 0 to 29"),
        ({"images": np.array([], int)}, "--ind-imgs: contains no indices"),
        ({"first_tilts": 6}, "selection is empty"),
        ({"first_particles": 0}, "selection is empty"),
        ({"particles": np.array([0]), "images": np.array([29])}, "selection is empty"),
    ],
)
def test_impossible_selections_are_refused(series, selection, expected):
    with pytest.raises(InputError, match=expected):
        kept(read_particles(series), **selection)


def test_filtered_set_keeps_particle_numbers(series):
    read = read_particles(series)
    keep = (read.images["particle"] == 4).to_numpy()
    part = filter_particles(read, keep)
    assert part.particles["n_tilts"].tolist() == [0, 0, 0, 0, N_TILTS, 0]
    assert part.images["image"].tolist() == list(range(N_TILTS))
    assert part.images["particle"].unique().tolist() == [4]


def test_export_without_selection_is_the_file_itself(series, tmp_path, run_script):
    run_script("filter_star", series, "-o", tmp_path / "out.star")
    assert (tmp_path / "out.star").read_bytes() == series.read_bytes()


def test_export_keeps_text_order_and_unknown_columns(tmp_path, run_script):
    """Odd number formats, a comment, an unknown column and CRLF line ends survive byte for byte."""
    _, table = write_image_series(tmp_path)
    table = table[table.columns[::-1]].assign(rlnMyOwn="1.50E+02")
    star = write_text_star(tmp_path / "odd.star", {"particles": table})
    star.write_bytes(star.read_bytes().replace(b"\n", b"\r\n").replace(b"  TS_1", b" \t TS_1"))
    write_pickle(tmp_path / "ind.pkl", np.array([1, 4]))
    run_script("filter_star", star, "--ind", tmp_path / "ind.pkl", "-o", tmp_path / "out.star")
    lines, found = star.read_bytes().splitlines(True), (tmp_path / "out.star").read_bytes().splitlines(True)
    dropped = [line for line in lines if b"@stacks" in line and not (b"_0001" in line or b"_0004" in line)]
    assert len(dropped) == 4 * N_TILTS
    assert found == [line for line in lines if line not in dropped]
    run_script(
        "filter_star", star, "--ind", tmp_path / "ind.pkl", "--action", "drop", "-o", tmp_path / "rest.star"
    )
    assert list(read_particles(tmp_path / "rest.star").particles["source_id"].str[-4:]) == [
        "0000",
        "0002",
        "0003",
        "0005",
    ]


def test_export_by_labels_images_and_tomogram(series, tmp_path, run_script):
    write_pickle(tmp_path / "labels.pkl", np.array([0, 1, 2, 0, 1, 2]))
    arguments = ("--labels", tmp_path / "labels.pkl", "--labels-sel", 0, 2, "--tomogram", "all")
    run_script("filter_star", series, *arguments, "-o", tmp_path / "out.star")
    assert read_star(tmp_path / "out.star")[""]["rlnGroupName"].str[-1].unique().tolist() == [
        "0",
        "2",
        "3",
        "5",
    ]
    for tomogram, particles in (("TS_0", ["0", "2"]), ("TS_1", ["3", "5"])):
        names = read_star(tmp_path / f"out_{tomogram}.star")[""]["rlnGroupName"]
        assert names.str[-1].unique().tolist() == particles
    write_pickle(tmp_path / "images.pkl", np.array([0, 8]))
    by_image = ("--ind", tmp_path / "images.pkl", "--ind-type", "image")
    run_script("filter_star", series, *by_image, "-o", tmp_path / "images.star")
    assert len(read_star(tmp_path / "images.star")[""]) == 2


def test_tomogram_names_match_whole(tmp_path, run_script):
    """TS_1 is not TS_10."""
    _, table = write_image_series(tmp_path)
    table["rlnMicrographName"] = table["rlnMicrographName"].replace({"TS_0.tomostar": "TS_10.tomostar"})
    star = write_text_star(tmp_path / "ten.star", {"": table})
    run_script("filter_star", star, "--tomogram", "TS_1.tomostar", "-o", tmp_path / "out.star")
    assert read_star(tmp_path / "out_TS_1.star")[""]["rlnMicrographName"].unique().tolist() == [
        "TS_1.tomostar"
    ]


def test_export_of_an_optimisation_set_is_read_again(tomo_set, tmp_path, run_script):
    """Set, particles and tomograms are written; what is left is unchanged, optics and all."""
    write_pickle(tmp_path / "ind.pkl", np.array([1, 2, 5]))
    out = tmp_path / "sub/kept_optimisation_set.star"
    run_script("filter_star", tomo_set, "--ind", tmp_path / "ind.pkl", "-o", out, "--tomogram", "all")
    part, whole = read_particles(out), read_particles(tomo_set)
    expected = kept(whole, particles=np.array([1, 2, 5]))
    physics = [c for c in expected.columns if c not in ("image", "particle", "row")]
    expected = expected[physics].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.images[physics], expected, check_categorical=False)
    before, after = read_star(tmp_path / "particles.star"), read_star(tmp_path / "sub/kept.star")
    pd.testing.assert_frame_equal(after["optics"], before["optics"])
    # The stacks' names still lead to them, from a folder above: nothing changes.
    pd.testing.assert_frame_equal(
        after["particles"], before["particles"].iloc[[1, 2, 5]].reset_index(drop=True)
    )
    one = read_particles(tmp_path / "sub/kept_002_optimisation_set.star")
    assert one.particles["tomogram"].tolist() == ["002"]


def test_export_to_another_name_than_a_set(tomo_set, tmp_path, run_script):
    run_script("filter_star", tomo_set, "-o", tmp_path / "out/particles.star")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "particles.star",
        "particles_particles.star",
        "particles_tomograms.star",
    ]
    assert len(read_particles(tmp_path / "out/particles.star", tmp_path).particles) == N_PARTICLES


def test_real_volume_series(shared, tmp_path, run_script):
    folder = shared / "data/tomodrgn-tests"
    run_script(
        "filter_star",
        folder / "10076_both_32_sim_vols.star",
        "--starfile-type",
        "volumeseries",
        "--ind",
        folder / "ind_ptcl_first10last10.pkl",
        "-o",
        tmp_path / "v.star",
    )
    whole = read_star(folder / "10076_both_32_sim_vols.star")[""]
    expected = whole.iloc[[*range(10), *range(134, 144)]].reset_index(drop=True)
    found = read_star(tmp_path / "v.star")[""]
    # Written elsewhere, the file names its images by their whole path; nothing else changes.
    names = expected["rlnImageName"].str.replace("@data/", f"@{folder.resolve()}/")
    pd.testing.assert_frame_equal(found, expected.assign(rlnImageName=names))


def test_cleanup_spares_analysed_and_newest_epochs(tmp_path, run_script):
    for epoch in (0, 5, 10, 19):
        (tmp_path / f"weights.{epoch}.pkl").write_text("w")
        (tmp_path / f"z.{epoch}.train.pkl").write_text("z")
    (tmp_path / "weights.pkl").write_text("w")
    (tmp_path / "analyze.5").mkdir()
    (tmp_path / "analyze.5/vol_000.mrc").write_text("v")
    (tmp_path / "scratch.10.train").mkdir()
    run_script("cleanup", tmp_path, "--weights", "--test")
    assert (tmp_path / "weights.0.pkl").exists()
    run_script("cleanup", tmp_path, "--weights")
    assert sorted(path.name for path in tmp_path.glob("weights*")) == [
        "weights.19.pkl",
        "weights.5.pkl",
        "weights.pkl",
    ]
    assert len(list(tmp_path.glob("z.*.pkl"))) == 4 and (tmp_path / "analyze.5/vol_000.mrc").exists()
    run_script("cleanup", tmp_path, "--zfiles", "--volumes")
    assert len(list(tmp_path.glob("z.*.pkl"))) == 2 and not (tmp_path / "analyze.5/vol_000.mrc").exists()
