"""Jobs of one machine do not share a GPU: each takes cards that no other job has (workflow/rules/jobs.sh)."""

import os
import subprocess
from pathlib import Path

import pytest

JOBS = Path(__file__).resolve().parents[2] / "workflow" / "rules" / "jobs.sh"
SHOW = (
    'echo "$1=${CUDA_VISIBLE_DEVICES-unset}" >> seen; touch "$1.begun"; until [ -e go ]; do sleep 0.05; done'
)


def machine(folder: Path, cards: int) -> dict[str, str]:
    """An environment whose nvidia-smi lists so many cards."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + "".join(f"echo {card}\n" for card in range(cards)))
    program.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return environment | {"PATH": f"{program.parent}:{os.environ['PATH']}", "GPU_LOCKS": str(folder)}


def start(folder: Path, environment: dict[str, str], name: str, cards: int) -> subprocess.Popen:
    line = 'set -euo pipefail; . "$0"; with_cards "$1" bash -c "$2" job "$3"'
    return subprocess.Popen(
        ["bash", "-c", line, JOBS, str(cards), SHOW, name],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
    )


def begun(folder: Path, name: str, process: subprocess.Popen) -> None:
    while not (folder / f"{name}.begun").exists():
        assert process.poll() is None, process.stderr.read()


def seen(folder: Path) -> list[str]:
    return (folder / "seen").read_text().split()


def test_each_job_has_cards_of_its_own_and_one_too_many_waits(tmp_path):
    environment = machine(tmp_path, 3)
    jobs = []
    for name, cards in (("a", 1), ("b", 2)):
        jobs.append(start(tmp_path, environment, name, cards))
        begun(tmp_path, name, jobs[-1])
    late = start(tmp_path, environment, "c", 1)
    assert seen(tmp_path) == ["a=0", "b=1,2"]
    assert late.poll() is None and not (tmp_path / "c.begun").exists()
    (tmp_path / "go").touch()
    assert [job.wait(30) for job in [*jobs, late]] == [0, 0, 0]
    assert seen(tmp_path)[2] in ("c=0", "c=1", "c=2")  # of whichever job ended first


def test_cards_that_a_scheduler_gave_are_not_chosen_among(tmp_path):
    environment = machine(tmp_path, 4)
    (tmp_path / "go").touch()
    for name, cards, given in (("all", 2, "4,5"), ("fewer", 2, "7"), ("none", 0, "0,1")):
        done = start(tmp_path, environment | {"CUDA_VISIBLE_DEVICES": given}, name, cards)
        assert done.wait(30) == 0
    assert seen(tmp_path) == ["all=4,5", "fewer=7", "none=0,1"]
    assert list(tmp_path.glob("*.lock")) == []


@pytest.mark.parametrize("has_program", [True, False])
def test_a_machine_without_gpus_runs_the_command(tmp_path, has_program):
    environment = machine(tmp_path, 0)
    if not has_program:
        (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "go").touch()
    assert start(tmp_path, environment, "a", 1).wait(30) == 0
    assert seen(tmp_path) == ["a=unset"]


def test_the_status_of_the_command_is_kept(tmp_path):
    line = '. "$0"; with_cards 1 bash -c "exit 7"'
    environment = machine(tmp_path, 2)
    assert subprocess.run(["bash", "-c", line, JOBS], env=environment, check=False).returncode == 7
