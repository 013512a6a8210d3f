"""Every option of eval_images does something."""

import logging

import numpy as np
import pytest
import torch
from analysis_fakes import long_options, run

from tomohet import processes
from tomohet.errors import DoneByCopies, InputError
from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.pickles import load_latents
from tomohet.linear.poses import PoseEstimates
from tomohet.particles.refined_poses import described
from tomohet.particles.store import open_store
from tomohet.training import evaluation


def eval_images(tiny_training, particles, folder, *options):
    model = ("-w", tiny_training / "weights.pkl", "-c", tiny_training / "config.pkl")
    run("eval_images", particles, *model, "--out-z", folder / "z.pkl", *options)
    return load_latents(folder / "z.pkl") if (folder / "z.pkl").exists() else None


@pytest.fixture(scope="module")
def latents(tiny_training, tiny_store, tmp_path_factory):
    return eval_images(tiny_training, tiny_store, tmp_path_factory.mktemp("latents"))


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Files of particle and image numbers."""
    folder = tmp_path_factory.mktemp("lists")
    write_pickle(folder / "particles.pkl", np.array([3, 7, 8]))
    write_pickle(folder / "images.pkl", np.arange(0, 400, 2))
    return folder


CHANGED_LATENTS = {
    "--ind-ptcls": ["--ind-ptcls", "particles.pkl"],
    "--ind-imgs": ["--ind-imgs", "images.pkl"],
    "--use-first-ntilts": ["--use-first-ntilts", 5],
    "--use-first-nptcls": ["--use-first-nptcls", 5],
    "--uninvert-data": ["--uninvert-data"],
    "--no-window": ["--no-window"],
    "--window-r": ["--window-r", 0.5],
    "--window-r-outer": ["--window-r-outer", 1.2],
    "--norm": ["--norm", 0, 2],
}


@pytest.mark.parametrize("option", CHANGED_LATENTS)
def test_option_changes_the_latents(option, tiny_training, tiny, latents, lists, tmp_path):
    options = [lists / x if str(x).endswith(".pkl") else x for x in CHANGED_LATENTS[option]]
    mu, _ = eval_images(tiny_training, tiny / "particles.star", tmp_path, *options)
    assert mu.shape != latents[0].shape or np.abs(mu - latents[0]).max() > 1e-4


def test_order_of_images_decides_which_are_the_first(tiny_training, tiny_store, tmp_path):
    first = ("--use-first-ntilts", 5, "--sort-ptcl-imgs")
    orders = [("unsorted",), ("dose_ascending",), ("random",), ("random", "--seed", 1)]
    found = [eval_images(tiny_training, tiny_store, tmp_path, *first, *order)[0] for order in orders]
    for number, mu in enumerate(found):
        assert all(np.abs(mu - other).max() > 1e-5 for other in found[:number])


def test_stacks_are_found_in_the_data_folder(tiny_training, tiny, latents, tmp_path):
    star = tmp_path / "elsewhere.star"
    star.write_text((tiny / "particles.star").read_text())
    with pytest.raises(InputError):
        eval_images(tiny_training, star, tmp_path)
    found = eval_images(tiny_training, star, tmp_path, "--datadir", tiny, "--source-software", "warp")
    np.testing.assert_allclose(found[0], latents[0], atol=1e-6)
    with pytest.raises(InputError):
        eval_images(tiny_training, star, tmp_path, "--datadir", tiny, "--source-software", "cistem")


@pytest.mark.parametrize(
    ("options", "lines"), [([], 0), (["--log-interval", 8], 3), (["-v"], 4), (["-v", "-b", 12], 2)]
)
def test_log_lines(tiny_training, tiny_store, tmp_path, caplog, options, lines):
    caplog.set_level(logging.INFO)
    eval_images(tiny_training, tiny_store, tmp_path, *(["-b", 6] if "-b" not in options else []), *options)
    assert sum("latents of" in line and "of 24 particles" in line for line in caplog.messages) == lines


READING = {
    "--lazy": (["--lazy"], {"lazy": True}),
    "--num-workers": (["--lazy", "--num-workers", 3], {"workers": 3}),
    "--prefetch-factor": (["--lazy", "--prefetch-factor", 5], {"ahead": 5}),
    "--pin-memory": (["--pin-memory"], {"pinned": True}),
}


@pytest.mark.parametrize("option", READING)
def test_reading_is_as_asked_and_changes_no_latent(
    option, tiny_training, tiny_store, latents, tmp_path, monkeypatch
):
    asked, images = {}, evaluation.ParticleImages
    monkeypatch.setattr(
        evaluation, "ParticleImages", lambda *args, **how: asked.update(how) or images(*args, **how)
    )
    options, expected = READING[option]
    np.testing.assert_array_equal(eval_images(tiny_training, tiny_store, tmp_path, *options), latents)
    assert vars(asked["loading"]).items() >= expected.items()


@pytest.mark.parametrize("order", [("1/3", "2/3", "3/3"), ("3/3", "1/3", "2/3")])
def test_parts_of_the_latents_are_the_whole(tiny_training, tiny_store, tmp_path, order):
    whole = eval_images(tiny_training, tiny_store, tmp_path, "-b", 5)
    (tmp_path / "z.pkl").unlink()
    for part in order:
        assert not (tmp_path / "z.pkl").exists()
        found = eval_images(tiny_training, tiny_store, tmp_path, "-b", 5, "--part", part)
    np.testing.assert_array_equal(found, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["z.pkl"]


def test_more_parts_than_batches(tiny_training, tiny_store, latents, tmp_path):
    for part in range(1, 5):
        found = eval_images(tiny_training, tiny_store, tmp_path, "--part", f"{part}/4")
    np.testing.assert_array_equal(found, latents)


def test_a_part_of_the_latents_of_a_star_file(tiny_training, tiny, tmp_path):
    whole = eval_images(tiny_training, tiny / "particles.star", tmp_path, "-b", 12)
    (tmp_path / "z.pkl").unlink()
    for part in ("1/2", "2/2"):
        found = eval_images(tiny_training, tiny / "particles.star", tmp_path, "-b", 12, "--part", part)
    np.testing.assert_array_equal(found, whole)


def test_multigpu_starts_a_copy_on_every_gpu(monkeypatch):
    started = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("tomohet.commands.eval_images.device_of", lambda name: torch.device("cuda"))
    monkeypatch.setattr(processes, "start_copies", lambda n, node: started.append(n) or 0)
    with pytest.raises(DoneByCopies) as ended:
        run(
            "eval_images",
            "particles.star",
            "-w",
            "weights.pkl",
            "-c",
            "config.pkl",
            "--out-z",
            "z.pkl",
            "--multigpu",
        )
    assert started == [3] and ended.value.status == 0


def test_multigpu_without_gpus_changes_nothing(tiny_training, tiny_store, latents, tmp_path):
    found = eval_images(tiny_training, tiny_store, tmp_path, "--multigpu", "--device", "cpu")
    np.testing.assert_array_equal(found, latents)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_told(tiny_training, tiny_store, tmp_path):
    with pytest.raises(InputError, match="--device cuda"):
        eval_images(tiny_training, tiny_store, tmp_path, "--device", "cuda")


def test_refined_poses_change_the_latents(tiny_training, tiny_store, latents, tmp_path):
    store = open_store(tiny_store)
    error = np.tile([[0.2, 0, 0, 1.0, 0, 0]], (len(store.particles), 1))
    estimates = PoseEstimates(error, np.full_like(error, 0.01), np.array([0.1, 0.5]))
    table = estimates.table(np.arange(len(error)), store.pixel_size_A)
    for refine in (False, True):
        described_table = described(table, store.description, refine, np.array([0.1, 5.0]))
        write_parquet(tmp_path / "poses.parquet", described_table)
        mu, _ = eval_images(tiny_training, tiny_store, tmp_path, "--poses", tmp_path / "poses.parquet")
        assert (np.abs(mu - latents[0]).max() > 1e-4) == refine


def test_a_file_that_is_not_expanded_is_told(tiny_training, tiny, tmp_path):
    with pytest.raises(InputError, match="--symmetry-expanded"):
        eval_images(tiny_training, tiny / "particles.star", tmp_path, "--symmetry-expanded")


def test_every_option_is_tested_here():
    tested = {
        "--poses", "--symmetry-expanded",
        *CHANGED_LATENTS, *READING, "--weights", "--config", "--out-z", "--batch-size", "--log-interval",
        "--verbose", "--sort-ptcl-imgs", "--seed", "--datadir", "--source-software", "--part", "--multigpu",
        "--device",
    }  # fmt: skip
    of_command = long_options("eval_images")
    idle = {name for name, meaning in of_command.items() if "Accepted" in meaning}
    assert set(of_command) - idle == tested
    assert idle == {"--no-amp"}
