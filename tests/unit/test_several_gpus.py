"""`--multigpu`: one process per GPU runs the same command; a failure of one ends all, with one line."""

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext

import pytest
import torch

from tomohet import processes
from tomohet.device import device_of
from tomohet.errors import DoneByCopies, InputError, Interrupted


def commands(monkeypatch, *sources):
    """Let process number i run the Python source i instead of the command."""
    source = "import os, sys, time, signal\nrank = int(os.environ['RANK'])\n"
    source += "".join(f"if rank == {rank}:\n    {text}\n" for rank, text in enumerate(sources))
    monkeypatch.setattr(processes, "own_command", lambda: [sys.executable, "-c", source])
    return len(sources)


def test_copies_know_their_number_and_find_this_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = "import tomohet.device; open(f'{rank}', 'w').write(' '.join(os.environ[n] for n in ('RANK', "
    text += "'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE')))"
    assert processes.start_copies(commands(monkeypatch, text, text)) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["0 0 2 2", "1 1 2 2"]


@pytest.mark.parametrize(
    ("ending", "status", "how"),
    [("sys.exit(3)", 3, "with status 3"), ("os.kill(os.getpid(), 9)", 137, "by SIGKILL (often: the machine")],
)
def test_one_that_dies_ends_all_even_those_that_do_not_listen(monkeypatch, caplog, ending, status, how):
    monkeypatch.setattr(processes, "GRACE_S", 0.5)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    begun = time.monotonic()
    late = f"time.sleep(1); {ending}"
    assert processes.start_copies(commands(monkeypatch, "time.sleep(600)", late, deaf)) == status
    assert time.monotonic() - begun < 60
    (line,) = (record.getMessage() for record in caplog.records if record.name == processes.__name__)
    assert line.startswith(f"process 2 of 3 (GPU 1) ended {how}") and "\n" not in line


def test_a_request_to_stop_is_passed_on_and_each_saves(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (
        "signal.signal(signal.SIGTERM, lambda *_: (open(f'saved{rank}', 'w').close(), sys.exit(143)));"
        " open(f'ready{rank}', 'w').close(); time.sleep(600)"
    )
    number = commands(monkeypatch, text, text)

    def ask():
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=ask, daemon=True).start()
    assert processes.start_copies(number) == 143
    assert sorted(path.name for path in tmp_path.glob("saved*")) == ["saved0", "saved1"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_is_that_of_the_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tomohet train_vae", "store", "-o", "out", "--multigpu"])
    expected = ["-m", "tomohet.cli", "train_vae", "store", "-o", "out", "--multigpu"]
    assert processes.own_command() == [sys.executable, *expected]


def test_a_notebook_is_told_to_use_the_command_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    with pytest.raises(InputError, match=r"notebook.*tomohet COMMAND \.\.\. --multigpu"):
        processes.start_one_per_gpu(torch.device("cuda"))


def test_the_command_line_raises_the_status_of_its_copies(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(sys, "argv", ["tomohet eval_vol"])
    monkeypatch.setattr(processes, "start_copies", lambda n, node: 10 * n)
    with pytest.raises(DoneByCopies) as ended:
        processes.start_one_per_gpu(torch.device("cuda"))
    assert ended.value.status == 20


@pytest.mark.parametrize(
    ("error", "destroyed"), [(None, True), (ValueError("lost"), False), (Interrupted(15), True)]
)
def test_nccl_is_told_its_device_and_left_alone_after_a_failure(monkeypatch, error, destroyed):
    """Ending NCCL's connections needs all processes, and after a failure of one the others are elsewhere."""
    calls = []
    for name in ("init_process_group", "destroy_process_group", "get_rank"):
        call = lambda *a, _name=name, **k: calls.append((_name, a, k)) or 1  # noqa: E731
        monkeypatch.setattr(torch.distributed, name, call)
    monkeypatch.setattr(processes, "with_companions", lambda *_: nullcontext())
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("set_device", (device,), {})))
    monkeypatch.setenv("WORLD_SIZE", "2")
    device = torch.device("cuda", 1)
    try:
        with processes.joined(device) as found:
            assert (found.rank, found.size) == (1, 2)
            if error:
                raise error
    except (ValueError, Interrupted) as raised:
        assert raised is error
    assert calls[0] == ("set_device", (device,), {})
    assert calls[1][:2] == ("init_process_group", ("nccl",))
    assert calls[1][2] == {"timeout": processes.PATIENCE, "device_id": device}
    assert ("destroy_process_group" in [name for name, *_ in calls]) is destroyed


@pytest.mark.parametrize(("visible", "expected"), [(4, 3), (1, 0)])
def test_a_process_takes_its_own_gpu_of_those_that_it_sees(monkeypatch, visible, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of("auto") == torch.device("cuda", expected)
