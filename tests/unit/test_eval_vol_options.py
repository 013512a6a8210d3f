"""Every option of eval_vol does something."""

import signal
import time

import numpy as np
import pytest
import torch
from analysis_fakes import long_options, run
from several_processes import Copy

from tomohet import processes
from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.volume_space import find_volumes
from tomohet.cli import options_of
from tomohet.errors import DoneByCopies, InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import read_volume
from tomohet.model import decoder as decoding
from tomohet.model import volumes as volumes_of_models
from tomohet.model.load import load_model

Z = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def zfile(tmp_path_factory):
    path = tmp_path_factory.mktemp("z") / "z.pkl"
    write_pickle(path, Z)
    return path


def eval_vol(tiny_training, zfile, folder, *options):
    run("eval_vol", "--workdir", tiny_training, "--zfile", zfile, "-o", folder, *options)
    return {path.name: read_volume(path) for path in sorted(folder.glob("*.mrc"))}


@pytest.fixture(scope="module")
def plain(tiny_training, zfile, tmp_path_factory):
    return eval_vol(tiny_training, zfile, tmp_path_factory.mktemp("plain"))


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
def test_option_changes_the_volumes(option, tiny_training, zfile, plain, tmp_path, monkeypatch):
    # On a processor that has no bfloat16 too: slow there, but the same.
    monkeypatch.setattr("tomohet.commands.eval_vol.half_precision", lambda device: torch.bfloat16)
    found = eval_vol(tiny_training, zfile, tmp_path, *CHANGED_VOLUMES[option])
    for name, (volume, _) in plain.items():
        changed = found[name][0]
        assert changed.shape != volume.shape or np.abs(changed - volume).max() > 1e-4 * np.abs(volume).max()


def test_half_precision_is_close(tiny_training, zfile, plain, tmp_path, monkeypatch):
    monkeypatch.setattr("tomohet.commands.eval_vol.half_precision", lambda device: torch.float16)
    for name, (volume, _) in eval_vol(tiny_training, zfile, tmp_path, "--amp").items():
        assert np.abs(volume - plain[name][0]).max() < 5e-3 * np.abs(volume).max()


def test_no_amp_is_the_default_and_excludes_amp(tiny_training, zfile, plain, tmp_path, capsys):
    same(eval_vol(tiny_training, zfile, tmp_path, "--no-amp"), plain)
    with pytest.raises(SystemExit):
        eval_vol(tiny_training, zfile, tmp_path, "--no-amp", "--amp")
    assert "not allowed with" in capsys.readouterr().err


def test_weights_and_config_are_those_of_the_workdir(tiny_training, zfile, plain, tmp_path):
    model = ("-w", tiny_training / "weights.1.pkl", "-c", tiny_training / "config.pkl")
    run("eval_vol", *model, "--zfile", zfile, "-o", tmp_path)
    same({path.name: read_volume(path) for path in tmp_path.glob("*.mrc")}, plain)
    with pytest.raises(InputError, match="--workdir"):
        run("eval_vol", "-w", tiny_training / "weights.pkl", "--zfile", zfile, "-o", tmp_path)


def test_latents_as_text_are_those_of_a_pickle(tiny_training, plain, tmp_path):
    np.savetxt(tmp_path / "z.txt", Z)
    same(eval_vol(tiny_training, tmp_path / "z.txt", tmp_path), plain)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "z_values.txt", dtype=np.float32), Z)


@pytest.mark.parametrize(("options", "name"), [([], "vol.mrcs"), (["--prefix", "state_"], "state.mrcs")])
def test_a_stack_holds_the_single_files(tiny_training, zfile, plain, tmp_path, options, name):
    assert not eval_vol(tiny_training, zfile, tmp_path, "--stack", *options)
    ensemble, volumes = open_ensemble(tmp_path / name), find_volumes(tmp_path / name)
    expected = np.stack([volume for volume, _ in plain.values()])
    np.testing.assert_array_equal(np.concatenate([maps for _, maps in ensemble.batches("test")]), expected)
    np.testing.assert_array_equal(
        np.concatenate([s for _, s in volumes.slabs("test", 7 * 4 * 24**2 * 5)], 1), expected
    )
    assert ensemble.grid.pixel_size_A == pytest.approx(14)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "volumes.json", "z_values.txt"])


def test_prefix_names_the_files(tiny_training, zfile, plain, tmp_path):
    found = eval_vol(tiny_training, zfile, tmp_path, "--prefix", "state_")
    same({name.replace("state_", "vol_"): volume for name, volume in found.items()}, plain)


def test_more_than_a_thousand_volumes_have_numbers_of_four_digits(tiny_training, tmp_path):
    trained = load_model(tiny_training / "weights.pkl", tiny_training / "config.pkl")
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


def test_batch_size_says_how_many_are_decoded_together(tiny_training, zfile, plain, tmp_path, passes):
    same(eval_vol(tiny_training, zfile, tmp_path, "-b", 3), plain)
    assert passes == [3, 3, 1]
    with pytest.raises(InputError, match="--batch-size"):
        eval_vol(tiny_training, zfile, tmp_path, "-b", 0)


def test_memory_bounds_how_many_are_decoded_together(
    tiny_training, zfile, plain, tmp_path, passes, monkeypatch
):
    n = decoding.half_ball(24).n
    monkeypatch.setattr(decoding, "VALUES_BYTES", 2 * 8 * n)
    monkeypatch.setattr(decoding, "KEPT_BYTES", 0)
    same(eval_vol(tiny_training, zfile, tmp_path), plain)
    assert passes == [2, 2, 2, 1]
    monkeypatch.undo()
    assert decoding.latents_at_once(n, 32) == 32
    large = decoding.latents_at_once(int(2 / 3 * np.pi * 256**3), 32)
    assert 1 <= large < 8 and decoding.latents_at_once(10**12, 32) == 1


def test_lowpass_leaves_out_what_it_would_remove(tiny_training, zfile, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(
        decoding.FixedPoints,
        "values",
        lambda self, z: rows.append(len(self._k)) or torch.zeros(len(z), len(self._k), dtype=torch.complex64),
    )
    eval_vol(tiny_training, zfile, tmp_path, "--lowpass", 56)  # half of Nyquist
    assert rows[0] == (decoding.half_ball(24).radius <= 6).sum()


@pytest.mark.parametrize("order", [("1/3", "2/3", "3/3"), ("3/3", "1/3", "2/3")])
@pytest.mark.parametrize("stack", [False, True])
def test_parts_are_the_whole(tiny_training, zfile, plain, tmp_path, order, stack):
    for part in order:
        assert not (tmp_path / "vol.mrcs").exists()
        found = eval_vol(tiny_training, zfile, tmp_path, "--part", part, *["--stack"] * stack)
    if stack:
        maps = np.concatenate([maps for _, maps in open_ensemble(tmp_path / "vol.mrcs").batches("test")])
        found = {f"vol_{number:03d}.mrc": (volume, 14.0) for number, volume in enumerate(maps)}
    same(found, plain)


def test_a_part_writes_its_numbers_alone(tiny_training, zfile, tmp_path):
    found = eval_vol(tiny_training, zfile, tmp_path, "--part", "2/3")
    assert list(found) == ["vol_002.mrc", "vol_003.mrc"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/2/3", "-1/2", "1/0"])
def test_wrong_parts_are_one_error(text):
    with pytest.raises(InputError, match=f"--part {text}: expected I/N with I from 1 to N, such as 2/8"):
        options_of("eval_vol", ["-o", "x", f"--part={text}"])


def test_parts_of_another_model_do_not_mix(tiny_training, zfile, tmp_path):
    eval_vol(tiny_training, zfile, tmp_path, "--stack", "--part", "1/2", "--epoch", 0)
    eval_vol(tiny_training, zfile, tmp_path, "--stack", "--part", "2/2")
    assert not (tmp_path / "vol.mrcs").exists()


def start_part(tiny_training, zfile, folder, part):
    """eval_vol in a process of its own."""
    words = [
        "eval_vol",
        "--workdir",
        tiny_training,
        "--zfile",
        zfile,
        "-o",
        folder,
        "--stack",
        "--part",
        part,
    ]
    return Copy(words, {})


def test_two_processes_write_one_stack(tiny_training, zfile, plain, tmp_path):
    both = [start_part(tiny_training, zfile, tmp_path, part) for part in ("1/2", "2/2")]
    for process in both:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors
    maps = np.concatenate([maps for _, maps in open_ensemble(tmp_path / "vol.mrcs").batches("test")])
    np.testing.assert_array_equal(maps, np.stack([volume for volume, _ in plain.values()]))


def test_a_killed_part_is_repeated(tiny_training, tmp_path):
    many = tmp_path / "many.txt"
    np.savetxt(many, np.tile(Z, (300, 1)))
    process = start_part(tiny_training, many, tmp_path, "1/2")
    deadline = time.monotonic() + 120
    while not (tmp_path / ".vol.mrcs.unfinished").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / ".vol.mrcs.unfinished").is_file() and not (tmp_path / "vol.mrcs").exists()
    for part in ("2/2", "1/2"):
        assert not (tmp_path / "vol.mrcs").exists()
        eval_vol(tiny_training, many, tmp_path, "--stack", "--part", part)
    first, *others = (maps for _, maps in open_ensemble(tmp_path / "vol.mrcs").batches("test"))
    assert (first[:7].std((1, 2, 3)) > 0).all()
    repeats = np.concatenate([first, *others]).reshape(300, 7, 24, 24, 24)
    assert (repeats == repeats[0]).all()


def test_diverged_weights_write_no_volume(tiny_training, zfile, tmp_path):
    content = torch.load(tiny_training / "weights.pkl", weights_only=True)
    for parameter in content["model_state_dict"].values():
        parameter.fill_(float("nan"))
    torch.save(content, tmp_path / "weights.pkl")
    model = ("-w", tmp_path / "weights.pkl", "-c", tiny_training / "config.pkl")
    for options in ([], ["--stack"]):
        with pytest.raises(InputError, match="volume 0 is not finite"):
            run("eval_vol", *model, "--zfile", zfile, "-o", tmp_path / "out", *options)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"volumes.json", "z_values.txt"}


def test_multigpu_starts_a_copy_on_every_gpu(monkeypatch):
    started = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("tomohet.commands.eval_vol.device_of", lambda name: torch.device("cuda"))
    monkeypatch.setattr(processes, "start_copies", lambda n, node: started.append(n) or 0)
    with pytest.raises(DoneByCopies) as ended:
        run("eval_vol", "-w", "weights.pkl", "-c", "config.pkl", "-o", "volumes", "--multigpu")
    assert started == [3] and ended.value.status == 0


def test_multigpu_without_gpus_changes_nothing(tiny_training, zfile, plain, tmp_path):
    same(eval_vol(tiny_training, zfile, tmp_path, "--multigpu", "--device", "cpu"), plain)


def test_copies_share_a_part(tiny_training, zfile, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    written = []
    for part in ("1/2", "2/2"):
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            folder = tmp_path / f"{part[0]}{rank}"
            written.append(eval_vol(tiny_training, zfile, folder, "--multigpu", "--part", part))
    assert [len(volumes) for volumes in written] == [1, 2, 2, 2]
    same({name: volume for volumes in written for name, volume in volumes.items()}, plain)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_told(tiny_training, zfile, tmp_path):
    with pytest.raises(InputError, match="--device cuda"):
        eval_vol(tiny_training, zfile, tmp_path, "--device", "cuda")


def test_every_option_is_tested_here():
    tested = {
        *CHANGED_VOLUMES, "--workdir", "--weights", "--config", "--outdir", "--zfile", "--prefix", "--stack",
        "--batch-size", "--no-amp", "--part", "--multigpu", "--device",
    }  # fmt: skip
    assert set(long_options("eval_vol")) == tested
