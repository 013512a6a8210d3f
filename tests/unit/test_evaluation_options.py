"""Every option of eval_vol and eval_images does something."""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from analysis_fakes import run, script

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.volume_space import find_volumes
from tomohet.cli import SCRIPTS
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import read_volume
from tomohet.files.pickles import load_latents
from tomohet.model import decoder as decoding
from tomohet.model import volumes as volumes_of_models
from tomohet.model.load import load_model
from tomohet.training import evaluation, processes

SMALL = (
    "--zdim 2 -n 2 -b 6 --dec-dim 16 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --pe-dim 3 --lr 0.003"
).split()
Z = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def training(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    run("train_vae", tiny_store, "-o", folder, *SMALL)
    return folder


@pytest.fixture(scope="module")
def zfile(tmp_path_factory):
    path = tmp_path_factory.mktemp("z") / "z.pkl"
    write_pickle(path, Z)
    return path


def eval_vol(training, zfile, folder, *options):
    run("eval_vol", "--workdir", training, "--zfile", zfile, "-o", folder, *options)
    return {path.name: read_volume(path) for path in sorted(folder.glob("*.mrc"))}


@pytest.fixture(scope="module")
def plain(training, zfile, tmp_path_factory):
    return eval_vol(training, zfile, tmp_path_factory.mktemp("plain"))


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name][0], expected[name][0], err_msg=name)
        assert found[name][1] == expected[name][1]


CHANGED_VOLUMES = {
    "--epoch": ["--epoch", 0],
    "--flip": ["--flip"],
    "--invert": ["--invert"],
    "--downsample": ["--downsample", 16],
    "--lowpass": ["--lowpass", 60],
    "--amp": ["--amp"],
}


@pytest.mark.parametrize("option", CHANGED_VOLUMES)
def test_option_changes_the_volumes(option, training, zfile, plain, tmp_path, monkeypatch):
    # On a processor that has no bfloat16 too: slow there, but the same.
    monkeypatch.setattr(volumes_of_models, "half_precision", lambda device: torch.bfloat16)
    found = eval_vol(training, zfile, tmp_path, *CHANGED_VOLUMES[option])
    for name, (volume, _) in plain.items():
        changed = found[name][0]
        assert changed.shape != volume.shape or np.abs(changed - volume).max() > 1e-4 * np.abs(volume).max()


def test_half_precision_is_close(training, zfile, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(volumes_of_models, "half_precision", lambda device: torch.float16)
    for name, (volume, _) in eval_vol(training, zfile, tmp_path, "--amp").items():
        assert np.abs(volume - plain[name][0]).max() < 5e-3 * np.abs(volume).max()


def test_no_amp_is_the_default_and_excludes_amp(training, zfile, plain, tmp_path, capsys):
    same(eval_vol(training, zfile, tmp_path, "--no-amp"), plain)
    with pytest.raises(SystemExit):
        eval_vol(training, zfile, tmp_path, "--no-amp", "--amp")
    assert "not allowed with" in capsys.readouterr().err


def test_weights_and_config_are_those_of_the_workdir(training, zfile, plain, tmp_path):
    model = ("-w", training / "weights.1.pkl", "-c", training / "config.pkl")
    run("eval_vol", *model, "--zfile", zfile, "-o", tmp_path)
    same({path.name: read_volume(path) for path in tmp_path.glob("*.mrc")}, plain)
    with pytest.raises(InputError, match="--workdir"):
        run("eval_vol", "-w", training / "weights.pkl", "--zfile", zfile, "-o", tmp_path)


def test_latents_as_text_are_those_of_a_pickle(training, plain, tmp_path):
    np.savetxt(tmp_path / "z.txt", Z)
    same(eval_vol(training, tmp_path / "z.txt", tmp_path), plain)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "z_values.txt", dtype=np.float32), Z)


@pytest.mark.parametrize(("options", "name"), [([], "vol.mrcs"), (["--prefix", "state_"], "state.mrcs")])
def test_a_stack_holds_the_single_files(training, zfile, plain, tmp_path, options, name):
    assert not eval_vol(training, zfile, tmp_path, "--stack", *options)
    ensemble, volumes = open_ensemble(tmp_path / name), find_volumes(tmp_path / name)
    expected = np.stack([volume for volume, _ in plain.values()])
    np.testing.assert_array_equal(np.concatenate([maps for _, maps in ensemble.batches("test")]), expected)
    np.testing.assert_array_equal(
        np.concatenate([s for _, s in volumes.slabs("test", 7 * 4 * 24**2 * 5)], 1), expected
    )
    assert ensemble.grid.pixel_size_A == pytest.approx(14)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "z_values.txt"])


def test_prefix_names_the_files(training, zfile, plain, tmp_path):
    found = eval_vol(training, zfile, tmp_path, "--prefix", "state_")
    same({name.replace("state_", "vol_"): volume for name, volume in found.items()}, plain)


def test_more_than_a_thousand_volumes_have_numbers_of_four_digits(training, tmp_path):
    trained = load_model(training / "weights.pkl", training / "config.pkl")
    z = np.zeros((1002, 2), np.float32)
    volumes_of_models.write_volumes(trained, z, tmp_path, box=8, part=slice(998, 1002))
    names = ["vol_1000.mrc", "vol_1001.mrc", "vol_998.mrc", "vol_999.mrc"]
    assert sorted(path.name for path in tmp_path.glob("*.mrc")) == names


@pytest.fixture
def passes(monkeypatch):
    """Collects the number of latents of every pass over the points."""
    counts, values = [], decoding.FixedPoints.values

    def counted(self, z):
        counts.append(len(z))
        return values(self, z)

    monkeypatch.setattr(decoding.FixedPoints, "values", counted)
    return counts


def test_batch_size_says_how_many_are_decoded_together(training, zfile, plain, tmp_path, passes):
    same(eval_vol(training, zfile, tmp_path, "-b", 3), plain)
    assert passes == [3, 3, 1]
    with pytest.raises(InputError, match="--batch-size"):
        eval_vol(training, zfile, tmp_path, "-b", 0)


def test_memory_bounds_how_many_are_decoded_together(training, zfile, plain, tmp_path, passes, monkeypatch):
    n = decoding.half_ball(24).n
    monkeypatch.setattr(decoding, "VALUES_BYTES", 2 * 8 * n)
    monkeypatch.setattr(decoding, "KEPT_BYTES", 0)
    same(eval_vol(training, zfile, tmp_path), plain)
    assert passes == [2, 2, 2, 1]
    monkeypatch.undo()
    assert decoding.latents_at_once(n, 32) == 32
    large = decoding.latents_at_once(int(2 / 3 * np.pi * 256**3), 32)
    assert 1 <= large < 8 and decoding.latents_at_once(10**12, 32) == 1


def test_lowpass_leaves_out_what_it_would_remove(training, zfile, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(
        decoding.FixedPoints,
        "values",
        lambda self, z: rows.append(len(self._k)) or torch.zeros(len(z), len(self._k), dtype=torch.complex64),
    )
    eval_vol(training, zfile, tmp_path, "--lowpass", 56)  # half of Nyquist
    assert rows[0] == (decoding.half_ball(24).radius <= 6).sum()


@pytest.mark.parametrize("order", [("1/3", "2/3", "3/3"), ("3/3", "1/3", "2/3")])
@pytest.mark.parametrize("stack", [False, True])
def test_parts_are_the_whole(training, zfile, plain, tmp_path, order, stack):
    for part in order:
        assert not (tmp_path / "vol.mrcs").exists()
        found = eval_vol(training, zfile, tmp_path, "--part", part, *["--stack"] * stack)
    if stack:
        maps = np.concatenate([maps for _, maps in open_ensemble(tmp_path / "vol.mrcs").batches("test")])
        found = {f"vol_{number:03d}.mrc": (volume, 14.0) for number, volume in enumerate(maps)}
    same(found, plain)


def test_a_part_writes_its_numbers_alone(training, zfile, tmp_path):
    found = eval_vol(training, zfile, tmp_path, "--part", "2/3")
    assert list(found) == ["vol_002.mrc", "vol_003.mrc"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/2/3", "-1/2", "1/0"])
def test_wrong_parts_are_one_error(text, capsys):
    with pytest.raises(SystemExit):
        script("eval_vol").build_parser().parse_args(["-o", "x", f"--part={text}"])
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"argument --part: {text}: expected I/N with I from 1 to N, such as 2/8")
    )


def test_parts_of_another_model_do_not_mix(training, zfile, tmp_path):
    eval_vol(training, zfile, tmp_path, "--stack", "--part", "1/2", "--epoch", 0)
    eval_vol(training, zfile, tmp_path, "--stack", "--part", "2/2")
    assert not (tmp_path / "vol.mrcs").exists()


def start_part(training, zfile, folder, part):
    """eval_vol in a process of its own."""
    command = [sys.executable, SCRIPTS / "eval_vol.py", "--workdir", training, "--zfile", zfile]
    command += ["-o", folder, "--stack", "--part", part]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)


def test_two_processes_write_one_stack(training, zfile, plain, tmp_path):
    both = [start_part(training, zfile, tmp_path, part) for part in ("1/2", "2/2")]
    for process in both:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors
    maps = np.concatenate([maps for _, maps in open_ensemble(tmp_path / "vol.mrcs").batches("test")])
    np.testing.assert_array_equal(maps, np.stack([volume for volume, _ in plain.values()]))


def test_a_killed_part_is_repeated(training, tmp_path):
    many = tmp_path / "many.txt"
    np.savetxt(many, np.tile(Z, (300, 1)))
    process = start_part(training, many, tmp_path, "1/2")
    deadline = time.monotonic() + 120
    while not (tmp_path / ".vol.mrcs.unfinished").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (tmp_path / ".vol.mrcs.unfinished").is_file() and not (tmp_path / "vol.mrcs").exists()
    for part in ("2/2", "1/2"):
        assert not (tmp_path / "vol.mrcs").exists()
        eval_vol(training, many, tmp_path, "--stack", "--part", part)
    first, *others = (maps for _, maps in open_ensemble(tmp_path / "vol.mrcs").batches("test"))
    assert (first[:7].std((1, 2, 3)) > 0).all()
    repeats = np.concatenate([first, *others]).reshape(300, 7, 24, 24, 24)
    assert (repeats == repeats[0]).all()


def test_diverged_weights_write_no_volume(training, zfile, tmp_path):
    content = torch.load(training / "weights.pkl", weights_only=True)
    for parameter in content["model_state_dict"].values():
        parameter.fill_(float("nan"))
    torch.save(content, tmp_path / "weights.pkl")
    model = ("-w", tmp_path / "weights.pkl", "-c", training / "config.pkl")
    for options in ([], ["--stack"]):
        with pytest.raises(InputError, match="volume 0 is not finite"):
            run("eval_vol", *model, "--zfile", zfile, "-o", tmp_path / "out", *options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["z_values.txt"]


# eval_images


def eval_images(training, particles, folder, *options):
    model = ("-w", training / "weights.pkl", "-c", training / "config.pkl")
    run("eval_images", particles, *model, "--out-z", folder / "z.pkl", *options)
    return load_latents(folder / "z.pkl") if (folder / "z.pkl").exists() else None


@pytest.fixture(scope="module")
def latents(training, tiny_store, tmp_path_factory):
    return eval_images(training, tiny_store, tmp_path_factory.mktemp("latents"))


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
def test_option_changes_the_latents(option, training, tiny, latents, lists, tmp_path):
    options = [lists / x if str(x).endswith(".pkl") else x for x in CHANGED_LATENTS[option]]
    mu, _ = eval_images(training, tiny / "particles.star", tmp_path, *options)
    assert mu.shape != latents[0].shape or np.abs(mu - latents[0]).max() > 1e-4


def test_order_of_images_decides_which_are_the_first(training, tiny_store, tmp_path):
    first = ("--use-first-ntilts", 5, "--sort-ptcl-imgs")
    orders = [("unsorted",), ("dose_ascending",), ("random",), ("random", "--seed", 1)]
    found = [eval_images(training, tiny_store, tmp_path, *first, *order)[0] for order in orders]
    for number, mu in enumerate(found):
        assert all(np.abs(mu - other).max() > 1e-5 for other in found[:number])


def test_stacks_are_found_in_the_data_folder(training, tiny, latents, tmp_path):
    star = tmp_path / "elsewhere.star"
    star.write_text((tiny / "particles.star").read_text())
    with pytest.raises(InputError):
        eval_images(training, star, tmp_path)
    found = eval_images(training, star, tmp_path, "--datadir", tiny, "--source-software", "warp")
    np.testing.assert_allclose(found[0], latents[0], atol=1e-6)
    with pytest.raises(InputError):
        eval_images(training, star, tmp_path, "--datadir", tiny, "--source-software", "cistem")


@pytest.mark.parametrize(
    ("options", "lines"), [([], 0), (["--log-interval", 8], 3), (["-v"], 4), (["-v", "-b", 12], 2)]
)
def test_log_lines(training, tiny_store, tmp_path, caplog, options, lines):
    caplog.set_level(logging.INFO)
    eval_images(training, tiny_store, tmp_path, *(["-b", 6] if "-b" not in options else []), *options)
    assert sum("latents of" in line and "of 24 particles" in line for line in caplog.messages) == lines


READING = {
    "--lazy": (["--lazy"], {"resident": False}),
    "--num-workers": (["--lazy", "--num-workers", 3], {"workers": 3}),
    "--prefetch-factor": (["--lazy", "--prefetch-factor", 5], {"ahead": 5}),
}


@pytest.mark.parametrize("option", READING)
def test_reading_is_as_asked_and_changes_no_latent(
    option, training, tiny_store, latents, tmp_path, monkeypatch
):
    asked, images = {}, evaluation.ParticleImages
    monkeypatch.setattr(
        evaluation, "ParticleImages", lambda *args, **how: asked.update(how) or images(*args, **how)
    )
    options, expected = READING[option]
    np.testing.assert_array_equal(eval_images(training, tiny_store, tmp_path, *options), latents)
    assert asked.items() >= expected.items()


@pytest.mark.parametrize("order", [("1/3", "2/3", "3/3"), ("3/3", "1/3", "2/3")])
def test_parts_of_the_latents_are_the_whole(training, tiny_store, tmp_path, order):
    whole = eval_images(training, tiny_store, tmp_path, "-b", 5)
    (tmp_path / "z.pkl").unlink()
    for part in order:
        assert not (tmp_path / "z.pkl").exists()
        found = eval_images(training, tiny_store, tmp_path, "-b", 5, "--part", part)
    np.testing.assert_array_equal(found, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["z.pkl"]


def test_more_parts_than_batches(training, tiny_store, latents, tmp_path):
    for part in range(1, 5):
        found = eval_images(training, tiny_store, tmp_path, "--part", f"{part}/4")
    np.testing.assert_array_equal(found, latents)


def test_a_part_of_the_latents_of_a_star_file(training, tiny, tmp_path):
    whole = eval_images(training, tiny / "particles.star", tmp_path, "-b", 12)
    (tmp_path / "z.pkl").unlink()
    for part in ("1/2", "2/2"):
        found = eval_images(training, tiny / "particles.star", tmp_path, "-b", 12, "--part", part)
    np.testing.assert_array_equal(found, whole)


# both


@pytest.mark.parametrize("command", ["eval_vol", "eval_images"])
def test_multigpu_starts_a_copy_on_every_gpu(command, monkeypatch):
    started = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("tomohet.device.device_of", lambda name: torch.device("cuda"))
    monkeypatch.setattr(processes, "start_copies", lambda n: started.append(n) or 0)
    arguments = {
        "eval_vol": "-w w -c c -o o --multigpu",
        "eval_images": "p -w w -c c --out-z z --multigpu",
    }[command]
    module = script(command)
    with pytest.raises(SystemExit) as ended:
        module.run(module.build_parser().parse_args(arguments.split()))
    assert started == [3] and ended.value.code == 0


def test_multigpu_without_gpus_changes_nothing(training, zfile, plain, tmp_path, tiny_store, latents):
    same(eval_vol(training, zfile, tmp_path, "--multigpu", "--device", "cpu"), plain)
    found = eval_images(training, tiny_store, tmp_path, "--multigpu", "--device", "cpu")
    np.testing.assert_array_equal(found, latents)


def test_copies_share_a_part(training, zfile, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for part in ("1/2", "2/2"):
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            found = eval_vol(training, zfile, tmp_path, "--multigpu", "--part", part)
    same(found, plain)
    with monkeypatch.context() as alone:
        alone.setenv("RANK", "1")
        assert list(eval_vol(training, zfile, tmp_path / "b", "--part", "2/2")) == [
            "vol_005.mrc",
            "vol_006.mrc",
        ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["eval_vol", "eval_images"])
def test_a_missing_device_is_told(command, training, zfile, tiny_store, tmp_path):
    with pytest.raises(InputError, match="--device cuda"):
        if command == "eval_vol":
            eval_vol(training, zfile, tmp_path, "--device", "cuda")
        else:
            eval_images(training, tiny_store, tmp_path, "--device", "cuda")


TESTED = {
    "eval_vol": {
        *CHANGED_VOLUMES, "--workdir", "--weights", "--config", "--outdir", "--zfile", "--prefix", "--stack",
        "--batch-size", "--no-amp", "--part", "--multigpu", "--device",
    },
    "eval_images": {
        *CHANGED_LATENTS, *READING, "--weights", "--config", "--out-z", "--batch-size", "--log-interval",
        "--verbose", "--sort-ptcl-imgs", "--seed", "--datadir", "--source-software", "--part", "--multigpu",
        "--device",
    },
}  # fmt: skip
WITHOUT_EFFECT = {"eval_images": {"--no-amp", "--pin-memory"}}


@pytest.mark.parametrize("command", TESTED)
def test_every_option_is_tested_here(command):
    """Options that are accepted for tomoDRGN's command lines alone say so."""
    actions = [
        action
        for action in script(command).build_parser()._actions
        if action.option_strings and not isinstance(action, argparse._HelpAction)
    ]
    idle = WITHOUT_EFFECT.get(command, set())
    assert {action.option_strings[-1] for action in actions} - idle == TESTED[command]
    assert all("accepted" in a.help for a in actions if a.option_strings[-1] in idle)
