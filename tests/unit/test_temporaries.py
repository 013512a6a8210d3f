"""Temporary files of killed runs are removed by the next run of the same output; others stay."""

import os
import subprocess
import sys
import time

import pytest

from tomohet.files import temporaries
from tomohet.files.atomic import atomic_path, write_text

WRITER = """
import sys, time
from tomohet.files.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that has begun to write `a.b.npy` and does not end by itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "a.b.npy"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()


def temporary_names(folder):
    return sorted(path.name for path in folder.iterdir() if ".tmp" in path.name)


def test_the_file_of_a_killed_run_is_removed(tmp_path, writer):
    assert len(temporary_names(tmp_path)) == 1
    writer.kill()
    # Its last thread has ended, and with it the lock; it stays a zombie, as its parent has not asked for it.
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)
    write_text(tmp_path / "b.npy", "another output")
    write_text(tmp_path / "a.npy", "another output")
    assert len(temporary_names(tmp_path)) == 1
    write_text(tmp_path / "a.b.npy", "whole")
    assert temporary_names(tmp_path) == [] and (tmp_path / "a.b.npy").read_text() == "whole"


def test_the_file_of_a_living_run_stays(tmp_path, writer):
    write_text(tmp_path / "a.b.npy", "whole")
    assert len(temporary_names(tmp_path)) == 1


def test_a_held_file_stays_though_its_process_is_not_seen(tmp_path, writer, monkeypatch):
    """As of a process in another container of this machine."""
    monkeypatch.setattr(temporaries, "_runs", lambda pid: False)
    write_text(tmp_path / "a.b.npy", "whole")
    assert len(temporary_names(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "hours", "stays"),
    [
        (".a.123-00000000-abcdefgh.tmp.npy", 1, True),  # of another machine
        (".a.123-00000000-abcdefgh.tmp.npy", 25, False),
        (".a.abcdefgh.tmp.npy", 1, True),  # as earlier versions named them
        (".a.abcdefgh.tmp.npy", 25, False),
        (".a.b.abcdefgh.tmp.npy", 25, True),  # of a.b.npy
        (".a.abcdefgh.tmp.mrc", 25, True),  # of a.mrc
        ("a.abcdefgh.tmp.npy", 25, True),  # no temporary file
    ],
)
def test_files_of_unknown_runs_go_after_a_day(tmp_path, name, hours, stays):
    file = tmp_path / name
    file.write_text("half")
    then = time.time() - 3600 * hours
    os.utime(file, (then, then))
    write_text(tmp_path / "a.npy", "whole")
    assert file.exists() == stays


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="full"), atomic_path(tmp_path / "a.npy"):
        raise ValueError("full")
    assert list(tmp_path.iterdir()) == []


def test_many_files_in_a_folder_are_listed_seldom(tmp_path, monkeypatch):
    listings = []
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda folder: time.sleep(0.2) or listings.append(1) or scandir(folder)
    )
    for i in range(50):
        write_text(tmp_path / f"{i}.txt", "")
    assert len(listings) == 1
