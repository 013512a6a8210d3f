"""Processes on several nodes: they find each other by Slurm's variables, and none outlives another."""

import os
import signal
import subprocess
import sys
import time

import pytest
from several_processes import Copy, run, start
from test_several_gpus import commands
from test_training_processes import SMALL, assert_same_training

from tomohet import processes
from tomohet.errors import InputError, LostProcess
from tomohet.nodes import Node, this_node

STEP = {
    "SLURM_JOB_ID": "812", "SLURM_STEP_ID": "1", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "gpu[3-4]",
}  # fmt: skip
SCONTROL = """#!/bin/sh
case "$*" in
  "show hostnames gpu[3-4]") printf 'gpu3\\ngpu4\\n';;
  "--oneliner show node gpu3") echo "NodeName=gpu3 Arch=x86_64 NodeAddr=10.0.0.3 NodeHostName=gpu3 Port=0";;
  *) exit 1;;
esac
"""


@pytest.fixture
def step(monkeypatch, tmp_path):
    """The second of two nodes of a job step."""
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_node_knows_its_number_and_the_first_nodes_address(step):
    assert this_node() == Node(1, 2, "10.0.0.3", 12_000 + 101 * 812 % 20_000 + 1)


def test_a_step_on_one_node_is_alone(step):
    step.setenv("SLURM_STEP_NUM_NODES", "1")
    assert this_node() == Node()


def test_more_tasks_than_nodes_are_refused(step):
    step.setenv("SLURM_STEP_NUM_TASKS", "16")
    with pytest.raises(InputError, match="16 tasks on 2 nodes.*--ntasks-per-node=1"):
        this_node()


def test_a_node_without_slurms_address_says_so(step, tmp_path):
    (tmp_path / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(InputError, match="scontrol show hostnames"):
        this_node()


def test_copies_are_numbered_over_all_nodes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    source = f"import os; open(os.environ['RANK'], 'w').write(' '.join(os.environ[n] for n in {names}))"
    monkeypatch.setattr(processes, "own_command", lambda: [sys.executable, "-c", source])
    assert processes.start_copies(2, Node(1, 2, "10.0.0.3", 12_345)) == 0
    found = [(tmp_path / str(rank)).read_text() for rank in (2, 3)]
    assert found == ["2 0 4 2 10.0.0.3 12345", "3 1 4 2 10.0.0.3 12345"]


def test_one_task_per_node_starts_a_process_even_on_a_cpu(monkeypatch):
    import torch

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes, "this_node", lambda: Node(0, 2, "10.0.0.3", 12_345))
    monkeypatch.setattr(processes, "start_copies", lambda n, node: 10 * n + node.count)
    with pytest.raises(processes.DoneByCopies) as ended:
        processes.start_one_per_gpu(torch.device("cpu"))
    assert ended.value.status == 12


def test_the_one_that_died_is_named_and_not_those_that_follow(monkeypatch, caplog):
    number = commands(monkeypatch, f"sys.exit({LostProcess.STATUS})", "time.sleep(2); sys.exit(3)")
    assert processes.start_copies(number) == 3
    (line,) = (record.getMessage() for record in caplog.records if record.name == processes.__name__)
    assert line.startswith("process 2 of 2 (GPU 1) ended with status 3")
    monkeypatch.setattr(processes, "LAST_WORDS_S", 0.5)
    follow = commands(monkeypatch, f"sys.exit({LostProcess.STATUS})", "time.sleep(600)")
    caplog.clear()
    assert processes.start_copies(follow, Node(0, 2, "10.0.0.3", 12_345)) == LostProcess.STATUS
    assert not [record for record in caplog.records if record.name == processes.__name__]


@pytest.mark.parametrize("dies", [0, 1])
def test_a_killed_process_ends_the_others_with_one_line(tiny_store, tmp_path, dies):
    folder = tmp_path / "run"
    started = start(3, "train_vae", tiny_store, "-o", folder, *SMALL, "-n", 5000)
    deadline = time.monotonic() + 240
    while not (folder / "loss.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    started[dies].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    said = []
    for rank, process in enumerate(started):
        errors = process.communicate(timeout=60)[1]
        if rank != dies:
            assert process.returncode == LostProcess.STATUS, errors
            said += [line for line in errors.splitlines() if "has died" in line]
            assert "Traceback" not in errors
    assert time.monotonic() - killed < 30
    (line,) = said
    assert f"process {dies + 1} of 3 on " in line and "so the other 2 end too" in line


WAITS = """
import os, sys, time, torch
sys.argv[0] = "test"
from tomohet.cli.run import one_line_for_mistakes
from tomohet.processes import joined
with one_line_for_mistakes(), joined(torch.device("cpu")) as group:
    if group.rank == 1:
        time.sleep(1)
        os._exit(9)
    time.sleep(600)
"""


def test_a_process_that_waits_and_does_not_notice_is_ended(tmp_path):
    """As in NCCL, which may wait for a lost peer for ever."""
    port = str(processes._free_port())
    common = os.environ | {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    begun = time.monotonic()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS], env=common | {"RANK": str(rank)}, stderr=subprocess.PIPE
        )
        for rank in range(3)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    assert [process.returncode for process in started] == [LostProcess.STATUS, 9, LostProcess.STATUS], errors
    assert time.monotonic() - begun < 60
    assert ["has died" in text for text in errors] == [True, False, False]


def test_two_nodes_give_the_result_of_one_process(tiny_store, tmp_path, monkeypatch):
    """Each node runs the command as srun starts it: the first node's address, and one process per node."""
    one, two = tmp_path / "one", tmp_path / "two"
    run(1, "train_vae", tiny_store, "-o", one, *SMALL)
    port, started = processes._free_port(), []
    for number in range(2):
        node = Node(number, 2, "127.0.0.1", port)
        monkeypatch.setattr(processes, "this_node", lambda node=node: node)
        started.append(Copy(["train_vae", tiny_store, "-o", two, *SMALL, "--multigpu"], {}))
    for process in started:
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 0, said
    assert "2 processes on cpu" in (two / "run.log").read_text()
    assert_same_training(one, two)
