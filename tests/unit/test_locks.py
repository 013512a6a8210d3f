"""Two commands in one output folder: the second is refused in one line; a dead process holds no lock."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from tomohet.errors import FolderInUseError, InputError
from tomohet.files.locks import LOCK, writing
from tomohet.running.outputs import holding_outputs, take_output

HOLD = """import sys, time
from tomohet.files.locks import writing
with writing(sys.argv[1]):
    print(flush=True)
    time.sleep(99)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that writes into `tmp_path / "out"`."""
    command = [sys.executable, "-c", HOLD, tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["prepare", "states", "validate", "simulate", "siren", "choose_volumes"])
def test_a_second_writer_is_refused_by_every_command(other, tmp_path, run_script, name):
    needed = {
        "states": ("store", "--linear", "linear"), "siren": ("--volumes", "volumes"), "simulate": (),
    }.get(name, ("input",))  # fmt: skip
    done = run_script(name, *needed, "-o", tmp_path / "out", check=False)
    assert done.returncode == FolderInUseError.STATUS
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'out'}: another training or command")
    assert "Traceback" not in done.stderr


def test_the_lock_of_a_killed_process_is_none(other, tmp_path):
    other.kill()
    other.wait()
    assert (tmp_path / "out" / LOCK).exists()
    with writing(tmp_path / "out"):
        pass


def test_nothing_is_left_of_a_command_that_wrote_nothing(tmp_path):
    with pytest.raises(InputError), writing(tmp_path / "out"):
        raise InputError("wrong option")
    assert not (tmp_path / "out").exists()
    (tmp_path / "own").mkdir()
    with writing(tmp_path / "own"):
        pass
    assert not list((tmp_path / "own").iterdir())


def test_processes_of_one_job_share_a_folder_but_with_no_other(tmp_path):
    with writing(tmp_path, shared=True):
        with writing(tmp_path, shared=True):
            pass
        with pytest.raises(InputError, match="is writing there"), writing(tmp_path):
            pass
    with (
        writing(tmp_path),
        pytest.raises(InputError, match="is writing there"),
        writing(tmp_path, shared=True),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_command_takes_its_folder_once(tmp_path):
    with holding_outputs(argparse.Namespace(outdir=tmp_path / "out")):
        assert take_output(Path(tmp_path / "out")) == tmp_path / "out"
        with pytest.raises(InputError, match="is writing there"), writing(tmp_path / "out"):
            pass
    assert not (tmp_path / "out").exists()


def test_a_command_that_failed_holds_nothing_in_its_process(tmp_path):
    with pytest.raises(InputError), holding_outputs(argparse.Namespace(outdir=tmp_path / "first")):
        raise InputError("wrong")
    take_output(tmp_path / "second")
    assert not list(tmp_path.iterdir()), "the failed command's lock is gone, and none was taken after it"
