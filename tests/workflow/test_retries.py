"""A mistake in the input is not tried again; any other failure is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOGGED = ROOT / "workflow" / "rules" / "jobs.sh"
MISTAKE = "echo 'error: a.star: row 3: wrong' >&2; exit 1"
NO_MEMORY = "echo 'Killed' >&2; exit 137"
NO_DISK = "echo 'error: the disk is full' >&2; exit 74"
NO_LIBRARY = "echo 'ImportError: torch' >&2; exit 1"


def attempts(folder: Path, commands: list[str], numbers: list[int]) -> list[subprocess.CompletedProcess]:
    """Run commands as attempts of one job, as the rules do."""
    log = folder / "a job.log"
    line = 'set -euo pipefail; . "$0"; logged "$1" "$2" bash -c "$3"'
    return [
        subprocess.run(
            ["bash", "-c", line, LOGGED, log, str(number), command],
            capture_output=True,
            text=True,
        )
        for command, number in zip(commands, numbers, strict=True)
    ]


def test_a_mistake_ends_the_second_attempt_with_its_line(tmp_path):
    first, second = attempts(tmp_path, [MISTAKE, "touch ran"], [1, 2])
    assert (first.returncode, second.returncode) == (1, 1)
    assert first.stdout == "error: a.star: row 3: wrong\n"
    assert second.stdout.splitlines()[0].startswith("not tried again")
    assert second.stdout.splitlines()[1] == "error: a.star: row 3: wrong"
    assert (tmp_path / "a job.log").read_text() == second.stdout


def test_the_first_attempt_of_the_next_run_forgets_the_mistake(tmp_path):
    done = attempts(tmp_path, [MISTAKE, "echo fine", NO_DISK, "echo again"], [1, 1, 1, 2])
    assert [one.returncode for one in done] == [1, 0, 74, 0]
    assert (tmp_path / "a job.log").read_text() == "again\n"


@pytest.mark.parametrize("failure", [NO_MEMORY, NO_DISK, NO_LIBRARY])
def test_other_failures_are_tried_again(tmp_path, failure):
    first, second = attempts(tmp_path, [failure, "echo fine"], [1, 2])
    assert first.returncode != 0 and second.returncode == 0
    assert list(tmp_path.glob("*.mistake")) == []


def test_a_job_waits_until_another_process_has_left_its_folder(tmp_path):
    busy = "echo 'error: out: another training or command is writing there; wait' >&2; exit 73"
    command = f"[ -e left ] && echo fine && exit 0; touch left; {busy}"
    for number in (1, 2):
        (tmp_path / "left").unlink(missing_ok=True)
        (done,) = attempts(tmp_path, [f"cd '{tmp_path}'; {command}"], [number])
        assert done.returncode == 0 and done.stdout.endswith("wait\nfine\n")
        assert (tmp_path / "a job.log").read_text() == "fine\n"
    assert list(tmp_path.glob("*.mistake")) == []


def test_a_new_job_has_a_log_of_its_own(tmp_path):
    """A job that a killed Snakemake has left writes on; its lines do not come into the log of the next."""
    log = tmp_path / "a job.log"
    with open(log, "w") as old:
        (done,) = attempts(tmp_path, ["echo fine"], [1])
        print("an old job", file=old)
    assert done.returncode == 0 and log.read_text() == "fine\n"


def test_snakemake_tries_a_mistake_once(tmp_path):
    (tmp_path / "bad.star").write_text("data_\n\nloop_\n_rlnImageName\n1@a.mrcs\n")
    config = {"dataset": "d", "particles": "bad.star", "rounds": {"all": {}}, "latents": "linear"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1"]
    done = subprocess.run(
        [*command, "--configfile", "c.yaml", "--retries", "2", "results/d/validation/validation.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert len(re.findall(r"^error: .*bad\.star", output, re.MULTILINE)) >= 3, output
    assert output.count("not tried again") == 2
    assert output.count("attempt=2") == 1 and "mem_mb=8000" in output
    log = (tmp_path / "logs" / "d" / "validate.log").read_text().splitlines()
    assert log[0].startswith("not tried again") and log[1].startswith("error: ")
