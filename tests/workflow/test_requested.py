"""What a dry run says that jobs ask for: from the data, at most what is allowed; the user wins."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from snakemake_here import run_snakemake
from stand_in import ROOT, blocks

from tomohet.files.mrc import write_stack

ROWS, TILTS = 1_000_000, 40
HEAD = "data_particles\n\nloop_\n_rlnImageName\n_rlnGroupName\n_rlnImagePixelSize\n"


def asked(folder: Path, config: dict, *arguments: str) -> dict[str, tuple[int, int]]:
    """Memory (MB) and time (min) of each rule in a dry run."""
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    words = ["-s", ROOT / "Snakefile", "-n", "--cores", "1", *arguments, "--configfile", "c.yaml"]
    done = run_snakemake(*words, cwd=folder)
    assert done.returncode == 0, done.stdout
    found = {}
    for block in blocks(done.stdout):
        rule, line = re.match(r"(?:local)?rule (\w+):", block), re.search(r"resources: (.*)", block)
        numbers = dict(re.findall(r"(\w+)=(\d+)", line[1])) if line else {}
        if rule and "mem_mb" in numbers:  # `all` computes nothing
            found[rule[1]] = (int(numbers["mem_mb"]), int(numbers["runtime"]))
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A particle file of a million rows, and its first stack."""
    folder = tmp_path_factory.mktemp("large")
    write_stack(folder / "all.mrcs", np.zeros((1, 64, 64), np.float32), 5.0)
    rows = (f"{row + 1}@all.mrcs p{row // TILTS:07d} 5.0\n" for row in range(ROWS))
    (folder / "large.star").write_text(HEAD + "".join(rows))
    return folder


def config(**changes) -> dict:
    return {"dataset": "d", "particles": "large.star", "gpus": 1, "rounds": {"all": {}}} | changes


def test_a_dry_run_asks_for_what_the_data_need(large):
    found = asked(large, config())
    assert found["validate"][0] == pytest.approx(5000, abs=1000)
    assert found["train_vae"][0] > 30_000 and found["train_vae"][1] >= 720
    assert found["write_config"] == (100, 5)


def test_the_configuration_bounds_and_the_user_wins(large):
    found = asked(large, config(most_mem_mb=8000, most_runtime=100))
    assert found["train_vae"] == (8000, 100) and max(one[0] for one in found.values()) == 8000
    found = asked(large, config(most_mem_mb=8000), "--set-resources", "train_vae:mem_mb=12345")
    assert found["train_vae"][0] == 12_345 and found["states"][0] <= 8000
